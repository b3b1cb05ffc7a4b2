//! For every statement of the service PostgreSQL finds the rows by an index. The database is filled, and the tests look
//! into the last nested statement.

use futures_util::{StreamExt, stream};
use secrecy::ExposeSecret;
use serde_json::Value;
use speedcoding::db::{migrate::migrate, query};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, types::Type};

use crate::support::cluster::Database;

const RESULTS: i64 = 10_000;
/// The same results as in the benchmark. `FILL_MORE` adds the other rows that a service of that size has.
const FILL: &str = include_str!("../../benches/boards.sql");
const FILL_MORE: &str = "
    insert into private.credentials (user_id, password_hash) select id, 'none' from public.users;
    insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
    select id, id, sha256(id::text::bytea), '\\x00000000', now() + interval '14 days', now() + interval '30 days'
      from public.users;
    insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
    select id, user_id, number, true, end_time, 1 from public.sessions, generate_series(1, 7) as number;
    insert into private.session_ends (user_id, session_id, digest) select user_id, id, sha256('') from public.sessions;
    insert into public.challenges (slug, title) select 'puzzle-' || n, 'Puzzle' from generate_series(1, 100) as n;
    insert into public.challenge_milestones (challenge_id, number, title, verification)
    select id, number, 'Part', (array['answer', 'verifier', 'manual'])[number]::public.milestone_verification
      from public.challenges, generate_series(1, 3) as number where slug like 'puzzle-%';
    insert into private.answer_variants (challenge_id, milestone_number, input, salt, digest)
    select id, 1, 'input', '', sha256('') from public.challenges, generate_series(1, 20) where slug like 'puzzle-%';
    insert into public.sessions (user_id, challenge_id, tech_stack, tech_stack_key, start_time, deadline)
    select u.id, c.id, 'Rust', 'rust', now() - interval '1 hour', now() + interval '23 hours'
      from public.users as u, public.challenges as c where c.slug = 'puzzle-1';
    insert into private.session_inputs (session_id, milestone_number, user_id, variant_id)
    select s.id, 1, s.user_id, v.id
      from (select *, row_number() over (order by id) % 2000 as place from public.sessions where status = 'running') as s
      join (select id, row_number() over (order by id) - 1 as place from private.answer_variants) as v using (place);
    insert into public.milestones (session_id, user_id, milestone_number, pending, requested_at)
    select id, user_id, 2, true, start_time from public.sessions where status = 'running';
    insert into private.attestations (session_id, user_id, milestone_number, verdict)
    select id, user_id, 2, 'error' from public.sessions;
    insert into private.audit_log (action, user_id, subject_id) select 'run.filled', user_id, id from public.sessions;
    update public.submissions set status = 'PENDING'
     where user_id = (select id from public.users where username = 'runner_76');
    insert into private.failed_logins (account, network, failures, blocked_until, forgotten_at)
    select sha256(id::text::bytea), sha256(id::text::bytea), 1, now(), now() + interval '1 hour' from public.users;
    insert into private.reviews (submission_id, user_id, revision, decision, reviewed_by)
    select id, user_id, 1, 'APPROVED', null from public.submissions where status = 'APPROVED';
    insert into public.bans (user_id) select id from public.users where username like 'runner\\_%00';
    update public.users set role = 'verifier' where username = 'runner_79';
    update public.users set role = 'moderator' where username = 'runner_80';
    delete from public.sessions using public.users as u where u.id = user_id and username = 'runner_78' and status = 'running';";

/// Boards and records of many stacks, as if somebody had run on them.
const FILL_BOARDS: &str = "
    insert into private.boards (challenge_id, tech_stack_key)
    select id, 'stack-' || n from public.challenges, generate_series(1, 3000) as n where slug = 'slack-clone';
    insert into private.records (challenge_id, tech_stack_key, submission_id, total_ms, end_time)
    select challenge_id, tech_stack_key, private.uuid_v7(), n, now() from private.boards, generate_series(1, 10) as n
     where tech_stack_key like 'stack-%';";

/// Tables of a few rows, which people have written by hand. To read all of them is the best plan.
const SMALL: &[&str] = &[
    "bans",
    "challenges",
    "challenge_milestones",
    "tech_stack_synonyms",
];

/// How statements are called. An argument that is left out gets a value by its type: the runner, the runner's running
/// session, 1, or else null. The runner's claims are `{caller}`, the session is `{session}`, the sign-in `{sign_in}`
/// and its digest `{digest}`. `{idler}`, `{verifier}`, `{moderator}` and `{hander}` are other users. `{pending}` is the
/// submission of `{hander}`.
const CALLS: &[(&str, &str)] = &[
    (
        "register",
        "'newcomer', 'none', gen_random_uuid(), sha256('x'), '\\x00000000', 60, 60, 'agent', '127.0.0.1'",
    ),
    ("find_live_sign_in", "{sign_in}, {user}"),
    (
        "find_credentials",
        "'RUNNER_77', sha256('account'), sha256('network'), '127.0.0.1'",
    ),
    ("login_delay", "sha256('account'), sha256('network')"),
    (
        "change_password",
        "{caller}, 'none', 'other', sha256('account'), sha256('network')",
    ),
    (
        "delete_me",
        "{caller}, 'none', sha256('account'), sha256('network')",
    ),
    (
        "open_sign_in",
        "{user}, gen_random_uuid(), sha256('x'), '\\x00000000', 60, 60, 'agent', '127.0.0.1', 'none', null, \
         sha256('account'), sha256('network')",
    ),
    (
        "record_failed_login",
        "sha256('account'), sha256('network'), {user}, '127.0.0.1', 5, 900",
    ),
    (
        "list_submissions",
        "{caller}, 21, true, null, null, null, null",
    ),
    (
        "list_submissions",
        "{moderator}, 21, false, 'PENDING', null, null, null",
    ),
    (
        "list_submissions",
        "{moderator}, 21, false, 'PENDING', 'slack-clone', now(), {pending}",
    ),
    ("get_submission", "{caller}, {approved}"),
    (
        "update_submission",
        "{hander}, {pending}, 1, '{tokio}', 'https://youtu.be/abc', false",
    ),
    ("withdraw_submission", "{hander}, {pending}"),
    ("claim_submission", "{moderator}, {pending}"),
    ("release_submission", "{moderator}, {pending}"),
    (
        "review_submission",
        "{moderator}, {pending}, 'REJECTED', 1, 'Cut.'",
    ),
    (
        "reopen_submission",
        "{moderator}, {approved}, 'Looked again.'",
    ),
    (
        "refresh",
        "{sign_in}, '\\x00000000', {digest}, 1, 10, 60, 70",
    ),
    (
        "refuse_refresh",
        "{sign_in}, '\\x00000000', {digest}, 2, 10, 70",
    ),
    ("logout", "{sign_in}, '\\x00000000', {digest}, 'global'"),
    ("list_sign_ins", "{caller}, 21, null"),
    ("end_sign_in", "{caller}, {sign_in}"),
    ("sweep_sign_ins", "{sign_in}, 100, 60"),
    ("start_session", "{idler}, 'Rust', 'slack-clone'"),
    ("verify_milestone", "{caller}, {session}, 1, 'wrong'"),
    ("verify_milestone", "{caller}, {session}, 2, null"),
    ("verify_milestone", "{caller}, {session}, 3, null"),
    (
        "attest_milestone",
        "{verifier}, {session}, 2, 'pass', 'log', '1.0'",
    ),
    (
        "end_session",
        "{caller}, {session}, '{tokio}', 'https://youtu.be/abc', '{tokio}', 'https://youtu.be/abc', '[]'",
    ),
    ("list_sessions", "{caller}, 21, null"),
    ("list_challenges", "null, 21, null"),
    ("get_challenge", "null, 'slack-clone'"),
    (
        "get_leaderboard",
        "null, 'slack-clone', 'Rust', '{}', 101, 3000000, '2026-01-01', {user}",
    ),
    ("get_standing", "{caller}, 'slack-clone', null"),
    (
        "list_records",
        "null, 'slack-clone', null, '{}', 21, 1300000",
    ),
    ("get_user", "null, 'runner_77'"),
];

/// What the dashboard does to boards, as its owner.
const EDITS: &[&str] = &[
    "update public.submissions set status = 'PENDING' where session_id = {run}",
    "update public.sessions set end_time = end_time + interval '1 second', tech_stack = 'Zig' where id = {run}",
    "insert into public.bans (user_id) values ({user})",
    "update public.users set username = 'somebody' where id = {user}",
    "delete from public.users where id = {user}",
];

/// A connection as the owner. It reports the plan of each statement, and of the statements within it.
async fn explaining(database: &Database) -> (Client, UnboundedReceiver<String>) {
    let (client, mut connection) = tokio_postgres::connect(database.url().expose_secret(), NoTls)
        .await
        .expect("a connection");
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = tell.send(notice.message().to_owned());
            }
        }
    });
    client
        .batch_execute(
            "load 'auto_explain';
             set auto_explain.log_min_duration = 0;
             set auto_explain.log_nested_statements = on;
             set auto_explain.log_format = json;
             set auto_explain.log_level = notice;",
        )
        .await
        .expect("auto_explain");
    (client, told)
}

/// The tables that a plan reads from end to end.
fn whole_reads(plan: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    // This index holds only the pending submissions.
    let few = "submissions_pending";
    let whole = kind == "Seq Scan"
        || kind.starts_with("Index") && plan["Index Cond"].is_null() && plan["Index Name"] != few;
    if let (true, Some(table)) = (whole, plan["Relation Name"].as_str())
        && !SMALL.contains(&table)
    {
        found.push(format!("{kind} on {table}"));
    }
    let parts = plan["Plans"].as_array();
    found.extend(parts.into_iter().flatten().flat_map(whole_reads));
    found
}

/// Runs a statement and undoes it, until PostgreSQL has settled on a plan. Returns the number of plans, and their reads
/// of whole tables.
async fn explain(
    client: &Client,
    told: &mut UnboundedReceiver<String>,
    statement: &str,
) -> (usize, Vec<String>) {
    for _ in 0..7 {
        client
            .batch_execute(&format!("begin; {statement}"))
            .await
            .expect(statement);
        client.batch_execute("rollback").await.expect("an undoing");
    }
    let (mut plans, mut found) = (0, Vec::new());
    while let Ok(notice) = told.try_recv() {
        let Some((_, json)) = notice.split_once("plan:\n") else {
            continue;
        };
        let explained: Value = serde_json::from_str(json).expect("a plan");
        plans += 1;
        for read in whole_reads(&explained["Plan"]) {
            let text = explained["Query Text"].to_string();
            found.push(format!(
                "{read}: {}",
                text.chars().take(300).collect::<String>()
            ));
        }
    }
    (plans, found)
}

#[tokio::test]
async fn no_statement_reads_a_whole_table() {
    // This database has the real clock. The clock of the tests would take most of the time that the filling takes.
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    let owner = database.owner().await;
    owner
        .batch_execute("set session_replication_role = replica")
        .await
        .expect("no triggers");
    owner
        .execute(FILL, &[&1_i64, &RESULTS])
        .await
        .expect("results");
    owner.batch_execute(FILL_MORE).await.expect("the rest");
    for statement in [
        "reset session_replication_role",
        "select private.rebuild_boards()",
        FILL_BOARDS,
        "vacuum analyze",
    ] {
        owner.batch_execute(statement).await.expect(statement);
    }

    let claims = |runner| {
        format!(
            "(select format('%L::jsonb', jsonb_build_object('sub', id, 'session_id', id))
                from public.users where username = 'runner_{runner}')"
        )
    };
    let select = format!(
        "select format('%L::uuid', u.id), format('%L::uuid', u.id), format('%L::uuid', run.id),
                format('%L::uuid', running.id), format('%L::bytea', sha256(u.id::text::bytea)), {}, {}, {}, {}, {},
                (select format('%L::uuid', id) from public.submissions where session_id = run.id),
                (select format('%L::uuid', s.id) from public.submissions as s join public.users as o on o.id = s.user_id
                  where o.username = 'runner_76' limit 1)
           from public.users as u
           join public.sessions as run on run.user_id = u.id and run.status = 'completed'
           join public.sessions as running on running.user_id = u.id and running.status = 'running'
          where u.username = 'runner_77'",
        claims(77),
        claims(78),
        claims(79),
        claims(80),
        claims(76),
    );
    let row = owner.query_one(&select, &[]).await.expect("a runner");
    let names = [
        "{user}",
        "{sign_in}",
        "{run}",
        "{session}",
        "{digest}",
        "{caller}",
        "{idler}",
        "{verifier}",
        "{moderator}",
        "{hander}",
        "{approved}",
        "{pending}",
    ];
    let fill_in = |text: &str| -> String {
        let values = (0..names.len()).map(|at| row.get::<_, &str>(at));
        names
            .iter()
            .zip(values)
            .fold(text.to_owned(), |text, (name, value)| {
                text.replace(name, value)
            })
    };

    let mut bad = Vec::new();

    let (client, mut told) = explaining(&database).await;
    for edit in EDITS {
        let (plans, found) = explain(&client, &mut told, &fill_in(edit)).await;
        assert!(plans > 3 * 7, "{edit}: {plans} plans");
        bad.extend(found.into_iter().map(|read| format!("{edit}: {read}")));
    }
    client
        .batch_execute("set role speedcoding_api")
        .await
        .expect("the role");
    for query in query::ALL {
        let types: Vec<_> = query.types.iter().map(|ty| ty.name()).collect();
        let types = match types.as_slice() {
            [] => String::new(),
            types => format!("({})", types.join(", ")),
        };
        client
            .batch_execute(&format!("prepare {} {types} as {}", query.name, query.sql))
            .await
            .expect(query.name);
        let calls = CALLS.iter().filter(|(name, _)| *name == query.name);
        let mut calls: Vec<_> = calls.map(|(_, arguments)| *arguments).collect();
        if calls.is_empty() {
            calls.push("");
        }
        for given in calls {
            let name = query.name;
            let given = given.split(", ").filter(|argument| !argument.is_empty());
            let mut arguments: Vec<_> = given.collect();
            let left_out = query.types.iter().skip(arguments.len());
            arguments.extend(left_out.map(|ty| match *ty {
                Type::JSONB => "{caller}",
                Type::UUID => "{session}",
                Type::INT4 => "1",
                _ => "null",
            }));
            let arguments = match fill_in(&arguments.join(", ")) {
                none if none.is_empty() => none,
                some => format!("({some})"),
            };
            // If this fails, CALLS must say how the statement is called.
            let call = format!("execute {name}{arguments}");
            let (plans, found) = explain(&client, &mut told, &call).await;
            let nested = query.sql.starts_with("select * from private.");
            assert!(plans > 7 * usize::from(nested), "{name}: {plans} plans");
            bad.extend(found.into_iter().map(|read| format!("{name}: {read}")));
        }
    }
    bad.dedup();
    assert!(bad.is_empty(), "{bad:#?}");
}
