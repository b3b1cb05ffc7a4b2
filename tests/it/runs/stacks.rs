//! Tech stacks: their spellings, and which spellings mean the same.

use serde_json::json;

use crate::support::{actor::text, app::TestApp};

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
