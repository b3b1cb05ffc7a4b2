//! Challenges loaded from files, and the messages about wrong files.

use std::{collections::BTreeSet, fs, path::Path};

use secrecy::ExposeSecret;
use serde_json::json;
use speedcoding::operate::{challenge_file, challenges};

use crate::support::{
    actor::text,
    app::TestApp,
    cluster::{Database, connect, done, first_column},
    program::Scratch,
    race::race,
};

use super::{load, loaded, puzzle, variants};

/// The example that explains the format.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("challenges/word-count.toml");
    fs::read_to_string(path).expect("the example")
}

#[tokio::test]
async fn the_example_loads_and_can_be_run() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    let told = loaded(&app, &scratch, &example()).await;
    assert_eq!(
        told,
        "word-count is new, 3 milestones added, 2 inputs added.\n"
    );
    let shown = app.visitor().get("/challenges/word-count").await.ok(200);
    assert_eq!(
        (&shown["ordered"], &shown["requiredMilestones"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(shown["maxDurationMs"], (3 * 60 + 30) * 60 * 1000);
    assert_eq!(shown["milestones"][1]["verification"], "answer");

    let runner = app.runner("alice").await;
    let verifier = app.user_with_role("vera", "verifier").await;
    let session = runner.start("word-count").await;
    runner.verify(&session, 1).await.ok(200);
    let right = match text(&runner.input(&session, 2).await.ok(200), "/input").as_str() {
        "the quick brown fox jumps over the lazy dog\n" => "the: 2",
        _ => "to: 3",
    };
    assert_eq!(
        runner.solve(&session, 2, right).await.ok(200)["passed"],
        true
    );
    runner.verify(&session, 3).await.ok(200);
    verifier.attest(&session, 3, "pass").await.ok(200);
    assert_eq!(runner.end(&session).await.ok(200)["status"], "completed");

    // A second load changes nothing, although the challenge has been run meanwhile.
    let before = app.dump().await;
    let told = loaded(&app, &scratch, &example()).await;
    assert_eq!(told, "word-count is already loaded; nothing has changed.\n");
    assert_eq!(app.dump().await, before);
}

#[tokio::test]
async fn all_mistakes_are_told_at_once_with_line_and_field() {
    let scratch = Scratch::new();
    let long = "x".repeat(201);
    let (too_long, answer) = ("x".repeat(1_000_001), "x".repeat(1_001));
    let description = "x".repeat(20_001);
    let file = format!(
        r#"slug = "Word Count"
titel = "x"
description "no equals sign"
required_milestones = 9
ordered = "yes"
max_duration = "a day"
active = yes
ranked = 1

[[milestones]]
number = 2
title = ""
verification = "judge"

[[milestones]]
number = 2
title = 7
verification = "answer"
hint = "none"

[[milestones]]
number = 5
title = "{long}"
verification = "manual"
  [[milestones.variants]]
  input = "riddle"
  answer = "solution"

[[milestones]]
number = 0
title = "Fine"
description = "{description}"
verification = "answer"
  [[milestones.variants]]
  input = "riddle"
  [[milestones.variants]]
  input = "riddle"
  answer = "sol\u0000ution"
  points = 3
  [[milestones.variants]]
  input = ""
  answer = 42
  [[milestones.variants]]
  input = "{too_long}"
  answer = "{answer}"

[[milestones]]
title = "Without a number"
number = "six"
verification = "answer"
variants = []
"#
    );
    fs::write(scratch.path("bad.toml"), file).expect("a file");
    // The mistakes are found without a database, so the program starts none.
    let load = scratch.program(&["challenges", "load", "bad.toml"]);
    let ended = load.finish().await;
    let milestone_fields = "number, title, description, verification, variants";
    let expected = [
        "1: slug: must be lower-case words, such as slack-clone",
        "1: title: is missing",
        "2: titel: is unknown here; the known fields are slug, title, description, required_milestones, ordered, ranked, \
         max_duration, active, milestones",
        "3: description: has no value: write name = value",
        "4: required_milestones: must be at most the number of milestones, 5",
        "5: ordered: must be true or false",
        "6: max_duration: must be from one minute to 30 days, such as \"24h\" or \"1h 30m\"",
        "7: active: string values must be quoted, expected literal string",
        "8: ranked: must be true or false",
        "11: milestones[1].number: leaves a gap: numbers start at 1, and 1 is missing",
        "12: milestones[1].title: is empty",
        "13: milestones[1].verification: must be manual, answer or verifier",
        "15: milestones[2].variants: is missing: an answer needs inputs, so write [[milestones.variants]] for each input",
        "16: milestones[2].number: is the same as on line 11",
        "17: milestones[2].title: must be text: write it in quotes",
        &format!(
            "19: milestones[2].hint: is unknown here; the known fields are {milestone_fields}"
        ),
        "22: milestones[3].number: leaves a gap: numbers start at 1, and 3 is missing",
        "23: milestones[3].title: has 201 characters; the maximum is 200",
        "25: milestones[3].variants: belongs only to milestones with verification = \"answer\"",
        "30: milestones[4].number: must be a whole number from 1 to 1000",
        "32: milestones[4].description: has 20001 characters; the maximum is 20000",
        "34: milestones[4].variants[1].answer: is missing",
        "37: milestones[4].variants[2].input: is the same as on line 35",
        "38: milestones[4].variants[2].answer: has the character U+0000, which the database cannot store",
        "39: milestones[4].variants[2].points: is unknown here; the known fields are input, answer",
        "41: milestones[4].variants[3].input: is empty",
        "42: milestones[4].variants[3].answer: must be text: write it in quotes",
        "44: milestones[4].variants[4].input: has 1000001 characters; the maximum is 1000000",
        "45: milestones[4].variants[4].answer: has 1001 characters; the maximum is 1000",
        "49: milestones[5].number: must be a whole number from 1 to 1000",
        "51: milestones[5].variants: is empty: write [[milestones.variants]] for each item",
    ];
    let mut told: Vec<_> = ended.stderr.lines().collect();
    let summary = format!(
        "speedcoding: bad.toml has {} mistakes; nothing is loaded",
        expected.len()
    );
    assert_eq!(told.pop(), Some(summary.as_str()));
    assert_eq!(told, expected.map(|mistake| format!("bad.toml:{mistake}")));
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""));
    assert!(!scratch.path("data").exists());
    assert!(!ended.stderr.contains("riddle") && !ended.stderr.contains("solution"));
}

#[tokio::test]
async fn what_has_no_end_is_no_file_of_a_challenge() {
    let scratch = Scratch::new();
    // This file consists of a hole, so it takes no room on the disk.
    let large = fs::File::create(scratch.path("large.toml")).expect("a file");
    large.set_len(10 << 30).expect("a size");
    fs::create_dir(scratch.path("folder")).expect("a folder");
    for (file, told) in [
        (
            "/dev/zero",
            "/dev/zero is larger than 256 MiB, so it is not the file of a challenge",
        ),
        (
            "large.toml",
            "large.toml is larger than 256 MiB, so it is not the file of a challenge",
        ),
        ("folder", "folder"),
        ("/dev/null", "/dev/null has 3 mistakes"),
    ] {
        let load = scratch.program(&["challenges", "load", file]);
        load.finish().await.told(&[told]);
    }
    assert!(!scratch.path("data").exists());
}

/// The mistakes that are found in a file of these bytes.
fn mistakes(bytes: &[u8]) -> Vec<String> {
    let mistakes = challenge_file::read(bytes).err().unwrap_or_default();
    mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_no_toml_is_told_by_its_line_and_its_words_are_kept() {
    let whole = puzzle("Puzzle", variants(1..=2));
    assert_eq!(mistakes(whole.as_bytes()), [""; 0]);
    // Line ends of Windows, and its byte order mark at the beginning.
    let windows = format!("\u{feff}{}", whole.replace('\n', "\r\n"));
    assert_eq!(mistakes(windows.as_bytes()), [""; 0]);

    for (broken, expected) in [
        (
            "",
            vec![
                "1: slug: is missing",
                "1: title: is missing",
                "1: milestones: is missing: write [[milestones]] for each milestone",
            ],
        ),
        (
            "slug = 'puzzle'\nslug = 'other'\ntitle = 'x'\nmilestones = 3",
            vec![
                "2: slug: duplicate key",
                "4: milestones: must be a list: write [[milestones]] for each item",
            ],
        ),
        (
            "slug = ''\ntitle = 'x'\nmilestones = []",
            vec![
                "1: slug: must be lower-case words, such as slack-clone",
                "3: milestones: is empty: write [[milestones]] for each item",
            ],
        ),
        (
            "slug = 'puzzle\ntitle = 'x'\nmilestones = [1]",
            vec![
                "1: slug: invalid literal string, expected `'`",
                "3: milestones[1]: must be a table",
            ],
        ),
        (
            "slug = 'puzzle'\ntitle = 'x'\n[[milestones]",
            vec!["3: milestones: unclosed array table, expected `]`"],
        ),
    ] {
        assert_eq!(mistakes(broken.as_bytes()), expected, "{broken}");
    }
    assert_eq!(mistakes(b"slug = 'x'\ntitle = '\xff'"), ["2: is not UTF-8"]);
    // Characters that could write over a terminal, or turn the direction of the text behind them.
    for (before, after, told) in [
        ("title = 'Puzzle'", "title = \"Puz\\u001b[2Jzle\"", 1),
        ("title = 'Puzzle'", "title = \"Puz\\nzle\"", 1),
        ("title = 'Second'", "title = 'Sec\u{202e}ond'", 1),
        (
            "title = 'Puzzle'",
            "title = 'Puzzle'\ndescription = \"a\\u0007\"",
            1,
        ),
        (
            "title = 'Puzzle'",
            "title = 'Puzzle'\ndescription = '\u{2066}'",
            1,
        ),
        (
            "title = 'Puzzle'",
            "title = 'Пазл 🧩 فزورة'\ndescription = \"a\\n\\tb\"",
            0,
        ),
        ("riddle 1.", "rid\u{202e}dle", 0),
    ] {
        let file = whole.replacen(before, after, 1);
        let mistakes = mistakes(file.as_bytes());
        assert_eq!(mistakes.len(), told, "{after:?}: {mistakes:?}");
        let what = "has a control character, or a character that turns the direction of text";
        assert!(
            mistakes.iter().all(|mistake| mistake.ends_with(what)),
            "{mistakes:?}"
        );
    }
    // Texts that are no file of a challenge.
    assert!(mistakes("lorem ipsum\n".repeat(10_000).as_bytes()).len() > 10);
    let unclosed = whole.replacen("riddle 2.'''", "riddle 2.", 1);
    let told = mistakes(unclosed.as_bytes());
    assert!(!told.is_empty());
    assert!(
        told.iter().all(|mistake| !mistake.contains("solution")),
        "{told:?}"
    );
    for duration in [
        "59s",
        "31d",
        "",
        "1.5h",
        "h",
        "-1h",
        "1 h",
        "99999999999d",
        "é",
        "1é",
        "2147483647d 1s",
    ] {
        let file = format!("max_duration = '{duration}'\n{whole}");
        assert_eq!(mistakes(file.as_bytes()).len(), 1, "{duration}");
    }
    for duration in ["60s", "1m", "30d", "1h 30m"] {
        let file = format!("max_duration = '{duration}'\n{whole}");
        assert_eq!(mistakes(file.as_bytes()), [""; 0], "{duration}");
    }
    for slug in ["-", "a--b", "a-", "A", "a b", "é", &"x".repeat(65)] {
        let file = whole.replace("slug = 'puzzle'", &format!("slug = '{slug}'"));
        assert_eq!(mistakes(file.as_bytes()).len(), 1, "{slug}");
    }
}

#[tokio::test]
async fn an_edited_file_updates_and_takes_nothing_from_runs_under_way() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    loaded(&app, &scratch, &puzzle("Puzzle", variants(1..=1))).await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let session = alice.start("puzzle").await;
    assert_eq!(alice.input(&session, 2).await.ok(200)["input"], "riddle 1.");

    let told = loaded(&app, &scratch, &puzzle("Riddles", variants(2..=3))).await;
    assert_eq!(
        told,
        "puzzle has changed, 2 inputs added, 1 input retired.\n"
    );
    assert_eq!(
        app.visitor().get("/challenges/puzzle").await.ok(200)["title"],
        "Riddles"
    );
    assert_eq!(alice.input(&session, 2).await.ok(200)["input"], "riddle 1.");
    let other = bob.start("puzzle").await;
    assert_ne!(bob.input(&other, 2).await.ok(200)["input"], "riddle 1.");

    // The file has another answer to the same input. A runner who already has the input is judged by the old answer.
    let mut edited = variants(1..=3);
    edited[0].1 = "another solution".to_owned();
    let told = loaded(&app, &scratch, &puzzle("Riddles", edited.clone())).await;
    assert_eq!(told, "puzzle stays, 1 input added.\n");
    assert_eq!(
        alice.solve(&session, 2, "solution 1.").await.ok(200)["passed"],
        true
    );

    // An input that was retired and comes back is the same input again.
    let told = loaded(&app, &scratch, &puzzle("Riddles", variants(1..=3))).await;
    assert_eq!(told, "puzzle stays, 1 input added, 1 input retired.\n");
    let kept = "select count(*)::text from private.answer_variants";
    assert_eq!(first_column(&app.sql().await, kept).await, ["4"]);

    // A change that is not allowed while runs are under way is refused. Then nothing of the file is loaded.
    let before = app.dump().await;
    let whole = puzzle("Changed as well", variants(1..=9));
    let reduced = whole.split("[[milestones]]").collect::<Vec<_>>();
    for file in [
        format!("ordered = true\n{whole}"),
        format!("required_milestones = 1\n{whole}"),
        whole.replace("'verifier'", "'manual'"),
        format!("{whole}[[milestones]]\nnumber = 4\ntitle = 'Fourth'\n"),
        [reduced[0], reduced[1], reduced[3]].join("[[milestones]]"),
    ] {
        load(&app, &scratch, &file)
            .await
            .told(&["speedcoding: puzzle is not loaded: ", "cannot change now"]);
        assert_eq!(app.dump().await, before);
    }

    // When these runs are over, the change is allowed. But a milestone that belongs to history cannot be removed.
    alice.end(&session).await.ok(200);
    bob.end(&other).await.ok(200);
    let fewer = [reduced[0], reduced[1], reduced[3]].join("[[milestones]]");
    load(&app, &scratch, &fewer)
        .await
        .told(&["puzzle is not loaded: ", "cannot be deleted"]);
    let more = whole.replace("'verifier'", "'manual'");
    let told = loaded(
        &app,
        &scratch,
        &format!("ordered = true\n{more}[[milestones]]\nnumber = 4\ntitle = 'x'\n"),
    )
    .await;
    assert_eq!(
        told,
        "puzzle has changed, 1 milestone added, 1 milestone changed, 6 inputs added.\n"
    );
}

#[tokio::test]
async fn a_challenge_that_nobody_has_run_may_lose_milestones() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    loaded(&app, &scratch, &puzzle("Puzzle", variants(1..=2))).await;
    let file = "slug = 'puzzle'\ntitle = 'Puzzle'\n[[milestones]]\nnumber = 1\ntitle = 'First'\n";
    let told = loaded(&app, &scratch, file).await;
    assert_eq!(told, "puzzle has changed, 2 milestones removed.\n");
    let shown = app.visitor().get("/challenges/puzzle").await.ok(200);
    assert_eq!(shown["milestones"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn thousands_of_inputs_load_with_progress_and_leave_no_answer_anywhere() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    let file = puzzle("Puzzle", variants(1..=5_000));
    let ended = load(&app, &scratch, &file).await.well();
    assert_eq!(
        ended.stdout,
        "puzzle is new, 3 milestones added, 5000 inputs added.\n"
    );
    let progress: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.contains(" of "))
        .collect();
    assert_eq!(progress.len(), 5, "{progress:?}");
    assert_eq!(progress[4], "challenge.toml: 5000 of 5000 inputs");
    assert!(!ended.stderr.contains("solution") && !ended.stderr.contains("riddle"));
    assert!(!app.dump().await.contains("solution"));

    // One of these answers is edited.
    let edited = file.replacen("'solution 77.'", "'other'", 1);
    let told = loaded(&app, &scratch, &edited).await;
    assert_eq!(told, "puzzle stays, 1 input added, 1 input retired.\n");

    let sql = app.sql().await;
    let audited = first_column(
        &sql,
        "select concat_ws(' ', a.action, sum((a.details ->> 'count')::integer), min(a.database_role), min(c.slug))
           from private.audit_log as a
           join public.challenges as c on c.id = a.subject_id
          where a.action like 'challenge%'
          group by a.action
          order by a.action",
    )
    .await;
    assert_eq!(
        audited,
        [
            "challenge.added postgres puzzle",
            "challenge_input.added 5001 postgres puzzle",
            "challenge_input.changed 1 postgres puzzle",
            "challenge_milestone.added postgres puzzle",
        ]
    );
    let log = first_column(&sql, "select details::text from private.audit_log").await;
    assert!(log.iter().all(|details| !details.contains("riddle")));
}

#[tokio::test]
async fn neither_a_load_nor_a_refused_one_leaves_inputs_in_a_log() {
    let scratch = Scratch::new();
    let program = scratch.program(&["serve"]).serve().await;
    let load = async |text: String| {
        fs::write(scratch.path("challenge.toml"), text).expect("a file");
        let load = scratch.program(&["challenges", "load", "challenge.toml"]);
        load.finish().await
    };
    // This server logs every error with its statement.
    let url = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let owner = connect(&url.trim().into()).await;
    done(
        &owner,
        "alter database speedcoding set log_min_messages = 'info';
         alter database speedcoding set log_min_error_statement = 'info'",
    )
    .await;
    drop(owner);
    load(puzzle("Puzzle", variants(1..=2))).await.well();
    let runner = program.visitor().register("alice").await;
    runner.start("puzzle").await;
    let refused = load(format!(
        "ordered = true\n{}",
        puzzle("Puzzle", variants(3..=4))
    ))
    .await;
    refused.told(&["puzzle is not loaded: Runs of this challenge are under way"]);
    let ended = program.stop().await.well();
    let log = fs::read_to_string(scratch.path("data/postgres.log")).expect("the server's log");
    assert!(log.contains("under way"), "{log}");
    for text in [log, ended.stderr] {
        assert!(
            !text.contains("riddle") && !text.contains("solution"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_loads_at_once_one_finds_it_done() {
    let app = TestApp::start().await;
    let gate = app
        .hold("lock table public.challenges in exclusive mode")
        .await;
    let loads = race((0..2).map(|_| {
        let url = app.database.url().clone();
        async move {
            let file = puzzle("Puzzle", variants(1..=50));
            let challenge = challenge_file::read(file.as_bytes()).expect("a challenge");
            let loaded = challenges::load(&url, &challenge, |_, _| {}).await;
            loaded.expect("a database").expect("loaded").to_string()
        }
    }));
    gate.until_waiting(2).await;
    gate.release().await;
    let told: BTreeSet<_> = loads.answers().await.into_iter().collect();
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        [
            "puzzle is already loaded; nothing has changed.",
            "puzzle is new, 3 milestones added, 50 inputs added.",
        ]
    );
}

#[tokio::test]
async fn the_owner_of_a_supabase_project_loads_and_the_service_cannot() {
    let (database, owner_url) = Database::project().await;
    let scratch = Scratch::new();
    fs::write(scratch.path("challenge.toml"), example()).expect("a file");
    let load = |url: &str| {
        scratch
            .program(&["challenges", "load", "challenge.toml"])
            .on(url)
    };
    // The database is empty. The command makes everything that it needs.
    let told = load(owner_url.expose_secret()).finish().await.well();
    assert!(
        told.stdout.starts_with("word-count is new"),
        "{}",
        told.stdout
    );
    let again = load(owner_url.expose_secret()).finish().await.well();
    assert!(
        again.stdout.contains("nothing has changed"),
        "{}",
        again.stdout
    );

    let mut service = url::Url::parse(database.url().expose_secret()).expect("a URL");
    service
        .query_pairs_mut()
        .append_pair("options", "-crole=speedcoding_api");
    let refused = load(service.as_str()).finish().await;
    assert!(!refused.status.success());
    assert!(!refused.stderr.contains("the: 2"));
    load("postgresql://127.0.0.1:9/nowhere")
        .finish()
        .await
        .told(&["DATABASE_URL", "cannot connect"]);
    scratch
        .program(&["challenges", "load", "missing.toml"])
        .finish()
        .await
        .told(&["missing.toml"]);
}
