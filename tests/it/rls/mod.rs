//! The RLS matrix: which subject reads and writes which rows, for every table, view, column and function of the
//! catalog. The tests ask through SQL, as PostgREST does. An object that is in no table here must not exist.

mod decoys;
mod matrix;
mod rest;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use speedcoding::operate::seed::seed;
use tokio_postgres::Client;

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
    cluster::{first_column, sqlstate},
};

/// The subjects of the matrix.
const SUBJECTS: [&str; 8] = [
    "anon",
    "stranger",
    "owner",
    "moderator",
    "demoted",
    "banned",
    "verifier",
    "service",
];

/// The schemas, and the roles that may use them. No client may make objects in them.
#[rustfmt::skip]
const SCHEMAS: [(&str, &str); 5] = [
    ("auth",        "anon authenticated service_role"),
    ("extensions",  ""),
    ("private",     "service_role"),
    ("public",      "anon authenticated service_role"),
    ("speedcoding", "anon authenticated service_role"),
];

/// The relations that clients may read: the condition of public rows, the rights of each subject, and the columns. A
/// subject reads `all` rows, `pub`lic rows, public rows and its `own`, or nothing (`-`, refused). With `+` it may also
/// write.
#[rustfmt::skip]
const OPEN: [(&str, &str, &str, &str); 12] = [
    //                                                                  anon stranger owner moderator demoted banned verifier service
    ("public.bans", "false",                                           "-    -    -    -    -    -    -    all+",
     "user_id banned_at"),
    ("public.board_entries", "challenge_id in (select id from public.challenges where ranked and active)",
                                                                       "pub  pub  pub  pub  pub  pub  pub  all",
     "challenge_id tech_stack_key total_ms total_time end_time submission_id session_id user_id username tech_stack packages \
      video_url submitted_at"),
    ("public.challenges", "active",                                    "pub  pub  pub  pub  pub  pub  pub  all+",
     "id slug title description required_milestones ordered ranked max_duration active"),
    ("public.challenge_milestones", "challenge_id in (select id from public.challenges where active)",
                                                                       "pub  pub  pub  pub  pub  pub  pub  all+",
     "challenge_id number title description verification"),
    ("public.live_sessions", "published",                              "pub  own  own  all  own  own  all  all",
     "id user_id challenge_id tech_stack tech_stack_key start_time end_time deadline status total_ms total_time published \
      clock_went_back_ms"),
    ("public.milestones", "published",                                 "pub  own  own  all  own  own  all  all+",
     "id session_id user_id milestone_number passed pending completed_at attempts requested_at next_attempt_at published"),
    ("public.personal_bests", "challenge_id in (select id from public.challenges where ranked and active)",
                                                                       "pub  pub  pub  pub  pub  pub  pub  all",
     "challenge_id tech_stack_key user_id submission_id total_ms end_time"),
    ("public.review_queue", "false",                                   "-    own  own  all  own  own  own  all",
     "id submitted_at waiting challenge runner tech_stack total_time video_url packages claimed_by revision session_id user_id \
      claim_expires_at clock_went_back_ms same_video"),
    ("public.sessions", "published",                                   "pub  own  own  all  own  own  all  all+",
     "id user_id challenge_id tech_stack tech_stack_key start_time end_time deadline status total_ms total_time published \
      clock_went_back_ms"),
    ("public.submissions", "status = 'APPROVED'",                      "pub  own  own  all  own  own  own  all+",
     "id session_id user_id challenge_id tech_stack tech_stack_key total_ms total_time end_time packages video_url submitted_at status \
      revision claimed_by reviewed_by reviewed_at review_reason video_key claimed_at"),
    ("public.tech_stack_synonyms", "true",                             "all  all  all  all  all  all  all  all+",
     "id spelling name"),
    ("public.users", "true",                                           "all  all  all  all  all  all  all  all+",
     "id username role created_at erased_at"),
];

/// The relations that no client may read.
const CLOSED: &str = "\
    private.answer_variants private.attestations private.audit_log private.audit_trail private.board_versions private.boards \
    private.counted_runs private.credentials private.failed_logins private.migration_history \
    private.rank_buckets private.records private.refresh_tokens private.reviews private.session_ends \
    private.session_inputs private.travelled";

/// The functions that clients may execute, because policies, views, defaults and constraints call them.
#[rustfmt::skip]
const EXECUTABLE: [(&str, &str); 5] = [
    ("anon authenticated service_role", "private.clock private.display_duration private.elapsed_ms speedcoding.check_request"),
    ("anon authenticated",              "private.caller_role private.may_read_recording"),
    ("authenticated",                   "private.may_delete_recording private.may_upload_recording"),
    ("authenticated service_role",      "private.claim_expiry private.same_video"),
    ("service_role",                    "private.duration_ms private.packages_valid private.recording_path private.recording_session \
                                         private.uuid_v7 private.video_key"),
];

/// The database role of a subject.
fn role(subject: &str) -> &'static str {
    match subject {
        "anon" => "anon",
        "service" => "service_role",
        _ => "authenticated",
    }
}

/// The rows of a relation that a subject sees (`-`, `pub`, `own` or `all`), and whether it may write there.
fn cell(sees: &str, subject: &str) -> (String, bool) {
    let at = SUBJECTS.iter().position(|known| *known == subject);
    let cell = sees.split_whitespace().nth(at.expect("a subject"));
    let cell = cell.expect("a cell for each subject");
    (cell.trim_end_matches('+').to_owned(), cell.ends_with('+'))
}

async fn texts(client: &Client, query: &str) -> BTreeSet<String> {
    first_column(client, query).await.into_iter().collect()
}

/// The SQLSTATE with which a statement fails, or nothing if it succeeds. The statement is rolled back in any case.
async fn fails(client: &Client, statement: &str) -> Option<String> {
    client.batch_execute("begin").await.expect("begin");
    let state = sqlstate(client, statement).await;
    client.batch_execute("rollback").await.expect("rollback");
    state
}

/// Every subject has rows of its own that other subjects must not see. The sample season is there, too.
struct World {
    app: TestApp,
    actors: BTreeMap<&'static str, Actor>,
}

impl World {
    async fn make() -> Self {
        Self::make_on(TestApp::start().await).await
    }

    async fn make_on(app: TestApp) -> Self {
        seed(app.database.url()).await.expect("a season");
        let mut actors = BTreeMap::new();
        for subject in SUBJECTS {
            if role(subject) == "authenticated" {
                actors.insert(subject, app.runner(subject).await);
            }
        }
        // The owner's runs. One is approved, one is rejected, one waits for review, and one is running. One more
        // belongs to a challenge that has been withdrawn.
        let owner = &actors["owner"];
        let decide = async |run: &Value, decision: &str| {
            let statement = format!(
                "update public.submissions set {decision} where session_id = '{}'",
                text(run, "/id")
            );
            app.sql()
                .await
                .batch_execute(&statement)
                .await
                .expect("a decision");
        };
        decide(&owner.complete_run().await, "status = 'APPROVED'").await;
        decide(
            &owner.complete_run().await,
            "status = 'REJECTED', review_reason = 'a reason that is nobody''s business'",
        )
        .await;
        owner.complete_run().await;
        actors["banned"].complete_run().await;
        actors["verifier"].complete_run().await;
        app.sql()
            .await
            .batch_execute(
                "insert into public.challenges (slug, title) values ('withdrawn', 'Withdrawn');
                 insert into public.challenge_milestones (challenge_id, number, title)
                 select id, 1, 'Only' from public.challenges where slug = 'withdrawn'",
            )
            .await
            .expect("a challenge");
        let withdrawn = owner.start("withdrawn").await;
        owner.verify(&withdrawn, 1).await.ok(200);
        let ended = owner.end(&withdrawn).await.ok(200);
        decide(&ended, "status = 'APPROVED'").await;
        owner.start("freestyle").await;
        app.sql()
            .await
            .batch_execute(
                "update public.challenges set active = false where slug = 'withdrawn';
                 update public.users set role = 'moderator' where username in ('moderator', 'demoted', 'banned');
                 update public.users set role = 'verifier' where username = 'verifier';
                 update public.users set role = 'runner' where username = 'demoted';
                 insert into public.bans (user_id) select id from public.users where username = 'banned'",
            )
            .await
            .expect("roles");
        World { app, actors }
    }

    /// The claims that PostgREST takes from a subject's token.
    fn claims(&self, subject: &str) -> Value {
        let mut claims = json!({ "role": role(subject) });
        if let Some(actor) = self.actors.get(subject) {
            claims["sub"] = json!(actor.id);
        }
        claims
    }

    async fn client(&self, subject: &str) -> Client {
        let claims = self.claims(subject);
        self.app.database.role(role(subject), Some(&claims)).await
    }

    /// The keys of the rows of a relation that a cell of the matrix grants to a subject.
    async fn keys(&self, relation: &Relation, cell: &str, subject: &str) -> BTreeSet<String> {
        let me = self.actors.get(subject).map(|actor| actor.id.as_str());
        let rows = match (cell, me) {
            ("all", _) => "true".to_owned(),
            ("pub", _) => relation.public_when.to_owned(),
            ("own", Some(me)) => format!("({}) or user_id = '{me}'", relation.public_when),
            _ => panic!("{cell} of {subject}"),
        };
        let query = format!(
            "select {} from {} where {rows}",
            relation.key(),
            relation.name
        );
        texts(&self.app.sql().await, &query).await
    }
}

/// A line of `OPEN`, and the columns that identify its rows.
struct Relation {
    name: &'static str,
    public_when: &'static str,
    sees: &'static str,
    columns: Vec<&'static str>,
    /// The columns of the primary key. A view has its id in their place, or its ids and keys.
    keys: Vec<String>,
}

impl Relation {
    /// An expression that identifies a row.
    fn key(&self) -> String {
        format!("concat_ws('/', {})", self.keys.join(", "))
    }

    /// Its name in a URL.
    fn path(&self) -> String {
        format!("/{}", self.name.trim_start_matches("public."))
    }

    /// PostgREST's condition for one row.
    fn is(&self, key: &str) -> String {
        let parts = self.keys.iter().zip(key.split('/'));
        let parts: Vec<_> = parts
            .map(|(column, part)| format!("{column}.eq.\"{part}\""))
            .collect();
        format!("and({})", parts.join(","))
    }
}

async fn open(owner: &Client) -> Vec<Relation> {
    let mut relations = Vec::new();
    for (name, public_when, sees, columns) in OPEN {
        let keys = texts(
            owner,
            &format!(
                "select quote_ident(attname) from pg_index
                   join pg_attribute on attrelid = indrelid and attnum = any (indkey)
                  where indrelid = '{name}'::regclass and indisprimary"
            ),
        )
        .await;
        let columns: Vec<_> = columns.split_whitespace().collect();
        let of_view = |column: &&str| match columns.contains(&"id") {
            true => *column == "id",
            false => column.ends_with("_id") || column.ends_with("_key"),
        };
        let keys = if keys.is_empty() {
            let ids = columns.iter().copied().filter(of_view);
            ids.map(str::to_owned).collect()
        } else {
            keys
        };
        relations.push(Relation {
            name,
            public_when,
            sees,
            columns,
            keys: keys.into_iter().collect(),
        });
    }
    relations
}

/// Tries every way of writing to a relation. Even a role that may write must not truncate.
async fn refuses_writes(
    client: &Client,
    subject: &str,
    name: &str,
    columns: &[&str],
    writes: bool,
) {
    let mut tries = vec![
        format!("insert into {name} default values"),
        format!("delete from {name} where false"),
        format!("select from {name} for update"),
        format!("lock table {name} in share row exclusive mode"),
    ];
    tries.extend(
        columns
            .iter()
            .map(|column| format!("update {name} set {column} = default where false")),
    );
    for statement in tries {
        let state = fails(client, &statement).await;
        // Nobody can write to a sequence, or to a view of several tables or of no table.
        let refused = matches!(state.as_deref(), Some("42501" | "55000" | "42809"));
        // The statement may fail on a missing value or on a computed column. The matrix does not test those.
        let accepted = matches!(state.as_deref(), None | Some("23502" | "428C9"));
        assert!(
            if writes { accepted } else { refused },
            "{subject}: {statement}: {state:?}"
        );
    }
    for statement in [
        format!("truncate {name}"),
        format!("truncate {name} cascade"),
    ] {
        let state = fails(client, &statement).await;
        assert!(
            matches!(state.as_deref(), Some("42501" | "42809")),
            "{subject}: {statement}: {state:?}"
        );
    }
}
