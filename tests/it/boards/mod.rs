//! Boards: they are right as soon as a run has changed, paged without gaps, and cheap to ask for again.

mod many;

use std::collections::BTreeSet;

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{
    actor::{Actor, Answer, answer, text},
    app::TestApp,
    cluster::{first_column, refused},
    race::race,
};

/// Completes a run of `slack-clone` that takes exactly this time. Returns the id of its session.
async fn run(app: &TestApp, runner: &Actor, tech_stack: &str, time: &str) -> String {
    let start = json!({ "techStack": tech_stack, "challenge": "slack-clone" });
    let session = runner.start_with(start).await.ok(201);
    let session = text(&session, "/id");
    for number in 1..=7 {
        runner.verify(&session, number).await.ok(200);
    }
    app.travel(time).await;
    runner.end(&session).await.ok(200);
    session
}

/// An edit by a moderator in the dashboard.
async fn decide(dashboard: &Client, session: &str, status: &str) {
    let changed = dashboard
        .execute(
            &format!(
                "update public.submissions set status = '{status}', review_reason = 'seen'
                  where session_id = $1::text::uuid"
            ),
            &[&session],
        )
        .await
        .expect("a decision");
    assert_eq!(changed, 1);
}

/// An edit in the dashboard.
async fn edit(dashboard: &Client, statement: &str) {
    dashboard.batch_execute(statement).await.expect(statement);
}

/// Ranks, names and minutes of a list.
fn lines(answer: &Value) -> Vec<String> {
    let items = answer["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| {
            let minutes = item["totalTimeMs"].as_i64().expect("a time") as f64 / 60_000.0;
            let line = format!("{} {minutes}", text(item, "/user/username"));
            match item["rank"].as_i64() {
                Some(rank) => format!("{rank} {line}"),
                None => line,
            }
        })
        .collect()
}

async fn board(app: &TestApp, query: &str) -> Vec<String> {
    let path = format!("/leaderboards/slack-clone{query}");
    lines(&app.visitor().get(&path).await.ok(200))
}

async fn records(app: &TestApp, query: &str) -> Vec<String> {
    board(app, &format!("/records{query}")).await
}

/// The caller's rank, and the number of runners.
async fn standing(runner: &Actor, query: &str) -> (Option<i64>, i64) {
    let path = format!("/leaderboards/slack-clone/me{query}");
    let standing = runner.get(&path).await.ok(200);
    assert_eq!(
        standing["rank"],
        standing["best"].get("rank").cloned().unwrap_or_default()
    );
    let of = standing["of"].as_i64().expect("a number");
    (standing["rank"].as_i64(), of)
}

/// Asks again with this tag.
async fn ask_again(app: &TestApp, path: &str, tag: &str) -> Answer {
    let request = app.visitor().request(Method::GET, path);
    answer(request.header(header::IF_NONE_MATCH, tag)).await
}

fn tag(answer: &Answer) -> String {
    let tag = answer.headers[header::ETAG].to_str().expect("text");
    assert!(tag.starts_with("W/\""), "weak: {tag}");
    tag.to_owned()
}

/// The board's tag, which must differ from the one before.
async fn new_tag(app: &TestApp, before: &str) -> String {
    let answer = ask_again(app, "/leaderboards/slack-clone", before).await;
    let tag = tag(&answer);
    answer.ok(200);
    assert_ne!(tag, before);
    let unchanged = ask_again(app, "/leaderboards/slack-clone", &tag).await;
    assert_eq!(unchanged.body, "", "304 has no body");
    unchanged.ok(304);
    tag
}

/// Asserts that the stored boards equal the boards that the database computes from the runs.
pub async fn assert_true(client: &Client) {
    let rows = client
        .query("select c::text from private.check_boards() as c", &[])
        .await
        .expect("a check");
    let wrong: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn a_board_follows_whatever_happens_to_a_best() {
    let app = TestApp::start().await;
    app.stop_clock().await;
    let dashboard = app.sql().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let of_bob = run(&app, &bob, "Go", "39 minutes").await;
    let slow = run(&app, &alice, "Rust, Postgres", "40 minutes").await;
    let fast = run(&app, &alice, "postgres + rust", "38 minutes").await;
    assert_eq!(board(&app, "").await, [""; 0]);
    assert_eq!(standing(&alice, "").await, (None, 0));

    decide(&dashboard, &of_bob, "APPROVED").await;
    let mut tag = new_tag(&app, "W/\"0\"").await;
    decide(&dashboard, &slow, "APPROVED").await;
    assert_eq!(board(&app, "").await, ["1 bob 39", "2 alice 40"]);
    assert_eq!(standing(&alice, "").await, (Some(2), 2));
    assert_eq!(records(&app, "").await, ["bob 39"]);
    tag = new_tag(&app, &tag).await;

    decide(&dashboard, &fast, "APPROVED").await;
    assert_eq!(board(&app, "").await, ["1 alice 38", "2 bob 39"]);
    assert_eq!(
        board(&app, "?techStack=Postgres,%20RUST").await,
        ["1 alice 38"]
    );
    assert_eq!(standing(&alice, "").await, (Some(1), 2));
    assert_eq!(standing(&bob, "").await, (Some(2), 2));
    assert_eq!(records(&app, "").await, ["alice 38", "bob 39"]);
    assert_eq!(
        records(&app, "?techStack=rust%26postgres").await,
        ["alice 38", "alice 40"]
    );
    tag = new_tag(&app, &tag).await;

    // After reopening and rejection, the next best run is on the board again.
    decide(&dashboard, &fast, "PENDING").await;
    assert_eq!(board(&app, "").await, ["1 bob 39", "2 alice 40"]);
    tag = new_tag(&app, &tag).await;
    decide(&dashboard, &fast, "REJECTED").await;
    assert_eq!(
        board(&app, "?techStack=postgres,rust").await,
        ["1 alice 40"]
    );
    assert_eq!(standing(&alice, "").await, (Some(2), 2));
    assert_eq!(records(&app, "").await, ["bob 39"]);
    let unchanged = ask_again(&app, "/leaderboards/slack-clone", &tag).await;
    unchanged.ok(304);

    // A moderator corrects a time, and then the stack.
    edit(
        &dashboard,
        &format!("update public.sessions set end_time = end_time + interval '1 minute' where id = '{slow}'"),
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 bob 39", "2 alice 41"]);
    tag = new_tag(&app, &tag).await;
    edit(
        &dashboard,
        &format!("update public.sessions set tech_stack = 'Zig' where id = '{slow}'"),
    )
    .await;
    assert_eq!(board(&app, "?techStack=postgres,rust").await, [""; 0]);
    assert_eq!(board(&app, "?techStack=zig").await, ["1 alice 41"]);
    assert_eq!(standing(&alice, "?techStack=ZIG").await, (Some(1), 1));
    tag = new_tag(&app, &tag).await;
    // Another spelling leads to the same board.
    edit(
        &dashboard,
        &format!("update public.sessions set tech_stack = 'ZIG' where id = '{slow}'"),
    )
    .await;
    tag = new_tag(&app, &tag).await;

    edit(
        &dashboard,
        "insert into public.bans (user_id) select id from public.users where username = 'bob'",
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 alice 41"]);
    assert_eq!(records(&app, "").await, ["alice 41"]);
    assert_eq!(standing(&alice, "").await, (Some(1), 1));
    bob.get("/leaderboards/slack-clone/me")
        .await
        .problem(403, "account_banned");
    tag = new_tag(&app, &tag).await;
    edit(
        &dashboard,
        "delete from public.bans using public.users where id = user_id and username = 'bob'",
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 bob 39", "2 alice 41"]);
    assert_eq!(records(&app, "").await, ["bob 39"]);
    assert_eq!(standing(&bob, "").await, (Some(1), 2));
    tag = new_tag(&app, &tag).await;

    // A run that is not a best may still be a record, and the board shows names. So both changes give a new tag.
    decide(&dashboard, &fast, "PENDING").await;
    decide(&dashboard, &fast, "APPROVED").await;
    tag = new_tag(&app, &tag).await;
    edit(
        &dashboard,
        "update public.users set username = 'Ada' where username = 'alice'",
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 Ada 38", "2 bob 39"]);
    tag = new_tag(&app, &tag).await;

    edit(
        &dashboard,
        "delete from public.users where username = 'Ada'",
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 bob 39"]);
    assert_eq!(records(&app, "").await, ["bob 39"]);
    assert_eq!(board(&app, "?techStack=zig").await, [""; 0]);
    new_tag(&app, &tag).await;
    assert_true(&dashboard).await;
}

#[tokio::test]
async fn boards_of_a_challenge_are_there_while_it_is_ranked_and_stay_when_it_is_withdrawn() {
    let app = TestApp::start().await;
    app.stop_clock().await;
    let dashboard = app.sql().await;
    let alice = app.runner("alice").await;
    let session = run(&app, &alice, "Rust", "40 minutes").await;
    decide(&dashboard, &session, "APPROVED").await;
    let anybody = app.database.role("anon", None).await;
    let seen = async || -> i64 {
        let count = "select count(*) from public.personal_bests";
        anybody.query_one(count, &[]).await.expect("a count").get(0)
    };
    let before = app.visitor().get("/leaderboards/slack-clone").await;
    assert_eq!(seen().await, 2);

    edit(
        &dashboard,
        "update public.challenges set ranked = false where slug = 'slack-clone'",
    )
    .await;
    for path in ["", "/me", "/records"] {
        let path = format!("/leaderboards/slack-clone{path}");
        let refused = alice.get(&path).await;
        refused.problem(404, "challenge_not_ranked");
    }
    // The board does not stay in a cache, in a profile, or in PostgREST either.
    ask_again(&app, "/leaderboards/slack-clone", &tag(&before))
        .await
        .problem(404, "challenge_not_ranked");
    let profile = app.visitor().get("/users/alice").await.ok(200);
    assert_eq!(profile["personalBests"], json!([]));
    assert_eq!(seen().await, 0);

    edit(
        &dashboard,
        "update public.challenges set ranked = true, active = false where slug = 'slack-clone'",
    )
    .await;
    assert_eq!(board(&app, "").await, ["1 alice 40"]);
    // A challenge that no runner has run yet may be a secret. The API does not reveal it before it is open.
    edit(
        &dashboard,
        "insert into public.challenges (slug, title, active) values ('secret', 'Secret', false)",
    )
    .await;
    let secret = app.visitor().get("/leaderboards/secret").await;
    secret.problem(404, "challenge_not_found");
    edit(
        &dashboard,
        "update public.challenges set active = true where slug = 'secret'",
    )
    .await;
    let empty = app.visitor().get("/leaderboards/secret").await.ok(200);
    assert_eq!(empty, json!({ "items": [], "nextCursor": null }));
    edit(
        &dashboard,
        "delete from public.challenges where slug = 'secret'",
    )
    .await;
    assert_true(&dashboard).await;
}

/// Adds runs all at once, as an import in the dashboard does. Each run belongs to a runner of its own.
async fn import(dashboard: &Client, prefix: &str, times_ms: impl IntoIterator<Item = i64>) {
    let times: Vec<i64> = times_ms.into_iter().collect();
    dashboard
        .execute(
            "with runs as (
               select private.uuid_v7() as user_id, private.uuid_v7() as session_id, $1 || n as name, ms,
                      timestamptz '2026-01-01' + n * interval '1 minute' as end_time,
                      (array['Rust', 'Go', 'Elixir'])[1 + n % 3] as tech_stack
                 from unnest($2::bigint[]) with ordinality as run (ms, n)
             ),
             users as (insert into public.users (id, username) select user_id, name from runs),
             sessions as (
               insert into public.sessions
                 (id, user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
               select session_id, user_id, c.id, tech_stack, end_time - ms * interval '1 millisecond', end_time,
                      end_time + interval '1 day', 'completed'
                 from runs, public.challenges as c where slug = 'slack-clone'
             )
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, video_url, status)
             select session_id, user_id, c.id, tech_stack, private.tech_stack_key(tech_stack), ms, end_time,
                    'https://youtu.be/abc', 'APPROVED'
               from runs, public.challenges as c where slug = 'slack-clone'",
            &[&prefix, &times],
        )
        .await
        .expect("an import");
}

/// Reads every page by cursor, and calls `between` after each of them.
async fn walk(app: &TestApp, query: &str, mut between: impl AsyncFnMut()) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/leaderboards/slack-clone?{query}{cursor}");
        let page = app.visitor().get(&path).await.ok(200);
        items.extend(page["items"].as_array().expect("items").clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
        between().await;
    }
}

#[tokio::test]
async fn equal_times_share_a_rank_also_across_pages() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    let times = [5, 3, 3, 8, 3, 3, 1, 3, 8, 9];
    import(&dashboard, "runner_", times.map(|minutes| minutes * 60_000)).await;
    let ranks = [1, 2, 2, 2, 2, 2, 7, 8, 8, 10];
    for limit in [1, 2, 3, 4, 7, 100] {
        let items = walk(&app, &format!("limit={limit}"), async || {}).await;
        let seen: Vec<_> = items
            .iter()
            .map(|item| item["rank"].as_i64().expect("a rank"))
            .collect();
        assert_eq!(seen, ranks, "by {limit}");
        // Of runs with the same time, the earlier one stands first.
        let names: Vec<_> = items[1..6]
            .iter()
            .map(|item| text(item, "/user/username"))
            .collect();
        assert_eq!(
            names,
            ["runner_2", "runner_3", "runner_5", "runner_6", "runner_8"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_meets_each_run_once_while_a_thousand_arrive() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    // Many runs share a time.
    import(
        &dashboard,
        "early_",
        (0..300).map(|n| 600_000 + n / 5 * 100),
    )
    .await;
    let arriving = async || {
        let (first, second) = (app.sql().await, app.sql().await);
        let imports = |client: Client, prefix: &'static str| async move {
            for batch in 0..50 {
                let times = (0..10).map(|n| 590_000 + (batch * 7919 + n * 104_729) % 40_000);
                import(&client, &format!("{prefix}{batch}_"), times).await;
            }
        };
        race([imports(first, "a_"), imports(second, "b_")])
            .answers()
            .await;
    };
    let walking = async || walk(&app, "limit=7", async || tokio::task::yield_now().await).await;
    let ((), mut items) = tokio::join!(arriving(), walking());
    // Chance decides how the walk and the arrivals met. So there is one more walk, with arrivals between all of its
    // pages.
    let client = app.sql().await;
    let mut batch = 0;
    let interleaved = walk(&app, "limit=50", async || {
        batch += 1;
        let times = (0..10).map(|n| 590_000 + n * 3_997 + batch);
        import(&client, &format!("c_{batch}_"), times).await;
    });
    for seen in [std::mem::take(&mut items), interleaved.await] {
        let early: Vec<_> = seen
            .iter()
            .map(|item| text(item, "/user/username"))
            .filter(|name| name.starts_with("early_"))
            .collect();
        let expected: Vec<_> = (1..=300).map(|n| format!("early_{n}")).collect();
        assert_eq!(early, expected);
        let sessions: BTreeSet<_> = seen.iter().map(|item| text(item, "/sessionId")).collect();
        assert_eq!(sessions.len(), seen.len(), "no item comes twice");
    }
    assert!(batch > 20);
    let all = walk(&app, "limit=100", async || {}).await;
    assert_eq!(all.len(), 1300 + batch as usize * 10);
    assert_true(&dashboard).await;
}

#[tokio::test]
async fn a_profile_shows_what_counts() {
    let app = TestApp::start().await;
    app.stop_clock().await;
    let dashboard = app.sql().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let nothing = app.visitor().get("/users/Alice").await.ok(200);
    assert_eq!(
        nothing,
        json!({
            "id": alice.id, "username": "alice", "role": "runner", "createdAt": nothing["createdAt"],
            "approvedRuns": 0, "challenges": 0, "firstPlaces": 0, "personalBests": [],
        })
    );
    for (runner, tech_stack, time) in [
        (&alice, "Go", "50 minutes"),
        (&alice, "Rust", "40 minutes"),
        (&bob, "Go", "30 minutes"),
    ] {
        let session = run(&app, runner, tech_stack, time).await;
        decide(&dashboard, &session, "APPROVED").await;
    }
    let profile = app.visitor().get("/users/ALICE").await.ok(200);
    assert_eq!(
        (
            &profile["approvedRuns"],
            &profile["challenges"],
            &profile["firstPlaces"]
        ),
        (&json!(2), &json!(1), &json!(1))
    );
    let bests = |profile: &Value| -> Vec<Value> {
        let bests = profile["personalBests"].as_array().expect("bests");
        let facts = ["challenge", "techStackKey", "rank", "of", "totalTime"];
        bests
            .iter()
            .map(|best| facts.iter().map(|fact| best[*fact].clone()).collect())
            .collect()
    };
    assert_eq!(
        bests(&profile),
        [
            json!(["slack-clone", null, 2, 2, "40m 00s"]),
            json!(["slack-clone", "go", 2, 2, "50m 00s"]),
            json!(["slack-clone", "rust", 1, 1, "40m 00s"]),
        ]
    );

    edit(
        &dashboard,
        "insert into public.bans (user_id) select id from public.users where username = 'alice'",
    )
    .await;
    let banned = app.visitor().get("/users/alice").await.ok(200);
    assert!(!banned.to_string().contains("banned"), "{banned}");
    assert_eq!(banned["approvedRuns"], 0);
    assert_eq!(bests(&banned), [Value::Null; 0]);
    let profile = app.visitor().get("/users/bob").await.ok(200);
    assert_eq!(
        bests(&profile)[0],
        json!(["slack-clone", null, 1, 1, "30m 00s"])
    );
    for unknown in ["nobody", "a%00", "%F0%9F%A6%80", "x%2Fy"] {
        let answer = app.visitor().get(&format!("/users/{unknown}")).await;
        assert!(answer.status.is_client_error(), "{unknown}: {answer:?}");
    }
    let unknown = app.visitor().get("/users/nobody").await;
    unknown.problem(404, "user_not_found");
}

#[tokio::test]
async fn what_is_asked_amiss_is_refused_and_a_board_that_nobody_is_on_is_empty() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    import(&dashboard, "runner_", [60_000, 60_000, 70_000]).await;
    let visitor = app.visitor();
    let unknown = visitor.get("/leaderboards/nothing").await;
    unknown.problem(404, "challenge_not_found");
    for path in ["", "/records", "/me"] {
        let path = format!("/leaderboards/slack-clone{path}");
        for stack in [
            "".to_owned(),
            "%20".to_owned(),
            "%E2%80%8B".to_owned(),
            "x".repeat(101),
        ] {
            let runner = if path.ends_with("me") {
                app.runner(&format!("asks_{}", stack.len())).await
            } else {
                visitor.clone()
            };
            let faults = runner
                .get(&format!("{path}?techStack={stack}"))
                .await
                .faults();
            assert_eq!(faults[0].0, "techStack", "{path}?techStack={stack}");
        }
    }
    for (cursor, code) in [
        ("x", "format"),
        ("", "format"),
        ("AAAA", "format"),
        ("MS4y", "format"),
        // This cursor is long enough to name a list, but it names none of ours.
        ("OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjEuMDAw", "other_list"),
    ] {
        for path in ["", "/records"] {
            let path = format!("/leaderboards/slack-clone{path}?cursor={cursor}");
            let answer = visitor.get(&path).await;
            assert_eq!(answer.faults(), [("cursor".to_owned(), code.to_owned())]);
        }
    }
    for limit in ["0", "101", "-1", "ten"] {
        let path = format!("/leaderboards/slack-clone?limit={limit}");
        assert_eq!(visitor.get(&path).await.faults()[0].0, "limit");
    }
    visitor
        .get("/leaderboards/slack-clone/me")
        .await
        .problem(401, "missing_token");

    // Any stack may have a board. It is no mistake to ask for one without runs.
    for path in [
        "?techStack=COBOL",
        "/records?techStack=COBOL",
        "?techStack=%F0%9F%A6%80",
    ] {
        let empty = visitor
            .get(&format!("/leaderboards/slack-clone{path}"))
            .await;
        assert_eq!(tag(&empty), "W/\"0\"");
        assert_eq!(empty.ok(200), json!({ "items": [], "nextCursor": null }));
    }
    // Tags of other answers, tags of other boards, and texts that are no tags.
    let path = "/leaderboards/slack-clone";
    let current = tag(&visitor.get(path).await);
    for known in ["W/\"0\"", "W/\"x\"", "\"\"", "9999999999999999999", ","] {
        ask_again(&app, path, known).await.ok(200);
    }
    for known in [
        format!("\"other\", {current}"),
        current.replace("W/", ""),
        "*".to_owned(),
    ] {
        ask_again(&app, path, &known).await.ok(304);
        ask_again(&app, "/leaderboards/slack-clone/records", &known)
            .await
            .ok(304);
    }
}

#[tokio::test]
async fn boards_follow_synonyms_that_are_added_changed_and_removed() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let hers = run(&app, &alice, "ReactJS / PL/SQL", "10 minutes").await;
    let his = run(&app, &bob, "react and pl/sql", "20 minutes").await;
    for session in [&hers, &his] {
        decide(&dashboard, session, "APPROVED").await;
    }
    let names = async |stack: &str| {
        let lines = board(&app, &format!("?techStack={stack}")).await;
        let names = lines
            .iter()
            .map(|line| line.split(' ').nth(1).expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("react,pl/sql").await, ["bob"]);
    edit(
        &dashboard,
        "insert into public.tech_stack_synonyms (spelling, name) values (' ReactJS ', 'React')",
    )
    .await;
    for spelling in ["react,pl/sql", "REACTJS,PL/SQL"] {
        assert_eq!(names(spelling).await, ["alice", "bob"], "{spelling}");
    }
    edit(
        &dashboard,
        "update public.tech_stack_synonyms set spelling = 'react.js' where spelling = 'reactjs'",
    )
    .await;
    assert_eq!(names("react,pl/sql").await, ["bob"]);
    assert_eq!(names("reactjs,pl/sql").await, ["alice"]);
    edit(
        &dashboard,
        "delete from public.tech_stack_synonyms where spelling = 'pl/sql'",
    )
    .await;
    assert_eq!(
        names("react,pl/sql").await,
        ["bob"],
        "the stack has three names now"
    );
    let keys = first_column(
        &dashboard,
        "select tech_stack_key from public.submissions order by total_ms",
    )
    .await;
    assert_eq!(keys, ["pl,reactjs,sql", "pl,react,sql"]);
    let wrong = first_column(&dashboard, "select private.check_boards()::text").await;
    assert_eq!(wrong, [""; 0], "nothing is wrong");

    // An edit of the key itself does not stay. No name is a spelling of another one.
    edit(
        &dashboard,
        "update public.sessions set tech_stack_key = 'zig'",
    )
    .await;
    let keys = first_column(
        &dashboard,
        "select tech_stack_key from public.sessions order by total_ms",
    )
    .await;
    assert_eq!(keys, ["pl,reactjs,sql", "pl,react,sql"]);
    for chain in [("golang 2", "golang"), ("node.js", "node")] {
        let insert = format!(
            "insert into public.tech_stack_synonyms (spelling, name) values ('{}', '{}')",
            chain.0, chain.1
        );
        refused(&dashboard, &insert, "synonym_chain").await;
    }
    let audited = first_column(
        &dashboard,
        "select action from private.audit_log where action like 'tech_stack_synonym.%' order by id",
    )
    .await;
    let expected = ["added", "changed", "deleted"].map(|verb| format!("tech_stack_synonym.{verb}"));
    assert_eq!(audited, expected);
}
