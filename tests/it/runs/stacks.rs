//! Tech stacks: their spellings, and which spellings mean the same.

use serde_json::json;

use crate::support::{
    actor::text,
    app::TestApp,
    cluster::{done, first_column, refused},
    race::race,
};

#[tokio::test]
async fn spellings_of_one_tech_stack_meet_in_its_key() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let long = "🦀".repeat(100);
    for (stack, key) in [
        ("Rust, Postgres", "postgresql,rust"),
        ("postgres + RUST", "postgresql,rust"),
        ("Rust/Postgres", "postgresql,rust"),
        ("rust & postgres & Rust,,", "postgresql,rust"),
        ("Ｒｕｓｔ，Postgres", "postgresql,rust"),
        ("  Next.js  ", "next.js"),
        ("C#", "c#"),
        ("Rust; Postgres | Go", "go,postgresql,rust"),
        ("Rust and Postgres", "postgresql,rust"),
        ("Rust、Postgres", "postgresql,rust"),
        ("Android", "android"),
        ("A+", "a+"),
        ("A+, Rust + A+", "a+,rust"),
        ("PL/SQL", "pl/sql"),
        ("Rust/PL/SQL & xpl/sql", "pl/sql,rust,sql,xpl"),
        ("NodeJS", "node.js"),
        ("node js + Node.js", "node.js"),
        ("Golang, Go", "go"),
        ("STRASSE, Straße", "strasse"),
        ("node\u{a0}\u{a0}js", "node.js"),
        ("A+ + B", "a+,b"),
        ("C+++Rust", "c++,rust"),
        ("C++ + Rust", "c++,rust"),
        ("Rust and and Go", "go,rust"),
        (",+/&", ",+/&"),
        (&long, &long),
    ] {
        let session = runner
            .start_with(json!({ "techStack": stack }))
            .await
            .ok(201);
        assert_eq!(
            session["techStack"], stack,
            "the runner's own words are kept"
        );
        let id = text(&session, "/id");
        let stored: String = app
            .sql()
            .await
            .query_one(
                "select tech_stack_key from public.sessions where id::text = $1",
                &[&id],
            )
            .await
            .expect("a session")
            .get(0);
        assert_eq!(stored, key, "{stack}");
        runner.end(&id).await.ok(200);
    }
}

#[tokio::test]
async fn a_tech_stack_has_one_to_a_hundred_characters_and_is_not_blank() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for (stack, code) in [
        (json!(""), "too_short"),
        (json!("x".repeat(101)), "too_long"),
        (json!("   "), "pattern"),
        (json!("\t\n"), "pattern"),
        (json!("\u{a0}\u{3000}"), "pattern"),
        (json!("Ru\u{0}st"), "nul_character"),
        (json!(null), "type"),
        (json!(["Rust"]), "type"),
    ] {
        let faults = runner
            .start_with(json!({ "techStack": stack }))
            .await
            .faults();
        assert!(
            faults.contains(&("techStack".to_owned(), code.to_owned())),
            "{stack}: {faults:?}"
        );
    }
}

#[tokio::test]
async fn two_spellings_of_a_stack_share_a_board_and_two_stacks_do_not() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for (stack, key) in [
        ("Rust + Postgres", "postgresql,rust"),
        ("postgres,\u{200B} RUST", "postgresql,rust"),
        ("Ruby  on   Rails", "ruby on rails"),
        ("C", "c"),
        ("C++", "c++"),
        ("Rust+C++/Go", "c++,go,rust"),
        ("STRASSE & Straße", "strasse"),
    ] {
        let session = runner
            .start_with(json!({ "techStack": stack }))
            .await
            .ok(201);
        let stored = app
            .sql()
            .await
            .query_one(
                "select tech_stack, tech_stack_key from public.sessions where status = 'running'",
                &[],
            )
            .await
            .expect("a session");
        assert_eq!((stored.get(0), stored.get(1)), (stack, key));
        runner
            .post("/sessions/abandon", json!({ "sessionId": session["id"] }))
            .await
            .ok(200);
    }
}

#[tokio::test]
async fn a_stack_that_nobody_can_see_or_that_deceives_is_refused() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let expands = "\u{FDFA}".repeat(100);
    for stack in [
        "\u{200B}",
        "Ru\u{1}st",
        "\u{1b}[31mred",
        "\u{202E}tsuR",
        expands.as_str(),
    ] {
        let refused = runner.start_with(json!({ "techStack": stack })).await;
        assert_eq!(
            refused.faults(),
            [("techStack".to_owned(), "invalid".to_owned())],
            "{stack:?}"
        );
    }
}

#[tokio::test]
async fn a_start_never_waits_for_an_administrator_and_its_key_is_right_at_the_end() {
    let app = TestApp::start_with(|config| config.db_wait_ms = 500).await;
    let keys = async || {
        let keys = "select tech_stack_key from public.sessions order by id";
        first_column(&app.sql().await, keys).await
    };
    let mut sessions = Vec::new();
    let gate = app
        .hold("insert into public.tech_stack_synonyms (spelling, name) values ('rs', 'rust')")
        .await;
    for number in 0..8 {
        let runner = app.runner(&format!("runner-{number}")).await;
        let start = json!({ "techStack": "RS + Go" });
        let session = runner.start_with(start).await.ok(201);
        sessions.push((runner, text(&session, "/id")));
    }
    gate.release().await;
    assert_eq!(keys().await, ["go,rs"; 8], "they read the old synonyms");
    for (runner, session) in &sessions {
        runner.end(session).await.ok(200);
    }
    assert_eq!(keys().await, ["go,rust"; 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn starts_ends_and_approvals_while_synonyms_change_neither_fail_nor_keep_an_old_key() {
    let app = TestApp::start_wide().await;
    let mona = app.user_with_role("mona", "moderator").await;
    let mut runners = Vec::new();
    for number in 0..6 {
        runners.push(app.runner(&format!("runner-{number}")).await);
    }
    let dashboards = [app.sql().await, app.sql().await];
    let edits = race(dashboards.into_iter().enumerate().map(|(editor, dashboard)| {
        async move {
            for turn in 0..20 {
                // Each change is a transaction of its own, as the Table Editor sends it. A transaction of several
                // changes would hold locks of boards when it comes to its next submissions. A review could be the
                // victim of that deadlock.
                for change in [
                    format!("insert into public.tech_stack_synonyms (spelling, name) values ('rs{editor}', 'rust{turn}')"),
                    format!("update public.tech_stack_synonyms set name = 'crab{turn}' where spelling = 'rs{editor}'"),
                    format!("delete from public.tech_stack_synonyms where spelling = 'rs{editor}'"),
                ] {
                    done(&dashboard, &change).await;
                }
            }
            let last = format!(
                "insert into public.tech_stack_synonyms (spelling, name) values ('rs{editor}', 'rust')"
            );
            done(&dashboard, &last).await;
        }
    }));
    let runs = race(runners.into_iter().map(|runner| {
        let mona = mona.clone();
        async move {
            for _ in 0..6 {
                let start = json!({ "techStack": "RS0, RS1" });
                let session = text(&runner.start_with(start).await.ok(201), "/id");
                let ended = runner.end(&session).await.ok(200);
                let submission = text(&ended, "/submission/id");
                mona.review(&submission, "APPROVED", 1).await.ok(200);
            }
        }
    }));
    runs.answers().await;
    edits.answers().await;
    let sql = app.sql().await;
    let keys = "select distinct s.tech_stack_key || ' ' || u.tech_stack_key
                  from public.sessions as s join public.submissions as u on u.session_id = s.id";
    assert_eq!(first_column(&sql, keys).await, ["rust rust"]);
    let wrong = first_column(&sql, "select private.check_boards()::text").await;
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_and_a_change_of_synonyms_take_their_locks_in_one_order() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = text(
        &runner
            .start_with(json!({ "techStack": "RS" }))
            .await
            .ok(201),
        "/id",
    );
    let ended = runner.end(&session).await.ok(200);
    let submission = text(&ended, "/submission/id");
    // A review in the dashboard. It has locked the submission, and will need the session next.
    let review = app.sql().await;
    let lock = format!(
        "begin; select from public.submissions where id = '{submission}' for no key update"
    );
    done(&review, &lock).await;
    let gate = app.hold("select").await;
    let edit = race([{
        let dashboard = app.sql().await;
        async move {
            let synonym =
                "insert into public.tech_stack_synonyms (spelling, name) values ('rs', 'rust')";
            dashboard.batch_execute(synonym).await
        }
    }]);
    gate.until_waiting(1).await;
    let approve = format!(
        "update public.submissions set status = 'APPROVED' where id = '{submission}'; commit"
    );
    done(&review, &approve).await;
    edit.answers().await.remove(0).expect("a synonym");
    let keys = first_column(
        &app.sql().await,
        "select tech_stack_key from public.submissions",
    )
    .await;
    assert_eq!(keys, ["rust"]);
}

#[tokio::test]
async fn a_synonym_reads_only_the_stacks_that_have_it_and_takes_no_time_for_the_others() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    runner.start("freestyle").await;
    let dashboard = app.sql().await;
    // PostgreSQL has no statistics of these twenty thousand stacks. A plan that compares each of them with each other
    // would take minutes.
    let fill = "
        set session_replication_role = replica;
        insert into public.sessions
          (user_id, challenge_id, tech_stack, tech_stack_key, status, start_time, end_time, deadline)
        select user_id, challenge_id, 'Stack ' || n, 'stack ' || n, 'incomplete', start_time, start_time, deadline
          from public.sessions, generate_series(1, 20000) as n;
        set session_replication_role = origin;
        set statement_timeout = '60s'";
    done(&dashboard, fill).await;
    let synonym =
        "insert into public.tech_stack_synonyms (spelling, name) values ('stack 77', 'pile')";
    done(&dashboard, synonym).await;
    let keys = "select tech_stack_key from public.sessions where tech_stack_key not like 'stack %' order by 1";
    assert_eq!(
        first_column(&dashboard, keys).await,
        ["pile", "postgresql,rust"]
    );
    done(&dashboard, "truncate public.tech_stack_synonyms").await;
    assert_eq!(first_column(&dashboard, keys).await, ["postgres,rust"]);
}

#[tokio::test]
async fn the_name_of_a_synonym_has_a_board_of_its_own() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    let insert = |rows: &str| {
        format!("insert into public.tech_stack_synonyms (spelling, name) values {rows}")
    };
    for split in [
        "('plus', 'a+b')",
        "('oracleplsql', 'x;y')",
        "('both', 'a and b')",
    ] {
        refused(&dashboard, &insert(split), "synonym_split").await;
    }
    for blank in ["('/', '/')", "(' + ', 'plus')", "('slash', '/')"] {
        dashboard
            .batch_execute(&insert(blank))
            .await
            .expect_err(blank);
    }
    done(
        &dashboard,
        &insert("('a/b', 'a/b'), ('ab', 'a/b'), ('cpp', 'c++'), ('oracleplsql', 'pl/sql')"),
    )
    .await;
    for needed in [
        "delete from public.tech_stack_synonyms where spelling = 'pl/sql'",
        "update public.tech_stack_synonyms set spelling = 'a/c' where spelling = 'a/b'",
    ] {
        refused(&dashboard, needed, "synonym_split").await;
    }
    done(
        &dashboard,
        "delete from public.tech_stack_synonyms where name = 'pl/sql'",
    )
    .await;
}
