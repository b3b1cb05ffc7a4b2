//! The service, on a database of its own and a port of its own.

use clap::{CommandFactory, Parser};
use secrecy::SecretString;
use serde_json::{Value, json};
use speedcoding::{
    app::{App, Listeners},
    auth::Auth,
    config::Config,
    db::Db,
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{actor::Actor, cluster::Database};

/// The secret that signs access tokens in tests.
pub const JWT_SECRET: &str = "a secret for tests of more than 32 bytes";

/// A running service. It ends with its test.
pub struct TestApp {
    pub database: Database,
    pub base: String,
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// The names of all settings, as in the environment.
pub fn setting_names() -> Vec<String> {
    let settings = Settings::command();
    let names = settings
        .get_arguments()
        .filter_map(|argument| argument.get_env());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The default settings.
pub fn config() -> Config {
    Settings::parse_from(["speedcoding"]).config
}

impl TestApp {
    /// With the default settings.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings of its own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Database::migrated().await, change).await
    }

    /// On a database that exists, such as another replica's.
    pub async fn start_on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        Self::serve(database, change, std::future::pending())
            .await
            .0
    }

    /// Another replica: a service of its own on the same database.
    pub async fn replica(&self, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(self.database.clone(), change).await
    }

    /// Serves until it is told to stop. The task ends when the service has ended.
    pub async fn start_until(
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> (Self, JoinHandle<anyhow::Result<()>>) {
        Self::serve(Database::migrated().await, |_| {}, stop).await
    }

    async fn serve(
        database: Database,
        change: impl FnOnce(&mut Config),
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> (Self, JoinHandle<anyhow::Result<()>>) {
        let mut config = config();
        // Other tests may keep the machine busy. It is slow then, and that is no fault.
        config.db_wait_ms = 30_000;
        change(&mut config);
        let url = config
            .database_url
            .clone()
            .unwrap_or_else(|| database.url().clone());
        let db = Db::connect(&url, &config).await.expect("a connection");
        let auth = Auth::new(&config, Some(&SecretString::from(JWT_SECRET))).expect("keys");
        let app = App::build(&config, auth, db).expect("an app");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let listeners = Listeners {
            api: listener,
            metrics: None,
        };
        let serving = tokio::spawn(app.serve(listeners, stop));
        (TestApp { database, base }, serving)
    }

    /// Somebody who has not signed in.
    pub fn visitor(&self) -> Actor {
        Actor::new(&self.base)
    }

    /// Somebody who has just registered.
    pub async fn runner(&self, username: &str) -> Actor {
        self.visitor().register(username).await
    }

    /// A registered user with another role, as the dashboard gives it.
    pub async fn user_with_role(&self, username: &str, role: &str) -> Actor {
        let actor = self.runner(username).await;
        self.sql()
            .await
            .execute(
                &format!("update public.users set role = '{role}' where username = $1"),
                &[&username],
            )
            .await
            .expect("a role");
        actor
    }

    /// The claims of the access token of a user who signed in once. They are the ones that the database reads.
    pub async fn claims(&self, of: &Actor) -> Value {
        let row = self
            .sql()
            .await
            .query_one(
                "select id::text from private.refresh_tokens where user_id = $1::text::uuid",
                &[&of.id],
            )
            .await
            .expect("a sign-in");
        json!({
            "iss": "speedcoding", "sub": of.id, "role": "authenticated", "session_id": row.get::<_, String>(0)
        })
    }

    /// A connection as the database's owner.
    pub async fn sql(&self) -> Client {
        self.database.owner().await
    }

    /// All rows of all our tables, as text.
    pub async fn dump(&self) -> String {
        let sql = self.sql().await;
        let tables = sql
            .query(
                "select format('select t::text from %I.%I as t', schemaname, tablename) from pg_tables
                  where schemaname in ('public', 'private')",
                &[],
            )
            .await
            .expect("tables");
        let mut dump = String::new();
        for table in tables {
            for row in sql.query(table.get::<_, &str>(0), &[]).await.expect("rows") {
                dump.push_str(row.get(0));
                dump.push('\n');
            }
        }
        dump
    }

    /// Stops the server's clock. After this, only `travel` moves it.
    pub async fn stop_clock(&self) {
        self.sql()
            .await
            .batch_execute("update private.travelled set stopped_at = clock_timestamp()")
            .await
            .expect("a clock that stands still");
    }

    /// Moves the server's clock forward. `by` is an interval of PostgreSQL, such as `25 hours`.
    pub async fn travel(&self, by: &str) {
        self.sql()
            .await
            .batch_execute(&format!(
                "update private.travelled set by = by + interval '{by}'"
            ))
            .await
            .expect("time travel");
    }
}
