//! One replica of the service or two, and the users who sign in there.

use serde_json::{Value, json};
use speedcoding::config::Config;

use super::{
    actor::{Actor, Answer, PASSWORD, text},
    app::TestApp,
};

/// The service: replicas on one database, which take turns.
pub struct Service {
    pub replicas: Vec<TestApp>,
    visitors: Vec<Actor>,
}

impl Service {
    /// Without rate limits, which have stories of their own.
    pub async fn of(count: usize, change: impl Fn(&mut Config)) -> Self {
        let change = |config: &mut Config| {
            config.rate_limits = "off".parse().expect("limits");
            change(config);
        };
        let mut replicas = vec![TestApp::start_with(&change).await];
        while replicas.len() < count {
            replicas.push(replicas[0].replica(&change).await);
        }
        Self::from(replicas)
    }

    /// With replicas that are running already.
    pub fn from(replicas: Vec<TestApp>) -> Self {
        let visitors = replicas.iter().map(TestApp::visitor).collect();
        Service { replicas, visitors }
    }

    /// Replaces a replica by another one.
    pub fn replace(&mut self, replica: usize, app: TestApp) {
        self.visitors[replica] = app.visitor();
        self.replicas[replica] = app;
    }

    /// A user who has not signed in, at the next replica.
    pub fn visitor(&self, turn: usize) -> Actor {
        self.visitors[turn % self.visitors.len()].clone()
    }

    pub async fn refresh(&self, turn: usize, token: &str) -> Answer {
        self.visitor(turn)
            .post("/auth/refresh", json!({ "refreshToken": token }))
            .await
    }

    pub async fn log_out(&self, turn: usize, token: &str, scope: &str) -> Answer {
        let body = json!({ "refreshToken": token, "scope": scope });
        self.visitor(turn).post("/auth/logout", body).await
    }

    pub async fn register(&self, username: &str) -> Value {
        let visitor = self.visitor(0);
        visitor.register_with(username, PASSWORD).await.ok(201)
    }

    pub async fn log_in(&self, username: &str) -> Value {
        self.visitor(1).log_in(username, PASSWORD).await.ok(200)
    }

    /// The answer of `GET /auth/me` to an access token.
    pub async fn me(&self, turn: usize, tokens: &Value) -> Answer {
        let actor = self.visitor(turn).with_tokens(tokens);
        actor.get("/auth/me").await
    }

    /// The whole table of sign-ins, to be compared with a later state.
    pub async fn sign_ins(&self) -> String {
        self.text(
            "select coalesce(json_agg(t order by id), '[]')::text from private.refresh_tokens as t",
        )
        .await
    }

    /// How often sign-ins ended for each cause, according to the audit log.
    pub async fn causes(&self) -> Value {
        let causes = self
            .text(
                "select coalesce(jsonb_object_agg(cause, times), '{}')::text
                   from (select details ->> 'cause' as cause, count(*) as times
                           from private.audit_log where action = 'sign_in.revoked' group by 1) as ended",
            )
            .await;
        serde_json::from_str(&causes).expect("JSON")
    }

    pub async fn text(&self, sql: &str) -> String {
        let row = self.replicas[0].sql().await.query_one(sql, &[]).await;
        row.expect(sql).get(0)
    }

    pub async fn execute(&self, sql: &str) {
        let done = self.replicas[0].sql().await.batch_execute(sql).await;
        done.expect(sql);
    }

    pub async fn stop_clock(&self) {
        self.replicas[0].stop_clock().await;
    }

    pub async fn travel(&self, by: &str) {
        self.replicas[0].travel(by).await;
    }
}

/// The refresh token of an answer.
#[track_caller]
pub fn refresh_token(tokens: &Value) -> String {
    text(tokens, "/refreshToken")
}

/// Tells each story twice.
macro_rules! stories {
    ($($story:ident)*) => {
        mod one_replica { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $story() { super::$story(1).await; } )* }
        mod two_replicas { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $story() { super::$story(2).await; } )* }
    };
}

pub(crate) use stories;
