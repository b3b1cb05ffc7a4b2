//! The RLS matrix: who reads and writes what, for every table, view, column and function of the catalog, through SQL as
//! PostgREST sends it. What stands in no table here must not exist.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use speedcoding::operate::seed::seed;
use tokio_postgres::Client;

use crate::{
    roles::{may, may_execute, relations},
    support::{
        actor::{Actor, Answer, answer, text},
        app::TestApp,
        cluster::{Database, first_column, sqlstate},
        postgrest::PostgRest,
        program::tell_untold,
    },
    tokens::forge,
};

/// Whose eyes the matrix is read through.
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

/// The schemas that there are, and which roles may enter them; Supabase's own apart, nobody makes anything in them.
#[rustfmt::skip]
const SCHEMAS: [(&str, &str); 5] = [
    ("auth",        "anon authenticated service_role"),
    ("extensions",  ""),
    ("private",     "service_role"),
    ("public",      "anon authenticated service_role"),
    ("speedcoding", "anon authenticated service_role"),
];

/// What clients may see something of: its columns, which rows are for everyone, and what each subject sees:
/// `all` rows, `pub`lic ones, those and its `own`, or `-`: it is refused. `+`: it writes there, too.
#[rustfmt::skip]
const OPEN: [(&str, &str, &str, &str); 10] = [
    //                                                                  anon stranger owner moderator demoted banned verifier service
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
     "id user_id challenge_id tech_stack tech_stack_key start_time end_time deadline status total_ms total_time published"),
    ("public.milestones", "published",                                 "pub  own  own  all  own  own  all  all+",
     "id session_id user_id milestone_number passed pending completed_at attempts requested_at next_attempt_at published"),
    ("public.personal_bests", "challenge_id in (select id from public.challenges where ranked and active)",
                                                                       "pub  pub  pub  pub  pub  pub  pub  all",
     "challenge_id tech_stack_key user_id submission_id total_ms end_time"),
    ("public.review_queue", "false",                                   "-    own  own  all  own  own  own  all",
     "id submitted_at waiting challenge runner tech_stack total_time video_url packages claimed_by revision session_id user_id"),
    ("public.sessions", "published",                                   "pub  own  own  all  own  own  all  all+",
     "id user_id challenge_id tech_stack tech_stack_key start_time end_time deadline status total_ms total_time published \
      end_digest"),
    ("public.submissions", "status = 'APPROVED'",                      "pub  own  own  all  own  own  own  all+",
     "id session_id user_id challenge_id tech_stack tech_stack_key total_ms total_time end_time packages video_url submitted_at status \
      revision claimed_by reviewed_by reviewed_at review_reason"),
    ("public.users", "true",                                           "all  all  all  all  all  all  all  all+",
     "id username role created_at banned_at erased_at"),
];

/// What no client sees anything of.
const CLOSED: &str = "\
    private.answer_variants private.attestations private.audit_log private.board_versions private.boards \
    private.counted_runs private.credentials private.failed_logins private.migration_history \
    private.rank_buckets private.records private.refresh_tokens private.reviews private.session_inputs private.travelled";

/// What clients may execute, for the sake of policies, views, defaults and constraints.
#[rustfmt::skip]
const EXECUTABLE: [(&str, &str); 4] = [
    ("anon authenticated service_role", "private.clock private.display_duration private.elapsed_ms speedcoding.check_request"),
    ("anon authenticated",              "private.caller_role private.may_read_recording"),
    ("authenticated",                   "private.may_delete_recording private.may_upload_recording"),
    ("service_role",                    "private.packages_valid private.recording_path private.recording_session \
                                         private.tech_stack_key private.uuid_v7"),
];

/// The database role of a subject.
fn role(subject: &str) -> &'static str {
    match subject {
        "anon" => "anon",
        "service" => "service_role",
        _ => "authenticated",
    }
}

/// What a subject sees of a relation: `-`, `pub`, `own` or `all`; and whether it writes there.
fn cell(sees: &str, subject: &str) -> (String, bool) {
    let at = SUBJECTS.iter().position(|known| *known == subject);
    let cell = sees.split_whitespace().nth(at.expect("a subject"));
    let cell = cell.expect("a cell for each subject");
    (cell.trim_end_matches('+').to_owned(), cell.ends_with('+'))
}

async fn texts(client: &Client, query: &str) -> BTreeSet<String> {
    first_column(client, query).await.into_iter().collect()
}

/// The SQLSTATE with which a statement fails; none where it succeeds. Nothing of it stays.
async fn fails(client: &Client, statement: &str) -> Option<String> {
    client.batch_execute("begin").await.expect("begin");
    let state = sqlstate(client, statement).await;
    client.batch_execute("rollback").await.expect("rollback");
    state
}

/// Everybody with something of their own that others are not to see, beside the sample season.
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
        // The owner's runs: approved, rejected, waiting, running; and one of a challenge that has been withdrawn.
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
                 update public.users set banned_at = private.clock() where username = 'banned'",
            )
            .await
            .expect("roles");
        World { app, actors }
    }

    /// What PostgREST makes of a subject's token.
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

/// A line of `OPEN`, and what tells its rows apart.
struct Relation {
    name: &'static str,
    public_when: &'static str,
    sees: &'static str,
    columns: Vec<&'static str>,
    /// The columns of the primary key; a view's id, or the ids and keys that it has instead.
    keys: Vec<String>,
}

impl Relation {
    /// What tells a row apart, as an expression.
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

#[tokio::test]
async fn the_matrix_lists_all_that_is_there_and_all_that_is_granted() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let schemas = texts(
        &owner,
        "select nspname || ':' || coalesce(string_agg(' ' || rolname, '' order by rolname), '')
           from pg_namespace
           left join pg_roles on rolname in ('anon', 'authenticated', 'service_role')
            and has_schema_privilege(rolname, pg_namespace.oid, 'USAGE')
          where nspname !~ '^pg_' and nspname <> 'information_schema'
          group by nspname",
    )
    .await;
    let listed = SCHEMAS.map(|(name, roles)| format!("{name}: {roles}").trim_end().to_owned());
    assert_eq!(
        schemas,
        listed.into(),
        "schemas: there (left), in SCHEMAS (right)"
    );

    let there: BTreeSet<_> = relations(&owner).await.into_iter().collect();
    let listed = OPEN
        .iter()
        .map(|line| line.0)
        .chain(CLOSED.split_whitespace());
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    assert_eq!(
        there, listed,
        "relations: there (left), in OPEN and CLOSED (right)"
    );

    for relation in open(&owner).await {
        let there = texts(
            &owner,
            &format!(
                "select quote_ident(attname) from pg_attribute
                  where attrelid = '{}'::regclass and attnum > 0 and not attisdropped",
                relation.name
            ),
        )
        .await;
        let listed = relation.columns.iter().map(|column| (*column).to_owned());
        assert_eq!(
            there,
            listed.collect(),
            "columns of {}: there (left), in OPEN (right)",
            relation.name
        );
    }

    for subject in ["anon", "stranger", "service"] {
        let mut expected = BTreeSet::new();
        for (name, _, sees, _) in OPEN {
            let (sees, writes) = cell(sees, subject);
            if sees != "-" {
                expected.insert(format!("{name} SELECT"));
            }
            if writes {
                expected
                    .extend(["DELETE", "INSERT", "UPDATE"].map(|verb| format!("{name} {verb}")));
            }
        }
        let granted = may(&owner, role(subject))
            .await
            .into_iter()
            .collect::<BTreeSet<_>>();
        assert_eq!(
            granted,
            expected,
            "{}: granted (left), in OPEN (right)",
            role(subject)
        );

        let executable = may_execute(&owner, role(subject)).await;
        let listed = EXECUTABLE
            .iter()
            .filter(|(roles, _)| roles.split(' ').any(|listed| listed == role(subject)));
        let listed = listed.flat_map(|(_, functions)| functions.split_whitespace());
        assert_eq!(
            executable.into_iter().collect::<BTreeSet<_>>(),
            listed.map(str::to_owned).collect(),
            "{} may execute (left), in EXECUTABLE (right)",
            role(subject)
        );
    }
}

#[tokio::test]
async fn each_subject_sees_and_writes_what_the_matrix_says() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let open = open(&owner).await;
    for relation in &open {
        let (all, public) = (
            world.keys(relation, "all", "owner").await,
            world.keys(relation, "pub", "owner").await,
        );
        // Or the matrix would prove nothing.
        if relation.sees.contains("own") {
            let own = world.keys(relation, "own", "owner").await;
            assert!(
                all.len() > own.len() && own.len() > public.len(),
                "{}",
                relation.name
            );
        } else if relation.sees.contains("pub") {
            assert!(all.len() > public.len(), "{}", relation.name);
        }
    }

    for subject in SUBJECTS {
        let client = world.client(subject).await;
        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            let name = relation.name;
            if sees == "-" {
                for column in &relation.columns {
                    let query = format!("select {column} from {name}");
                    assert_eq!(
                        fails(&client, &query).await.as_deref(),
                        Some("42501"),
                        "{subject}: {query}"
                    );
                }
            } else {
                let query = format!("select {} from {name}", relation.key());
                let expected = world.keys(relation, &sees, subject).await;
                assert_eq!(texts(&client, &query).await, expected, "{subject}: {name}");
            }
            refuses_writes(&client, subject, name, &relation.columns, writes).await;
        }
        for name in CLOSED.split_whitespace() {
            let query = format!("select from {name}");
            assert_eq!(
                fails(&client, &query).await.as_deref(),
                Some("42501"),
                "{subject}: {query}"
            );
            refuses_writes(&client, subject, name, &[], false).await;
        }
        for statement in [
            "create table public.mine ()",
            "create table private.mine ()",
            "create schema mine",
            "create function public.mine() returns integer language sql as 'select 1'",
            "alter table public.users disable row level security",
            "create policy mine on public.sessions using (true)",
            "drop policy sessions_read on public.sessions",
            "create index on public.sessions (user_id)",
            "drop table public.milestones cascade",
        ] {
            assert_eq!(
                fails(&client, statement).await.as_deref(),
                Some("42501"),
                "{subject}: {statement}"
            );
        }
    }
}

/// Functions and operators that lie, in the place of PostgreSQL's own.
const DECOYS: &str = r#"
    create schema decoy;
    create function decoy.lie(uuid, uuid) returns boolean language sql as 'select true';
    create function decoy.lie(text, text) returns boolean language sql as 'select true';
    create function decoy.lie(timestamptz, timestamptz) returns boolean language sql as 'select true';
    create function decoy.lie(jsonb, text) returns text language sql as $$ select 'service_role'::text $$;
    create function decoy.lie(public.submission_status, public.submission_status) returns boolean language sql as 'select false';
    create operator decoy.= (function = decoy.lie, leftarg = uuid, rightarg = uuid);
    create operator decoy.= (function = decoy.lie, leftarg = text, rightarg = text);
    create operator decoy.< (function = decoy.lie, leftarg = timestamptz, rightarg = timestamptz);
    create operator decoy.> (function = decoy.lie, leftarg = timestamptz, rightarg = timestamptz);
    create operator decoy.->> (function = decoy.lie, leftarg = jsonb, rightarg = text);
    create operator decoy.<> (function = decoy.lie, leftarg = public.submission_status, rightarg = public.submission_status);
    create function decoy.now() returns timestamptz language sql as $$ select timestamptz '2001-01-01' $$;
    create function decoy.clock_timestamp() returns timestamptz language sql as 'select decoy.now()';
    create function decoy.length(text) returns integer language sql as 'select 5';
    create function decoy.cardinality(anyarray) returns integer language sql as 'select 5';
    create function decoy.current_setting(text, boolean) returns text
    language sql as $$ select format('{"role": "service_role", "sub": "%s"}', id) from public.users where username = 'moderator' $$;
    create function decoy.caller_id() returns uuid language sql as $$ select id from public.users where username = 'moderator' $$;
    create function decoy.uid() returns uuid language sql as 'select decoy.caller_id()';
    create function decoy.caller_role() returns text language sql as $$ select 'admin'::text $$;
    create function decoy.refuse(integer, text, text, jsonb default null) returns void language sql as '';
    grant usage on schema decoy to public;"#;

/// In a session of its own: a table for each of ours, in which everybody is an admin.
const TEMPORARY: &str = "
    do $$
    declare
      ours record;
    begin
      for ours in
        select c.relname, n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname in ('public', 'private') and c.relkind in ('r', 'v')
      loop
        execute format('create temp table %I (like %I.%I)', ours.relname, ours.nspname, ours.relname);
        execute format('grant all on pg_temp.%I to public', ours.relname);
      end loop;
      create temp table new_rows (id uuid);
      create temp table old_rows (id uuid);
    end
    $$;
    insert into pg_temp.users (id, username, role, created_at) select id, username, 'admin', created_at from public.users;
    create domain pg_temp.timestamptz as date;
    create domain pg_temp.submission_status as text;
    create function pg_temp.caller_role() returns text language sql as $$ select 'admin'::text $$;";

impl World {
    /// As `client`, with all that a role could put in the way of ours.
    async fn deceiver(&self, role: &str, claims: &Value) -> Client {
        let client = self.app.sql().await;
        client.batch_execute(TEMPORARY).await.expect("decoys");
        let enter = format!(
            "set role {role};
             select set_config('request.jwt.claims', '{claims}', false);
             set search_path = decoy, pg_temp, public, private, pg_catalog"
        );
        client.batch_execute(&enter).await.expect("the role");
        client
    }
}

#[tokio::test]
async fn nothing_of_ours_is_fooled_by_what_a_role_puts_in_its_way() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    owner.batch_execute(DECOYS).await.expect("decoys");
    let open = open(&owner).await;
    for subject in SUBJECTS {
        let client = world.deceiver(role(subject), &world.claims(subject)).await;
        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            if sees != "-" {
                let query = format!("select {} from {}", relation.key(), relation.name);
                let expected = world.keys(relation, &sees, subject).await;
                assert_eq!(
                    texts(&client, &query).await,
                    expected,
                    "{subject}: {}",
                    relation.name
                );
            }
            refuses_writes(&client, subject, relation.name, &relation.columns, writes).await;
        }
    }
    let client = world.deceiver("authenticator", &json!({})).await;
    for query in [
        "select from public.users",
        "select from private.credentials",
    ] {
        assert_eq!(fails(&client, query).await.as_deref(), Some("42501"));
    }
    // PostgREST's question before each request.
    let banned = json!({
        "role": "authenticated", "sub": world.actors["banned"].id,
        "session_id": world.app.claims(&world.actors["banned"]).await["session_id"],
    });
    let client = world.deceiver("authenticated", &banned).await;
    let asked = fails(&client, "select speedcoding.check_request()").await;
    assert_eq!(asked.as_deref(), Some("PT403"));

    // Triggers, by service_role: rules hold, and what follows from an edit follows.
    let service = world
        .deceiver("service_role", &json!({ "role": "service_role" }))
        .await;
    let pending = format!(
        "(select id from public.submissions
           where status operator(pg_catalog.=) 'PENDING' and user_id::text operator(pg_catalog.=) '{}')",
        world.actors["owner"].id
    );
    let set = |what: &str| {
        format!("update public.submissions set {what} where id operator(pg_catalog.=) {pending}")
    };
    for (what, state) in [
        ("status = 'APPROVED', video_url = null", "PT409"),
        ("status = 'REJECTED'", "PT409"),
        ("total_ms = 1", "PT409"),
        ("claimed_by = user_id", "PT403"),
        ("packages = array_fill('x'::text, array[201])", "23514"),
    ] {
        let refused = fails(&service, &set(what)).await;
        assert_eq!(refused.as_deref(), Some(state), "{what}");
    }
    let entries = "select count(*)::text from public.board_entries";
    let before = texts(&owner, entries).await;
    service
        .batch_execute(&set("status = 'APPROVED'"))
        .await
        .expect("an approval");
    let times = "select (reviewed_at > '2026-01-01')::text from public.submissions where reviewed_at is not null";
    assert_eq!(
        texts(&owner, times).await,
        BTreeSet::from(["true".to_owned()])
    );
    assert_eq!(
        texts(&owner, entries).await,
        before,
        "a best of hers counts already"
    );
    let differences = "select count(*)::text from private.check_boards()";
    assert_eq!(
        texts(&owner, differences).await,
        BTreeSet::from(["0".to_owned()])
    );

    // The functions, as the service calls them.
    let caller = world.app.claims(&world.actors["verifier"]).await;
    let api = world.deceiver("speedcoding_api", &json!({})).await;
    let call = async |function: &str| {
        let query = format!("select to_jsonb(r)::text from private.{function} as r");
        first_column(&api, &query.replace("$1", &format!("'{caller}'"))).await
    };
    let started: Value =
        serde_json::from_str(&call("start_session($1, 'Rust')").await[0]).expect("JSON");
    assert_eq!(started["user_id"], caller["sub"]);
    assert!(text(&started, "/start_time").as_str() > "2026");
    let id = text(&started, "/id");
    let passed = call(&format!("verify_milestone($1, '{id}', 1)")).await;
    let passed: Value = serde_json::from_str(&passed[0]).expect("JSON");
    assert_eq!(passed["passed"], true);
    // Somebody else's is nobody's.
    let stranger = world.app.claims(&world.actors["owner"]).await;
    let statement = format!("select private.verify_milestone('{stranger}', '{id}', 2)");
    assert_eq!(fails(&api, &statement).await.as_deref(), Some("PT404"));
    let review = format!("select private.claim_submission('{stranger}', '{id}')");
    assert_eq!(fails(&api, &review).await.as_deref(), Some("PT403"));
}

/// Tries every way of writing to a relation. Whoever may, may not truncate either.
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
        // A view of several tables, or of no table, cannot be written by anybody, nor a sequence.
        let refused = matches!(state.as_deref(), Some("42501" | "55000" | "42809"));
        // What a row needs, or what is computed, is not the matrix's concern.
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

#[tokio::test]
async fn a_visitors_count_touches_no_row_that_is_hidden() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let victim = &world.actors["verifier"].id;
    owner
        .batch_execute(&format!(
            "insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select '{victim}', c.id, 'Rust', at, at + interval '1 minute', at + interval '1 hour', 'abandoned'
               from public.challenges as c, generate_series(1, 5000) as n,
                    lateral (select timestamptz '2026-01-01Z' + n * interval '1 minute' as at) as start
              where c.slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at)
             select id, user_id, 1, true, end_time from public.sessions where tech_stack = 'Rust' and status = 'abandoned';
             analyze public.sessions, public.milestones, public.submissions"
        ))
        .await
        .expect("five thousand runs that are nobody's business");
    let visitor = world.client("anon").await;
    for table in ["sessions", "milestones"] {
        for condition in ["", &format!("where user_id = '{victim}'")] {
            let explain = format!(
                "explain (analyze, costs off) select count(*) from public.{table} {condition}"
            );
            let plan = texts(&visitor, &explain)
                .await
                .into_iter()
                .collect::<Vec<_>>()
                .join("\n");
            assert!(!plan.contains("Removed by Filter"), "{plan}");
        }
    }
}

#[tokio::test]
async fn nobody_calls_a_function_of_ours_by_its_name() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let calls = texts(
        &owner,
        "select format('select %s(%s)', p.oid::regproc,
                  (select string_agg(format('(select null::%s)', argument::regtype), ', ') from unnest(p.proargtypes) as argument))
           from pg_proc as p
           join pg_namespace as n on n.oid = p.pronamespace
          where n.nspname in ('public', 'private') and p.prorettype <> 'trigger'::regtype",
    )
    .await;
    assert!(calls.len() >= 30, "{calls:#?}");
    for subject in SUBJECTS {
        let client = world.client(subject).await;
        for call in &calls {
            let state = fails(&client, call).await;
            let name = call
                .trim_start_matches("select ")
                .split('(')
                .next()
                .unwrap_or_default();
            // Its policies and defaults apart, service_role is no client: it may enter the schema.
            let listed = EXECUTABLE.iter().any(|(roles, functions)| {
                roles.contains("service_role")
                    && functions
                        .split_whitespace()
                        .any(|function| function == name)
            });
            if role(subject) == "service_role" && listed {
                continue;
            }
            assert_eq!(state.as_deref(), Some("42501"), "{subject}: {call}");
        }
    }
}

/// `/rest/v1` as a subject uses it. Who has no business there, service_role, asks PostgREST itself.
struct Rest {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Rest {
    fn of(world: &World, postgrest: &PostgRest, subject: &str) -> Self {
        let (base, token) = match subject {
            "service" => (
                postgrest.url.to_string(),
                Some(forge(&json!({ "role": "service_role" }))),
            ),
            "anon" => (format!("{}/rest/v1", world.app.base), None),
            _ => (
                format!("{}/rest/v1", world.app.base),
                world.actors[subject].token.clone(),
            ),
        };
        Rest {
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            base,
            token,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        answer(
            self.request(Method::GET, path)
                .header("Prefer", "count=exact"),
        )
        .await
    }
}

/// The keys of the rows of an answer, and the count that came with them.
fn rows(answer: Answer, relation: &Relation, what: &str) -> BTreeSet<String> {
    let range = answer.headers["content-range"]
        .to_str()
        .expect("a range")
        .to_owned();
    let total = range.split_once('/').map(|(_, total)| total.to_owned());
    assert!(answer.status.is_success(), "{what}: {:#}", answer.body);
    let rows = answer.body.as_array().expect("rows");
    let key = |row: &Value| -> Vec<String> {
        let parts = relation.keys.iter().map(|column| row[column].to_string());
        parts
            .map(|part| part.trim_matches('"').to_owned())
            .collect()
    };
    let keys: BTreeSet<_> = rows.iter().map(|row| key(row).join("/")).collect();
    assert_eq!(total, Some(keys.len().to_string()), "{what}: the count");
    keys
}

/// All ids that an embedding answer holds under a name, however deep.
fn embedded(value: &Value, name: &str, ids: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| embedded(item, name, ids)),
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    let one = std::slice::from_ref(value);
                    let rows = value.as_array().map_or(one, Vec::as_slice);
                    ids.extend(
                        rows.iter()
                            .filter_map(|row| row["id"].as_str())
                            .map(str::to_owned),
                    );
                }
                embedded(value, name, ids);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn through_rest_v1_each_subject_sees_the_same_and_learns_nothing_else() {
    let database = Database::migrated().await;
    let Some(postgrest) = PostgRest::beside(&database).await else {
        tell_untold("the matrix through /rest/v1", "postgrest or postrust");
        return;
    };
    let url = postgrest.url.clone();
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(url);
        config.rate_limits = "off".parse().expect("limits");
    })
    .await;
    let world = World::make_on(app).await;
    let owner = world.app.sql().await;
    let open = open(&owner).await;
    let functions = texts(
        &owner,
        "select distinct proname::text from pg_proc
          where pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)",
    )
    .await;
    let nobodys = "00000000-0000-7000-8000-000000000000";

    for subject in SUBJECTS {
        let rest = Rest::of(&world, &postgrest, subject);
        if subject == "banned" {
            for relation in &open {
                rest.get(&relation.path())
                    .await
                    .problem(403, "account_banned");
            }
            continue;
        }
        // Whatever is refused, nothing of what is hidden is in the text.
        let hidden: BTreeSet<_> = {
            let submissions = open
                .iter()
                .find(|relation| relation.name == "public.submissions")
                .expect("it");
            let (sees, _) = cell(submissions.sees, subject);
            let all = world.keys(submissions, "all", subject).await;
            &all - &world.keys(submissions, &sees, subject).await
        };
        let keeps = |answer: &Answer, what: &str| {
            let text = answer.body.to_string();
            assert!(
                !text.contains("nobody's business"),
                "{subject}: {what}: {text}"
            );
            for id in &hidden {
                assert!(
                    what.contains(id.as_str()) || !text.contains(id.as_str()),
                    "{subject}: {what}: {text}"
                );
            }
        };

        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            let what = format!("{subject}: {}", relation.name);
            let path = format!("{}?select={}", relation.path(), relation.keys.join(","));
            if sees == "-" {
                let refused = rest.get(&path).await;
                assert_eq!(refused.status, 401, "{what}: {:#}", refused.body);
                keeps(&refused, &path);
                continue;
            }
            let visible = world.keys(relation, &sees, subject).await;
            assert_eq!(
                rows(rest.get(&path).await, relation, &what),
                visible,
                "{what}"
            );

            // A row that is hidden is one that is not there, by whatever question.
            let all = world.keys(relation, "all", subject).await;
            let unseen: Vec<_> = all.difference(&visible).take(3).collect();
            let nobody = vec![nobodys; relation.keys.len()].join("/");
            let nobody = if relation.name == "public.challenge_milestones" {
                format!("{nobodys}/1")
            } else {
                nobody
            };
            for key in &unseen {
                let asked = rest.get(&format!("{path}&or=({})", relation.is(key))).await;
                let invented = rest
                    .get(&format!("{path}&or=({})", relation.is(&nobody)))
                    .await;
                assert_eq!(asked.body, json!([]), "{what}");
                assert_eq!(
                    (asked.status, asked.body, &asked.headers["content-range"]),
                    (
                        invented.status,
                        invented.body,
                        &invented.headers["content-range"]
                    ),
                    "{what}"
                );
                let head = rest.request(Method::HEAD, &format!("{path}&or=({})", relation.is(key)));
                let head = answer(head.header("Prefer", "count=exact")).await;
                assert_eq!(head.headers["content-range"], "*/0", "{what}");
            }
            if let Some(seen) = visible.first() {
                let conditions = unseen
                    .iter()
                    .copied()
                    .chain([seen])
                    .map(|key| relation.is(key));
                let or = conditions.collect::<Vec<_>>().join(",");
                let found = rows(
                    rest.get(&format!("{path}&or=({or})")).await,
                    relation,
                    &what,
                );
                assert_eq!(found, BTreeSet::from([seen.clone()]), "{what}: or");
                let others = rows(
                    rest.get(&format!("{path}&not.or=({or})")).await,
                    relation,
                    &what,
                );
                assert_eq!(others.len(), visible.len() - 1, "{what}: not.or");
            }

            // Nor does it show in how a write is refused.
            if writes {
                continue;
            }
            let column = &relation.columns[0];
            for key in unseen
                .iter()
                .map(|key| key.as_str())
                .chain([nobody.as_str()])
            {
                let one = format!("{}?or=({})", relation.path(), relation.is(key));
                let body = json!({ column.to_owned(): key.split('/').next() });
                for (method, path) in [
                    (Method::POST, relation.path()),
                    (Method::PATCH, one.clone()),
                    (Method::DELETE, one),
                ] {
                    let request = rest.request(method.clone(), &path).json(&body);
                    let refused = answer(request.header("Prefer", "return=representation")).await;
                    assert!(
                        refused.status.is_client_error(),
                        "{what}: {method}: {refused:?}"
                    );
                    keeps(&refused, &format!("{path} {body}"));
                    let text = refused.body.to_string();
                    assert!(
                        !text.contains(key.split('/').next().unwrap_or_default()),
                        "{what}: {text}"
                    );
                }
            }
        }

        // Embedding: the rows of each table that are seen, and no others.
        for (path, all) in [
            (
                "/sessions?select=id,milestones(id),submissions(id),users(id)",
                true,
            ),
            (
                "/users?select=id,sessions(id,milestones(id),submissions(id))",
                false,
            ),
            (
                "/challenges?select=id,sessions(id,milestones(id),submissions(id))",
                false,
            ),
        ] {
            let nested = rest.get(path).await;
            assert!(nested.status.is_success(), "{subject}: {:#}", nested.body);
            for name in ["sessions", "milestones", "submissions"] {
                let relation = format!("public.{name}");
                let relation = open.iter().find(|open| open.name == relation).expect("it");
                let visible = world
                    .keys(relation, &cell(relation.sees, subject).0, subject)
                    .await;
                let mut ids = BTreeSet::new();
                embedded(&nested.body, name, &mut ids);
                assert!(ids.is_subset(&visible), "{subject}: {path}: {name}");
                assert!(
                    !all || name == "sessions" || ids == visible,
                    "{subject}: {path}: {name}"
                );
            }
        }

        // What is in no exposed schema is not there: for a role, whoever has it.
        if ["anon", "stranger", "service"].contains(&subject) {
            for name in CLOSED
                .split_whitespace()
                .map(|name| name.trim_start_matches("private."))
            {
                let missing = rest.get(&format!("/{name}")).await;
                assert_eq!(missing.status, 404, "{subject}: {name}: {:#}", missing.body);
                let related = rest.get(&format!("/users?select=id,{name}(*)")).await;
                assert_eq!(related.status, 400, "{subject}: {name}: {:#}", related.body);
                let profile = rest
                    .request(Method::GET, &format!("/{name}"))
                    .header("Accept-Profile", "private");
                assert_eq!(answer(profile).await.status, 406, "{subject}: {name}");
            }
            for name in &functions {
                let call = rest
                    .request(Method::POST, &format!("/rpc/{name}"))
                    .json(&json!({}));
                assert_eq!(answer(call).await.status, 404, "{subject}: {name}");
                let call = rest
                    .request(Method::POST, &format!("/rpc/{name}"))
                    .json(&json!({}));
                let profile = if name == "check_request" {
                    "speedcoding"
                } else {
                    "private"
                };
                let call = answer(call.header("Content-Profile", profile)).await;
                assert_eq!(call.status, 406, "{subject}: {name}: {:#}", call.body);
            }
        }

        // A cast that fails quotes the value that it met: only of rows that are seen.
        let cast = "/submissions?select=review_reason::integer&status=eq.REJECTED";
        let cast = rest.get(cast).await;
        let sees_one = matches!(subject, "owner" | "moderator" | "service");
        assert_eq!(cast.status.is_success(), !sees_one, "{subject}");
        if !sees_one {
            keeps(&cast, "a cast");
        }
    }

    // The service's own door is none for the project's secret key.
    let service = forge(&json!({ "role": "service_role" }));
    let visitor = world.app.visitor().with_token(service);
    visitor
        .get("/rest/v1/users")
        .await
        .problem(401, "invalid_token");
}
