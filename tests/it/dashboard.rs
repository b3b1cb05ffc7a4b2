//! Administration from the Supabase dashboard: by the statements that it sends, by those of docs/dashboard.md, and on
//! the sample season.

use std::{fs, path::Path};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use speedcoding::{db::migrate::migrate, operate::seed::seed};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
    cluster::{Database, connect, done, first_column, refused},
    program::Scratch,
};

/// The service on a look-alike of a Supabase project, and the editors of rows there. The Table Editor and the SQL
/// Editor work as the project's owner, other tools as service_role.
async fn project() -> (TestApp, Client, Client) {
    let (database, owner_url) = Database::project().await;
    migrate(&owner_url).await.expect("migrations");
    let service_role = database
        .role("service_role", Some(&json!({ "role": "service_role" })))
        .await;
    let app = TestApp::start_on(database, |config| {
        config.database_url = Some(owner_url.clone());
    })
    .await;
    (app, connect(&owner_url).await, service_role)
}

/// The statement that the Table Editor sends for an edited row.
async fn edit(client: &Client, table: &str, id: &str, cells: Value) -> Result<u64, String> {
    let columns = columns(&cells);
    send(client, &format!(
        "update public.{table} set ({columns}) =
           (select {columns} from json_populate_record(null::public.{table}, '{cells}')) where id = '{id}' returning *;"
    ))
    .await
}

/// The statement that it sends for a new row.
async fn insert(client: &Client, table: &str, cells: Value) -> Result<u64, String> {
    let columns = columns(&cells);
    send(client, &format!(
        "insert into public.{table} ({columns})
         select {columns} from jsonb_populate_recordset(null::public.{table}, '[{cells}]') returning *;"
    ))
    .await
}

fn columns(cells: &Value) -> String {
    let names: Vec<_> = cells.as_object().expect("cells").keys().cloned().collect();
    names.join(",")
}

/// The number of rows that a statement returned or changed, or the message that the editor shows.
async fn send(client: &Client, statement: &str) -> Result<u64, String> {
    let messages = client.simple_query(statement).await.map_err(|error| {
        error
            .as_db_error()
            .expect("PostgreSQL's error")
            .message()
            .to_owned()
    })?;
    let counts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    });
    Ok(counts.sum())
}

async fn board(app: &TestApp) -> Vec<String> {
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    let items = board["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| format!("{} {}", item["rank"], text(item, "/user/username")))
        .collect()
}

/// The whole work of an administrator, in one of these roles.
async fn administer(app: &TestApp, editor: &Client, name: &str) {
    let alice = app.runner(&format!("alice_{name}")).await;
    let mona = app.runner(&format!("mona_{name}")).await;
    let run = alice.complete_run().await;
    let (session, submission) = (text(&run, "/id"), text(&run, "/submission/id"));
    let on_board = format!("1 alice_{name}");

    // Promotes a moderator, who then sees the queue.
    let queue = format!("select * from public.review_queue where id = '{submission}'");
    assert_eq!(
        edit(editor, "users", &mona.id, json!({ "role": "moderator" })).await,
        Ok(1)
    );
    assert_eq!(send(editor, &queue).await, Ok(1));
    assert_eq!(
        send(&as_client(app, Some(&mona)).await, &queue).await,
        Ok(1)
    );
    let bob = app.runner(&format!("bob_{name}")).await;
    assert_eq!(send(&as_client(app, Some(&bob)).await, &queue).await, Ok(0));

    // Reviews. Impossible decisions are refused with the reason.
    let decide = async |cells: Value| edit(editor, "submissions", &submission, cells).await;
    let refused = async |cells: Value, words: &str| {
        let refusal = decide(cells.clone()).await.expect_err(&cells.to_string());
        assert!(refusal.contains(words), "{cells}: {refusal}");
    };
    refused(
        json!({ "status": "MAYBE" }),
        "invalid input value for enum submission_status",
    )
    .await;
    refused(json!({ "status": "REJECTED" }), "reason").await;
    refused(json!({ "status": "APPROVED", "video_url": null }), "video").await;
    refused(json!({ "status": "APPROVED", "reviewed_by": alice.id }), "").await;
    assert_eq!(
        decide(json!({ "status": "APPROVED", "reviewed_by": mona.id })).await,
        Ok(1)
    );
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200);
    assert!(board(app).await.contains(&on_board));
    assert_eq!(send(editor, &queue).await, Ok(0));
    refused(
        json!({ "status": "REJECTED", "review_reason": "no" }),
        "set it back to PENDING first",
    )
    .await;
    refused(
        json!({ "video_url": "https://youtu.be/other" }),
        "cannot be edited",
    )
    .await;
    refused(json!({ "id": mona.id }), "keeps its id").await;
    assert_eq!(decide(json!({ "status": "PENDING" })).await, Ok(1));
    assert!(!board(app).await.contains(&on_board));
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");
    let rejection = json!({ "status": "REJECTED", "review_reason": "The recording stops." });
    assert_eq!(decide(rejection).await, Ok(1));
    let seen = alice.session(&session).await.ok(200);
    assert_eq!(seen["submission"]["reviewReason"], "The recording stops.");

    // Bans a user, and lifts the ban.
    assert_eq!(decide(json!({ "status": "PENDING" })).await, Ok(1));
    assert_eq!(decide(json!({ "status": "APPROVED" })).await, Ok(1));
    let ban = json!({ "user_id": alice.id, "banned_at": "2026-11-25T12:00:00+00:00" });
    assert_eq!(insert(editor, "bans", ban).await, Ok(1));
    alice.get("/auth/me").await.problem(403, "account_banned");
    assert!(!board(app).await.contains(&on_board));
    assert_eq!(
        send(
            editor,
            &format!(
                "delete from public.bans where user_id in ('{}') returning *;",
                alice.id
            )
        )
        .await,
        Ok(1)
    );
    alice.get("/auth/me").await.ok(200);
    assert!(board(app).await.contains(&on_board));

    // Adds a challenge, opens it when it is complete, and withdraws it.
    let slug = format!("challenge-{}", name.replace('_', "-"));
    let mut challenge = json!({ "slug": slug, "title": "Challenge", "required_milestones": 1 });
    let hasty = insert(editor, "challenges", challenge.clone()).await;
    assert!(hasty.is_err_and(|told| told.contains("Switch active off")));
    challenge["active"] = false.into();
    assert_eq!(insert(editor, "challenges", challenge).await, Ok(1));
    let id = first_column(
        editor,
        &format!("select id::text from public.challenges where slug = '{slug}'"),
    )
    .await;
    let milestone =
        json!({ "challenge_id": id[0], "number": 1, "title": "First", "verification": "manual" });
    assert_eq!(
        insert(editor, "challenge_milestones", milestone).await,
        Ok(1)
    );
    assert_eq!(
        edit(editor, "challenges", &id[0], json!({ "active": true })).await,
        Ok(1)
    );
    let described = app
        .visitor()
        .get(&format!("/challenges/{slug}"))
        .await
        .ok(200);
    assert_eq!(described["milestones"][0]["title"], "First");
    let session = bob.start(&slug).await;
    bob.verify(&session, 1).await.ok(200);
    assert_eq!(
        edit(editor, "challenges", &id[0], json!({ "active": false })).await,
        Ok(1)
    );
    assert_eq!(bob.end(&session).await.ok(200)["status"], "completed");
    let start = json!({ "techStack": "Rust", "challenge": slug });
    bob.start_with(start)
        .await
        .problem(404, "challenge_not_found");

    // Renames an account, and then deletes it. Its run leaves the board.
    let renamed = json!({ "username": format!("renamed_{name}") });
    assert_eq!(edit(editor, "users", &alice.id, renamed).await, Ok(1));
    let on_board = format!("1 renamed_{name}");
    assert!(board(app).await.contains(&on_board));
    assert_eq!(
        send(
            editor,
            &format!(
                "delete from public.users where id in ('{}') returning *;",
                alice.id
            )
        )
        .await,
        Ok(1)
    );
    assert!(!board(app).await.contains(&on_board));
    alice.get("/auth/me").await.problem(401, "sign_in_ended");
    let log = first_column(
        &app.sql().await,
        &format!(
            "select action || ' ' || database_role from private.audit_log
              where user_id in ('{}', '{}') and action like 'user.%' and action <> 'user.registered'
              order by id",
            alice.id, mona.id
        ),
    )
    .await;
    let expected = [
        "user.role_changed",
        "user.banned",
        "user.unbanned",
        "user.renamed",
        "user.erased",
    ];
    assert_eq!(log, expected.map(|action| format!("{action} {name}")));
}

async fn as_client(app: &TestApp, actor: Option<&Actor>) -> Client {
    let claims = actor.map(|actor| json!({ "sub": actor.id, "role": "authenticated" }));
    let role = actor.map_or("anon", |_| "authenticated");
    app.database.role(role, claims.as_ref()).await
}

#[tokio::test]
async fn an_administrator_edits_rows_and_meets_the_rules_of_the_api() {
    let (app, owner, service_role) = project().await;
    let name = first_column(&owner, "select current_user::text").await;
    administer(&app, &owner, &name[0]).await;
    administer(&app, &service_role, "service_role").await;

    // Only the owner can read the audit log, and nobody can change it.
    let log = "select * from private.audit_log order by id desc limit 100 offset 0;";
    assert!(send(&owner, log).await.expect("a log") > 0);
    for statement in [
        "delete from private.audit_log",
        "update private.audit_log set details = '{}'",
        "truncate private.audit_log",
    ] {
        let refusal = send(&owner, statement).await.expect_err(statement);
        assert!(refusal.contains("append-only"), "{refusal}");
        send(&service_role, statement).await.expect_err(statement);
    }
    send(&service_role, log).await.expect_err("a log");
}

#[tokio::test]
async fn no_edit_makes_a_row_that_clients_cannot_read() {
    let (app, owner, service_role) = project().await;
    let alice = app.runner("alice").await;
    let mona = app.user_with_role("mona", "moderator").await;
    let run = alice.complete_run().await;
    let (session, submission) = (text(&run, "/id"), text(&run, "/submission/id"));
    let milestone = text(&run, "/milestones/6/id");
    for editor in [&owner, &service_role] {
        for moment in ["infinity", "-infinity", "20000-01-01", "1999-12-31"] {
            for (table, id, column) in [
                ("users", &alice.id, "created_at"),
                ("users", &alice.id, "erased_at"),
                ("milestones", &milestone, "completed_at"),
                ("milestones", &milestone, "requested_at"),
                ("milestones", &milestone, "next_attempt_at"),
                ("submissions", &submission, "submitted_at"),
            ] {
                let edited = edit(editor, table, id, json!({ column: moment })).await;
                let refusal = edited.expect_err(&format!("{column} = {moment}"));
                let told = match column {
                    "completed_at" => "while its session runs".to_owned(),
                    _ => format!("{table}_{column}_range"),
                };
                assert!(refusal.contains(&told), "{refusal}");
            }
        }
        let lists = json!({ "packages": [["tokio"], ["poem"]] });
        edit(editor, "submissions", &submission, lists)
            .await
            .expect_err("a list of lists");
    }
    alice.session(&session).await.ok(200);
    mona.get("/submissions").await.ok(200);
    app.visitor().get("/users/alice").await.ok(200);
}

#[tokio::test]
async fn no_edit_puts_characters_on_screens_that_a_terminal_obeys() {
    let (app, owner, service_role) = project().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let (session, submission) = (text(&run, "/id"), text(&run, "/submission/id"));
    let challenge = "select id::text from public.challenges where slug = 'slack-clone'";
    let challenge = first_column(&app.sql().await, challenge).await.remove(0);
    for editor in [&owner, &service_role] {
        for hidden in ["\u{1b}[2J", "\u{9b}", "\u{202e}", "\u{2066}"] {
            let spoilt = format!("a{hidden}b");
            for (table, id, column) in [
                ("challenges", &challenge, "title"),
                ("challenges", &challenge, "description"),
                ("sessions", &session, "tech_stack"),
                ("submissions", &submission, "review_reason"),
                ("users", &alice.id, "username"),
            ] {
                let edited = edit(editor, table, id, json!({ column: spoilt })).await;
                edited.expect_err(&format!("{table}.{column}"));
            }
            let packages = json!({ "packages": [spoilt] });
            edit(editor, "submissions", &submission, packages)
                .await
                .expect_err("packages");
            let video = json!({ "video_url": format!("https://youtu.be/{spoilt}") });
            edit(editor, "submissions", &submission, video)
                .await
                .expect_err("a URL");
            for column in ["title", "description"] {
                let mut milestone = json!({ "challenge_id": challenge, "number": 8, "title": "x" });
                milestone[column] = json!(spoilt);
                insert(editor, "challenge_milestones", milestone)
                    .await
                    .expect_err(column);
            }
        }
        let lines = json!({ "description": "First:\n\n\t- chat\r\n", "title": "Чат 🦀 דבר" });
        edit(editor, "challenges", &challenge, lines)
            .await
            .expect("lines");
    }
}

#[tokio::test]
async fn a_milestone_agrees_with_its_session_and_its_challenge() {
    let (app, owner, service_role) = project().await;
    let alice = app.runner("alice").await;
    for (editor, number) in [(&owner, 1), (&service_role, 2)] {
        let session = alice.start("freestyle").await;
        let row = |number: i32, at: &str| {
            format!(
                "insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at)
                 select id, user_id, {number}, true, {at} from public.sessions where id = '{session}'"
            )
        };
        let told = refused(editor, &row(8, "start_time"), "unknown_milestone").await;
        assert_eq!(told, "The challenge of this session has no milestone 8.");
        let early = "start_time - interval '1 ms'";
        let told = refused(editor, &row(1, early), "milestone_times").await;
        assert!(
            told.starts_with("A milestone is passed while its session runs: "),
            "{told}"
        );
        done(editor, &row(1, "start_time")).await;
        // It is not passed yet.
        let later = "start_time + interval '1 hour'";
        refused(editor, &row(2, later), "milestone_times").await;
        done(
            editor,
            &format!(
                "update public.sessions set end_time = start_time + interval '2 hours', status = 'incomplete'
                  where id = '{session}'"
            ),
        )
        .await;
        done(editor, &row(2, later)).await;
        refused(
            editor,
            &row(3, "end_time + interval '1 ms'"),
            "milestone_times",
        )
        .await;
        done(editor, &row(3, "end_time")).await;
        let move_to = |at: &str| {
            format!(
                "update public.milestones as m set completed_at = {at} from public.sessions as s
                  where s.id = m.session_id and s.id = '{session}' and milestone_number = 2"
            )
        };
        refused(editor, &move_to(early), "milestone_times").await;
        refused(
            editor,
            &move_to("end_time + interval '1 s'"),
            "milestone_times",
        )
        .await;
        done(editor, &move_to("end_time")).await;
        // Now the session moves away from its milestones.
        let set = |what: &str| format!("update public.sessions set {what} where id = '{session}'");
        for away in [
            "start_time = start_time + interval '1 s'",
            "end_time = end_time - interval '1 s'",
        ] {
            refused(editor, &set(away), "session_times").await;
        }
        done(editor, &set("start_time = start_time - interval '1 s'")).await;
        done(editor, &set("end_time = end_time + interval '1 s'")).await;
        let read = alice.session(&session).await.ok(200);
        assert_eq!(read["milestones"][0]["splitMs"], 1000, "{number}");
    }
}

#[tokio::test]
async fn what_everybody_sees_follows_from_the_review_alone() {
    let (app, owner, service_role) = project().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let (session, submission) = (text(&run, "/id"), text(&run, "/submission/id"));
    let milestone = text(&run, "/milestones/0/id");
    let path = format!("/sessions/{session}");
    let challenge = "select id::text from public.challenges where slug = 'freestyle'";
    let challenge = first_column(&owner, challenge).await;
    for (number, editor) in [&owner, &service_role].into_iter().enumerate() {
        for (status, published) in [("PENDING", true), ("APPROVED", false)] {
            edit(
                editor,
                "submissions",
                &submission,
                json!({ "status": status }),
            )
            .await
            .expect(status);
            for (table, id) in [("sessions", &session), ("milestones", &milestone)] {
                let refusal = edit(editor, table, id, json!({ "published": published }))
                    .await
                    .expect_err(table);
                assert!(refusal.contains("APPROVED"), "{refusal}");
            }
            let seen = app.visitor().get(&path).await.status;
            assert_eq!(seen, if published { 404 } else { 200 });
        }
        // An insert cannot decide that a run is published either.
        let id = format!("00000000-0000-7000-8000-00000000000{number}");
        let inserted = json!({
            "id": id, "user_id": alice.id, "challenge_id": challenge[0], "tech_stack": "Rust", "status": "incomplete",
            "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T01:00:00Z",
            "deadline": "2026-01-02T00:00:00Z", "published": true,
        });
        assert_eq!(insert(editor, "sessions", inserted).await, Ok(1));
        let passed = json!({ "session_id": id, "user_id": alice.id, "milestone_number": 1, "published": true });
        assert_eq!(insert(editor, "milestones", passed).await, Ok(1));
        let visitor = as_client(&app, None).await;
        for hidden in [
            format!("select from public.sessions where id = '{id}'"),
            format!("select from public.milestones where session_id = '{id}'"),
        ] {
            assert_eq!(send(&visitor, &hidden).await, Ok(0), "{hidden}");
        }
    }
}

/// The statements of docs/dashboard.md, in their order.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dashboard.md");
    let page = fs::read_to_string(page).expect("the page");
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    blocks
        .flat_map(|block| block.split_inclusive(';'))
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

#[tokio::test]
async fn every_statement_of_the_page_on_the_dashboard_does_what_it_says_on_the_sample_season() {
    let (app, owner, _) = project().await;
    seed(app.database.url()).await.expect("a season");
    let statements = documented();
    assert!(statements.len() >= 12, "{statements:#?}");
    let before = board(&app).await;
    let visitor = app.visitor();
    for statement in &statements {
        if statement.starts_with("delete from public.challenges") {
            let challenge = visitor.get("/challenges/link-shortener").await.ok(200);
            assert_eq!(challenge["milestones"][1]["title"], "Count");
        }
        let rows = send(&owner, statement).await.expect(statement);
        assert!(rows > 0, "{statement}");
    }
    assert_eq!(before[0], "1 kestrel77");
    assert_eq!(
        board(&app).await,
        [""; 0],
        "the last one removes the season"
    );
    let removed = visitor.get("/challenges/link-shortener").await;
    removed.problem(404, "challenge_not_found");
}

#[tokio::test]
async fn the_sample_season_is_whole_harmless_and_added_once() {
    let app = TestApp::start().await;
    // A user already has a name of the sample season. The name stays theirs.
    let pia = app.runner("Pia_Codes").await;
    let url = app.database.url();
    assert_eq!(seed(url).await.expect("a season"), (11, 12));
    assert_eq!(seed(url).await.expect("nothing"), (0, 0));
    assert_eq!(pia.get("/sessions").await.ok(200)["items"], json!([]));

    assert_eq!(
        board(&app).await,
        ["1 kestrel77", "1 yuki_ships", "3 oduya", "4 lin-builds"]
    );
    let owner = app.sql().await;
    for (column, table, all) in [
        (
            "status",
            "sessions",
            "{abandoned,completed,expired,incomplete}",
        ),
        ("status", "submissions", "{APPROVED,PENDING,REJECTED}"),
        ("role", "users", "{moderator,runner,verifier}"),
    ] {
        let query = format!("select array_agg(distinct {column}::text)::text from public.{table}");
        assert_eq!(first_column(&owner, &query).await, [all]);
    }
    let of_kestrel = app
        .visitor()
        .get("/sessions/00000000-5eed-7000-8001-000000000003")
        .await
        .ok(200);
    assert_eq!(of_kestrel["totalTime"], "1h 18m 03s");
    assert_eq!(of_kestrel["milestones"].as_array().map(Vec::len), Some(7));
    // No splits after the end, or out of order.
    let odd = "select m.id::text
                 from public.milestones as m
                 join public.sessions as s on s.id = m.session_id
                where m.completed_at not between s.start_time and s.end_time
                   or exists (select from public.milestones as earlier
                               where earlier.session_id = m.session_id
                                 and earlier.milestone_number < m.milestone_number
                                 and earlier.completed_at >= m.completed_at)";
    assert_eq!(first_column(&owner, odd).await, [""; 0]);
    let credentials =
        "select user_id::text from private.credentials where user_id::text like '00000000-5eed-%'";
    assert_eq!(
        first_column(&owner, credentials).await,
        [""; 0],
        "nobody can log in"
    );

    // Later changes stay.
    owner
        .batch_execute(
            "update public.submissions set status = 'PENDING' where user_id::text like '%14';
             delete from public.sessions where user_id::text like '%15'",
        )
        .await
        .expect("changes");
    assert_eq!(seed(url).await.expect("nothing"), (0, 0));
    assert_eq!(board(&app).await, ["1 kestrel77", "2 lin-builds"]);
}

#[tokio::test]
async fn the_program_adds_the_season_to_whichever_database_is_meant() {
    let (database, owner_url) = Database::project().await;
    let scratch = Scratch::new();
    let seed = || scratch.program(&["seed"]).on(owner_url.expose_secret());
    let first = seed().finish().await.well();
    assert_eq!(first.stdout, "Added a sample season: 12 users, 14 runs.\n");
    let again = seed().finish().await.well();
    assert_eq!(again.stdout, "The sample season is already there.\n");
    drop(database);

    let own = Scratch::new();
    let first = own.program(&["seed"]).finish().await.well();
    assert_eq!(first.stdout, "Added a sample season: 12 users, 14 runs.\n");
}
