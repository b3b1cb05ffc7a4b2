//! Challenges edited in the dashboard, within their rules.

use std::collections::BTreeSet;

use speedcoding::db::migrate::migrate;
use tokio_postgres::Client;

use crate::support::{
    app::TestApp,
    cluster::{Database, connect, done, first_column, refused},
    program::Scratch,
    race::race,
};

use super::{loaded, puzzle, variants};

/// Puts a challenge together, row by row, and edits it before, during and after a run.
async fn administer(app: &TestApp, dashboard: &Client, role: &str) {
    let quiz = |active: bool| {
        format!(
            "insert into public.challenges (slug, title, required_milestones, active) values ('quiz', 'Quiz', 2, {active})"
        )
    };
    refused(dashboard, &quiz(true), "challenge_incomplete").await;
    done(dashboard, &quiz(false)).await;
    let insert = |number: u32| {
        format!(
            "insert into public.challenge_milestones (challenge_id, number, title)
             select id, {number}, 'Part' from public.challenges where slug = 'quiz'"
        )
    };
    let set = |what: &str| format!("update public.challenges set {what} where slug = 'quiz'");
    let of_quiz = "challenge_id = (select id from public.challenges where slug = 'quiz')";
    let set_part = |number: u32, what: &str| {
        format!(
            "update public.challenge_milestones set {what} where number = {number} and {of_quiz}"
        )
    };
    let delete = |number: u32| {
        format!("delete from public.challenge_milestones where number = {number} and {of_quiz}")
    };

    // After each edit, or after a transaction of several edits, the numbers must have no gap.
    refused(dashboard, &insert(2), "challenge_incomplete").await;
    done(dashboard, &insert(1)).await;
    refused(dashboard, &insert(3), "challenge_incomplete").await;
    done(
        dashboard,
        &format!(
            "begin; {}; {}; {}; commit",
            insert(3),
            insert(2),
            set("active = true")
        ),
    )
    .await;
    refused(dashboard, &delete(2), "challenge_incomplete").await;
    refused(
        dashboard,
        &set_part(3, "number = 4"),
        "challenge_incomplete",
    )
    .await;
    done(
        dashboard,
        &format!(
            "begin; {}; {}; commit",
            delete(2),
            set_part(3, "number = 2, title = 'Third'")
        ),
    )
    .await;

    // A runner must always be able to complete an active challenge.
    refused(dashboard, &delete(2), "challenge_incomplete").await;
    refused(
        dashboard,
        &set("required_milestones = 3"),
        "challenge_incomplete",
    )
    .await;
    refused(
        dashboard,
        &set_part(2, "verification = 'answer'"),
        "challenge_incomplete",
    )
    .await;
    done(dashboard, &set("active = false, required_milestones = 3")).await;
    // One message names everything that is missing.
    let both = [set_part(2, "verification = 'answer'"), set("active = true")].join("; ");
    let said = refused(
        dashboard,
        &format!("begin; {both}; commit"),
        "challenge_incomplete",
    )
    .await;
    assert_eq!(
        said,
        "This challenge has 2 of the 3 milestones that it requires. A milestone that is passed by an answer needs \
         an input in private.answer_variants: there is none for milestone 2. Switch active off until the challenge is complete."
    );
    done(dashboard, &insert(3)).await;
    done(dashboard, &set("active = true, slug = 'quiz-night'")).await;
    done(
        dashboard,
        "update public.challenges set slug = 'quiz' where slug = 'quiz-night'",
    )
    .await;
    refused(
        dashboard,
        &set_part(3, "challenge_id = (select id from public.challenges where slug = 'freestyle'), number = 8"),
        "challenge_used",
    )
    .await;
    refused(dashboard, &set("id = gen_random_uuid()"), "challenge_used").await;

    // While a run is under way, the challenge keeps its rules. Its texts may be corrected.
    let runner = app.runner(&format!("quizzer_{role}")).await;
    let session = runner.start("quiz").await;
    for edit in [
        set("required_milestones = 1"),
        set("ordered = true"),
        set_part(3, "verification = 'verifier'"),
        insert(4),
    ] {
        refused(dashboard, &edit, "challenge_running").await;
    }
    for edit in [
        delete(3),
        set_part(3, "number = 4"),
        set("slug = 'other'"),
        "delete from public.challenges where slug = 'quiz'".to_owned(),
    ] {
        refused(dashboard, &edit, "challenge_used").await;
    }
    // One message names everything that is in the way.
    let under_way =
        "Runs of this challenge are under way, so its rules cannot change now: switch active off";
    for (edit, fixed) in [
        (
            set("id = gen_random_uuid(), slug = 'other', ordered = true"),
            "A challenge keeps its id. This challenge has been run, so it keeps its slug: links contain it. ",
        ),
        (
            set_part(
                3,
                "challenge_id = (select id from public.challenges where slug = 'freestyle'), number = 8, verification = 'verifier'",
            ),
            "A milestone keeps its challenge. This challenge has been run, so its milestones keep their numbers and \
             cannot be deleted. ",
        ),
    ] {
        let said = refused(dashboard, &edit, "challenge_used").await;
        assert!(said.starts_with(&format!("{fixed}{under_way}")), "{said}");
    }
    let said = refused(dashboard, &set_part(3, "number = 4"), "challenge_used").await;
    assert!(!said.contains("under way"), "{said}");
    done(
        dashboard,
        &set("title = 'Quiz night', max_duration = '1 hour', active = false"),
    )
    .await;
    done(
        dashboard,
        &set_part(3, "title = 'Last part', description = 'More.'"),
    )
    .await;
    let seen = runner.session(&session).await.ok(200);
    assert_eq!(seen["status"], "running");
    for number in 1..=3 {
        runner.verify(&session, number).await.ok(200);
    }
    assert_eq!(runner.end(&session).await.ok(200)["status"], "completed");

    // When these runs are over, the rules may change for later runs. The parts that history needs stay.
    for edit in [
        set("ordered = true"),
        set_part(3, "verification = 'verifier'"),
        insert(4),
        set("active = true"),
    ] {
        done(dashboard, &edit).await;
    }
    for edit in [
        delete(4),
        set("slug = 'other'"),
        "delete from public.challenges where slug = 'quiz'".to_owned(),
    ] {
        refused(dashboard, &edit, "challenge_used").await;
    }
    // If nobody ends a run, it is over at its deadline, even though no row says so yet.
    runner.start("quiz").await;
    refused(dashboard, &set("ordered = false"), "challenge_running").await;
    done(
        dashboard,
        "update public.sessions set start_time = start_time - interval '1 hour', deadline = deadline - interval '1 hour'
          where status = 'running'",
    )
    .await;
    done(dashboard, &set("ordered = false")).await;

    // A challenge that was never run can be deleted with all of its parts.
    done(
        dashboard,
        "insert into public.challenges (slug, title) values ('draft', 'Draft');
         insert into public.challenge_milestones (challenge_id, number, title)
         select id, number, 'Part' from public.challenges, generate_series(1, 3) as number where slug = 'draft'",
    )
    .await;
    done(
        dashboard,
        "delete from public.challenges where slug = 'draft'",
    )
    .await;

    let owner = app.sql().await;
    let audited = first_column(
        &owner,
        "select concat_ws(' ', action, details ->> 'milestoneNumber', details -> 'was')
           from private.audit_log
          where subject_id = (select id from public.challenges where slug = 'quiz')
          order by id",
    )
    .await;
    let audited: BTreeSet<_> = audited.iter().map(String::as_str).collect();
    assert_eq!(
        audited,
        [
            "challenge.added",
            "challenge_milestone.added 1",
            "challenge_milestone.added 3",
            "challenge_milestone.added 2",
            "challenge_milestone.deleted 2",
            r#"challenge_milestone.changed 2 {"title": "Part", "number": 3}"#,
            r#"challenge.changed {"active": true, "required_milestones": 2}"#,
            "challenge_milestone.added 3",
            r#"challenge.changed {"slug": "quiz", "active": false}"#,
            r#"challenge.changed {"slug": "quiz-night"}"#,
            r#"challenge.changed {"title": "Quiz", "active": true, "max_duration": "24:00:00"}"#,
            r#"challenge_milestone.changed 3 {"title": "Part", "description": ""}"#,
            r#"challenge.changed {"ordered": false}"#,
            r#"challenge_milestone.changed 3 {"verification": "manual"}"#,
            "challenge_milestone.added 4",
            r#"challenge.changed {"active": false}"#,
            r#"challenge.changed {"ordered": true}"#,
        ]
        .into()
    );
    let roles =
        "select distinct database_role from private.audit_log where action like 'challenge%'";
    assert_eq!(first_column(&owner, roles).await, [role]);
}

#[tokio::test]
async fn a_superuser_edits_challenges_within_their_rules() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    administer(&app, &dashboard, "postgres").await;
}

#[tokio::test]
async fn the_service_role_edits_challenges_within_their_rules() {
    let app = TestApp::start().await;
    let dashboard = app.database.role("service_role", None).await;
    administer(&app, &dashboard, "service_role").await;
}

#[tokio::test]
async fn the_owner_of_a_supabase_project_edits_challenges_within_their_rules() {
    let (database, owner_url) = Database::project().await;
    migrate(&owner_url).await.expect("migrations");
    let app = TestApp::start_on(database, |_| {}).await;
    let dashboard = connect(&owner_url).await;
    let role = first_column(&dashboard, "select current_user::text").await;
    administer(&app, &dashboard, &role[0]).await;
}

#[tokio::test]
async fn an_input_that_was_given_stays_and_an_active_challenge_has_one_to_give() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    loaded(&app, &scratch, &puzzle("Puzzle", variants(1..=1))).await;
    let owner = app.sql().await;
    let set = |what: &str| format!("update private.answer_variants set {what}");
    // No runner has this input yet.
    done(&owner, &set("input = 'riddle', answer = 'solution'")).await;
    refused(&owner, &set("retired = true"), "challenge_incomplete").await;
    refused(
        &owner,
        "delete from private.answer_variants",
        "challenge_incomplete",
    )
    .await;
    done(
        &owner,
        "update public.challenges set active = false where slug = 'puzzle';
         delete from private.answer_variants;
         insert into private.answer_variants (challenge_id, milestone_number, input, answer)
         select id, 2, 'riddle', 'solution' from public.challenges where slug = 'puzzle';
         update public.challenges set active = true where slug = 'puzzle'",
    )
    .await;

    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    assert_eq!(runner.input(&session, 2).await.ok(200)["input"], "riddle");
    for edit in [
        set("input = 'another'"),
        set("answer = 'another'"),
        set("milestone_number = 1"),
        "delete from private.answer_variants".to_owned(),
    ] {
        refused(&owner, &edit, "input_given").await;
    }
    done(
        &owner,
        "insert into private.answer_variants (challenge_id, milestone_number, input, answer)
         select id, 2, 'second riddle', 'x' from public.challenges where slug = 'puzzle'",
    )
    .await;
    done(
        &owner,
        &format!("{} where input = 'riddle'", set("retired = true")),
    )
    .await;
    assert_eq!(
        runner.solve(&session, 2, "solution").await.ok(200)["passed"],
        true
    );
    let audited = first_column(
        &owner,
        "select concat_ws(' ', action, details) from private.audit_log where action like 'challenge_input.%'
          order by action, details::text",
    )
    .await;
    let changed = |what: &str, retired: u32| {
        format!(
            r#"challenge_input.{what} {{"count": 1, "retired": {retired}, "milestoneNumber": 2}}"#
        )
    };
    assert_eq!(
        audited,
        [
            changed("added", 0),
            changed("added", 0),
            changed("added", 0),
            changed("changed", 0),
            changed("changed", 1),
            r#"challenge_input.deleted {"milestoneNumber": 2}"#.to_owned(),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_and_an_edit_of_the_rules_come_one_after_the_other() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    // The edit first: the run begins under the new rules.
    let edit = "update public.challenges set ordered = false where slug = 'slack-clone'";
    let gate = app.hold(edit).await;
    let start = race([async move { (alice.start("slack-clone").await, alice) }]);
    gate.until_waiting(1).await;
    gate.release().await;
    let (session, alice) = start.answers().await.remove(0);
    alice.verify(&session, 7).await.ok(200);
    alice.end(&session).await.ok(200);

    // The start first: the edit meets a run that is under way.
    let gate = app
        .hold(&format!(
            "insert into public.sessions (user_id, challenge_id, tech_stack, deadline)
             select '{}', id, 'Rust', private.clock() + '1 hour' from public.challenges where slug = 'slack-clone'",
            bob.id
        ))
        .await;
    let url = app.database.url().clone();
    let edit = race([async move {
        let edit = "update public.challenges set ordered = true where slug = 'slack-clone'";
        refused(&connect(&url).await, edit, "challenge_running").await;
    }]);
    gate.until_waiting(1).await;
    gate.release().await;
    edit.answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_just_being_given_stays() {
    let (app, scratch) = (TestApp::start().await, Scratch::new());
    loaded(&app, &scratch, &puzzle("Puzzle", variants(1..=1))).await;
    let session = app.runner("alice").await.start("puzzle").await;
    let gate = app
        .hold(&format!(
            "insert into private.session_inputs (session_id, milestone_number, user_id, variant_id)
             select s.id, 2, s.user_id, v.id from public.sessions as s, private.answer_variants as v
              where s.id = '{session}'"
        ))
        .await;
    let url = app.database.url().clone();
    let edit = race([async move {
        let edit = "update private.answer_variants set input = 'another'";
        refused(&connect(&url).await, edit, "input_given").await;
    }]);
    gate.until_waiting(1).await;
    gate.release().await;
    edit.answers().await;
}
