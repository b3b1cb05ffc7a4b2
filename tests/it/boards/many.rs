//! Many changes of boards at the same time, and in one statement.

use super::{assert_true, board, edit, import, records};
use crate::support::{app::TestApp, race::race};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_who_move_runs_about_never_deadlock() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    edit(
        &dashboard,
        "insert into public.challenges (slug, title) select 'challenge-' || n, 'Challenge' from generate_series(1, 4) as n",
    )
    .await;
    for client in 0..16 {
        import(&dashboard, &format!("runner_{client}_"), [60_000, 70_000]).await;
    }
    // Each of these users has a run on every challenge.
    edit(
        &dashboard,
        "insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
         select u.id, c.id, 'Rust', t, t + interval '50 minutes', t + interval '1 day', 'completed'
           from public.users as u, public.challenges as c, (values (timestamptz '2026-02-01')) as start (t) where c.slug like 'challenge-_';
         insert into public.submissions
           (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, video_url)
         select s.id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, 'https://youtu.be/abc'
           from public.sessions as s join public.challenges as c on c.id = s.challenge_id where c.slug like 'challenge-_'",
    )
    .await;
    let mut clients = Vec::new();
    for client in 0..16 {
        clients.push((client, app.sql().await));
    }
    let moves = clients.into_iter().map(|(number, client)| async move {
        // No other client touches the rows of these users. All clients share the boards.
        let whose = format!(
            "user_id in (select id from public.users where username like 'runner\\_{number}\\_%')"
        );
        for round in 0..8 {
            let by = (number * 37 + round * 11) % 120;
            for statement in [
                format!("update public.submissions set status = 'APPROVED' where status = 'PENDING' and {whose}"),
                format!("update public.sessions set end_time = end_time + interval '{by} seconds' where {whose}"),
                format!("update public.sessions set tech_stack = (array['Rust', 'Go', 'Zig'])[1 + {round} % 3] where {whose}"),
                format!("insert into public.bans (user_id) select id from public.users where username = 'runner_{number}_1'"),
                format!("update public.submissions set status = 'PENDING' where {whose}"),
                format!("delete from public.bans using public.users where id = user_id and username = 'runner_{number}_1'"),
            ] {
                client.batch_execute(&statement).await.map_err(|error| {
                    format!("{statement}: {:?}", error.as_db_error())
                })?;
            }
        }
        // This deletes several users at once. Its cascades meet the moves of the other clients.
        let gone = format!("delete from public.users where username like 'runner\\_{number}\\_%'");
        client.batch_execute(&gone).await.map_err(|error| error.to_string())
    });
    for outcome in race(moves).answers().await {
        outcome.expect("no deadlock");
    }
    assert_true(&dashboard).await;
}

#[tokio::test]
async fn a_statement_on_a_thousand_runs_is_as_good_as_a_thousand_statements() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    import(
        &dashboard,
        "runner_",
        (0..1000).map(|n| 600_000 + n * 7919 % 100_000),
    )
    .await;
    assert_true(&dashboard).await;
    for statement in [
        "update public.submissions set status = 'PENDING'",
        "update public.submissions set status = 'APPROVED'",
        "update public.sessions set start_time = start_time - interval '10 seconds', tech_stack = 'Zig'",
        "insert into public.bans (user_id) select id from public.users where username like 'runner\\_%1'",
        "delete from public.users where username like 'runner\\_%2'",
        "delete from public.sessions where tech_stack = 'Zig' and id::text < '8'",
        "truncate public.users cascade",
    ] {
        edit(&dashboard, statement).await;
        assert_true(&dashboard).await;
    }
    assert_eq!(board(&app, "").await, [""; 0]);
    assert_eq!(records(&app, "").await, [""; 0]);
}
