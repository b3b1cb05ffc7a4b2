//! The number of round trips of a request to the database, which may be far away from an edge.

use serde_json::{Value, json};
use speedcoding::config::Statements;

use crate::support::{
    actor::{Actor, Answer, PASSWORD},
    app::TestApp,
    cluster::Database,
    proxy::Proxy,
};

/// An app with one connection to the database. A proxy counts its round trips.
async fn counted_app(statements: Statements) -> (TestApp, Proxy) {
    let database = Database::migrated().await;
    let proxy = Proxy::before(database.url()).await;
    let app = TestApp::start_on(database, |config| {
        config.database_url = Some(proxy.url().clone());
        config.db_statements = statements;
        config.db_connections = Some(1);
    })
    .await;
    (app, proxy)
}

/// The answer, and the number of round trips that it took.
async fn count(proxy: &Proxy, request: impl Future<Output = Answer>) -> (Answer, usize) {
    let before = proxy.trips();
    let answer = request.await;
    (answer, proxy.trips() - before)
}

async fn log_in(app: &TestApp) -> Answer {
    app.visitor().log_in("alice", PASSWORD).await
}

/// A run, with the trips of each request: start, verify, get, get own account, end.
async fn trips_of_a_run(proxy: &Proxy, runner: &Actor) -> Vec<usize> {
    let stack = json!({ "techStack": "Rust, Postgres" });
    let (session, start) = count(proxy, runner.start_with(stack)).await;
    let id = session.ok(201)["id"].as_str().expect("an id").to_owned();
    let (milestone, verify) = count(proxy, runner.verify(&id, 1)).await;
    milestone.ok(200);
    let (read, get) = count(proxy, runner.session(&id)).await;
    read.ok(200);
    let (me, get_me) = count(proxy, runner.get("/auth/me")).await;
    me.ok(200);
    let (ended, end) = count(proxy, runner.end(&id)).await;
    ended.ok(200);
    vec![start, verify, get, get_me, end]
}

#[tokio::test]
async fn a_warm_request_makes_one_round_trip_in_both_statement_modes() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, proxy) = counted_app(statements).await;
        let runner = app.runner("alice").await;
        let cold = trips_of_a_run(&proxy, &runner).await;
        match statements {
            // The proxy does count: preparing takes a trip of its own.
            Statements::Prepared => assert_eq!(cold, [2, 2, 2, 2, 2]),
            Statements::Unnamed => assert_eq!(cold, [1, 1, 1, 1, 1]),
        }
        let warm = trips_of_a_run(&proxy, &runner).await;
        assert_eq!(warm, [1, 1, 1, 1, 1], "{statements:?}");

        // A refusal takes one trip, too.
        let gone = runner.get("/sessions/00000000-0000-7000-8000-000000000000");
        let (refused, trips) = count(&proxy, gone).await;
        refused.problem(404, "session_not_found");
        assert_eq!(trips, 1, "{statements:?}");
    }
}

#[tokio::test]
async fn a_login_makes_two_round_trips_and_a_refused_one_no_more() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, proxy) = counted_app(statements).await;
        app.runner("alice").await;
        log_in(&app).await.ok(200);
        // One trip comes before the hash, and one after it.
        let (tokens, trips) = count(&proxy, log_in(&app)).await;
        tokens.ok(200);
        assert_eq!(trips, 2, "{statements:?}");

        let wrong = json!({ "username": "alice", "password": "not the password" });
        let visitor = app.visitor();
        for warm in [false, true] {
            let refused = visitor.post("/auth/login", wrong.clone());
            let (refused, trips) = count(&proxy, refused).await;
            refused.problem(401, "wrong_credentials");
            assert!(!warm || trips == 2, "{statements:?}: {trips}");
        }

        let (registered, trips) = count(&proxy, async {
            let credentials = json!({ "username": "bob", "password": PASSWORD });
            app.visitor().post("/auth/register", credentials).await
        })
        .await;
        registered.ok(201);
        assert_eq!(trips, 1, "{statements:?}");
    }
}

#[tokio::test]
async fn a_refresh_makes_one_round_trip_and_a_logout_too() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, proxy) = counted_app(statements).await;
        app.runner("alice").await;
        let mut tokens = log_in(&app).await.ok(200);
        let visitor = app.visitor();
        let refresh = |tokens: &Value| {
            let body = json!({ "refreshToken": tokens["refreshToken"] });
            visitor.post("/auth/refresh", body)
        };
        // From here on the statements are prepared.
        let first = tokens.clone();
        tokens = refresh(&tokens).await.ok(200);

        let (next, trips) = count(&proxy, refresh(&tokens)).await;
        let next = next.ok(200);
        assert_eq!(trips, 1, "a hit, {statements:?}");
        let (again, trips) = count(&proxy, refresh(&tokens)).await;
        assert_eq!(again.ok(200)["refreshToken"], next["refreshToken"]);
        assert_eq!(trips, 1, "the same once more, {statements:?}");

        let mut forged = next.clone();
        forged["refreshToken"] = json!("rt_forged");
        let (refused, trips) = count(&proxy, refresh(&forged)).await;
        refused.problem(401, "invalid_refresh_token");
        assert_eq!(trips, 0, "a forged MAC, {statements:?}");

        let body = json!({ "refreshToken": next["refreshToken"], "scope": "others" });
        visitor.post("/auth/logout", body.clone()).await.ok(204);
        let (ended, trips) = count(&proxy, visitor.post("/auth/logout", body)).await;
        ended.ok(204);
        assert_eq!(trips, 1, "a logout, {statements:?}");

        let device = app.visitor().with_tokens(&next);
        let listed = device.get("/auth/sign-ins").await.ok(200);
        let (_, trips) = count(&proxy, device.get("/auth/sign-ins")).await;
        assert_eq!(trips, 1, "a list of sign-ins, {statements:?}");
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));

        // A copied token is the rare exception. It takes a second query, which is prepared once.
        app.travel("10 seconds").await;
        let (reused, trips) = count(&proxy, refresh(&first)).await;
        reused.problem(401, "refresh_token_reused");
        assert!(trips <= 3, "{statements:?}: {trips}");
    }
}

#[tokio::test]
async fn a_change_of_password_makes_three_round_trips_and_an_erasure_too() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, proxy) = counted_app(statements).await;
        let other = "another good passphrase";
        for (name, warm) in [("alice", false), ("bob", true)] {
            let runner = app.runner(name).await;
            let (changed, there) = count(&proxy, runner.change_password(PASSWORD, other)).await;
            changed.ok(204);
            let (changed, back) = count(&proxy, runner.change_password(other, PASSWORD)).await;
            changed.ok(204);
            assert_eq!(back, 3, "{statements:?}");
            let (erased, trips) = count(&proxy, runner.erase(PASSWORD)).await;
            erased.ok(204);
            if warm {
                assert_eq!((there, trips), (3, 3), "{statements:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_needs_no_database_makes_no_round_trip() {
    let (app, proxy) = counted_app(Statements::Prepared).await;
    // After this request the service has finished connecting, so that is not counted.
    let visitor = app.visitor();
    visitor.get("/health/ready").await.ok(200);
    let (live, trips) = count(&proxy, visitor.get("/health/live")).await;
    live.ok(200);
    assert_eq!(trips, 0);
    let (refused, trips) = count(&proxy, visitor.get("/auth/me")).await;
    refused.problem(401, "missing_token");
    assert_eq!(trips, 0);
}

/// What a later migration may do to functions whose statements every connection has prepared.
const LATER_MIGRATION: &str = "
    -- One more column in the result: drop and create.
    do $$
    declare
      old_definition text := pg_get_functiondef('private.get_me(jsonb)'::regprocedure);
      new_definition text := replace(old_definition,
        'OUT created_at timestamp with time zone', 'OUT created_at timestamp with time zone, OUT motto text');
    begin
      assert new_definition <> old_definition;
      drop function private.get_me(jsonb);
      execute new_definition;
      alter function private.get_me(jsonb) owner to speedcoding_writer;
      revoke all on function private.get_me(jsonb) from public;
      grant execute on function private.get_me(jsonb) to speedcoding_api;
    end
    $$;
    -- One more member of a composite type that many functions return.
    alter type private.session_result add attribute weather text;
    do $$
    declare
      old_definition text := pg_get_functiondef('private.describe_session(uuid, jsonb)'::regprocedure);
      new_definition text := regexp_replace(old_definition,
        's\\.clock_went_back_ms\\s*\\)::private\\.session_result',
        's.clock_went_back_ms, ''fair'')::private.session_result');
    begin
      assert new_definition <> old_definition;
      execute new_definition;
    end
    $$;";

#[tokio::test]
async fn a_statement_that_a_migration_made_stale_is_prepared_again_once() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, proxy) = counted_app(statements).await;
        let runner = app.runner("alice").await;
        trips_of_a_run(&proxy, &runner).await;
        app.sql()
            .await
            .batch_execute(LATER_MIGRATION)
            .await
            .expect("a migration");

        // Every request succeeds: the stale try, the preparation, the new try. To give up the old statement may take
        // one more trip, for which no request waits.
        let after = trips_of_a_run(&proxy, &runner).await;
        assert!(
            after.iter().all(|trips| *trips <= 4),
            "{statements:?}: {after:?}"
        );
        if statements == Statements::Prepared {
            assert!(after[3] >= 3, "the statement was stale: {after:?}");
        }
        let warm = trips_of_a_run(&proxy, &runner).await;
        assert_eq!(warm, [1, 1, 1, 1, 1], "{statements:?}");
    }
}
