//! One PostgreSQL for the run, and a migrated database for each test, cloned from a template.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use secrecy::{ExposeSecret, SecretString};
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, NoTls};

const TEMPLATE: &str = "template_speedcoding";
/// Nothing here needs to outlive the run.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "500"),
];
/// Turns an empty database into a Supabase project's.
pub const LOOKALIKE: &str = include_str!("../lookalike.sql");
/// The clock of the tests: the real one, moved by `TestApp::travel`, or stopped by `TestApp::stop_clock`.
const TRAVEL: &str = "
    create table private.travelled (by interval not null, stopped_at timestamptz);
    insert into private.travelled values ('0');
    create or replace function private.clock() returns timestamptz
    language sql volatile security definer
    set search_path = ''
    as $$
      select date_trunc('milliseconds', coalesce(stopped_at, clock_timestamp())) + by
        from private.travelled
    $$;";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

struct Cluster {
    embedded: Embedded,
    /// `create database` copies its template alone.
    copying: Mutex<()>,
}

/// The database of one test and of all its replicas. It is dropped with the last of them.
#[derive(Clone)]
pub struct Database(Arc<Owned>);

struct Owned {
    url: SecretString,
    is_lent: bool,
}

impl Database {
    /// Migrated, with a clock that can travel.
    pub async fn migrated() -> Self {
        Self::create(&format!("template {TEMPLATE}")).await
    }

    /// Empty.
    pub async fn empty() -> Self {
        Self::create("").await
    }

    /// A look-alike of a Supabase project, without any of our objects. Returns it with the URL of its owner, who is no
    /// superuser.
    pub async fn project() -> (Self, SecretString) {
        let database = Self::empty().await;
        let superuser = database.owner().await;
        superuser
            .batch_execute(LOOKALIKE)
            .await
            .expect("a look-alike");
        let row = superuser
            .query_one(
                "select pg_get_userbyid(datdba)::text from pg_database where datname = current_database()",
                &[],
            )
            .await
            .expect("an owner");
        let mut url = url::Url::parse(database.url().expose_secret()).expect("a URL");
        let role = format!("-c role={}", row.get::<_, String>(0));
        url.query_pairs_mut().append_pair("options", &role);
        let url = url.as_str().replace('+', "%20");
        (database, url.into())
    }

    async fn create(options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = CLUSTER.get_or_init(start).await;
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let _alone = cluster.copying.lock().await;
        connect(cluster.embedded.url())
            .await
            .batch_execute(&format!("create database {name} {options}"))
            .await
            .expect("a database");
        Self::at(with_database(cluster.embedded.url(), &name))
    }

    /// A database of another server.
    pub fn at(url: SecretString) -> Self {
        Database(Arc::new(Owned {
            url,
            is_lent: false,
        }))
    }

    /// A database whose server is stopped with its test.
    pub fn lent(url: &SecretString) -> Self {
        Database(Arc::new(Owned {
            url: url.clone(),
            is_lent: true,
        }))
    }

    /// The owner's URL.
    pub fn url(&self) -> &SecretString {
        &self.0.url
    }

    /// A connection as the owner, a superuser.
    pub async fn owner(&self) -> Client {
        connect(&self.0.url).await
    }

    /// A connection as a role, with claims if there are any, as PostgREST makes it for a request.
    pub async fn role(&self, role: &str, claims: Option<&serde_json::Value>) -> Client {
        let client = self.owner().await;
        client
            .batch_execute(&format!("set role {role}"))
            .await
            .expect("the role");
        if let Some(claims) = claims {
            client
                .execute(
                    "select set_config('request.jwt.claims', $1, false)",
                    &[&claims.to_string()],
                )
                .await
                .expect("claims");
        }
        client
    }
}

/// A run makes a hundred databases. Each is dropped in the background as soon as its test has ended.
impl Drop for Owned {
    fn drop(&mut self) {
        if self.is_lent {
            return;
        }
        let name = url::Url::parse(self.url.expose_secret())
            .expect("a URL")
            .path()[1..]
            .to_owned();
        let cluster = with_database(&self.url, "postgres");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let server = connect(&cluster).await;
                let drop = format!("drop database {name} with (force)");
                server
                    .batch_execute(&drop)
                    .await
                    .expect("a database to drop");
            });
        });
    }
}

/// Connects, and drives the connection in the background.
pub async fn connect(url: &SecretString) -> Client {
    let (client, connection) = tokio_postgres::connect(url.expose_secret(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

/// The first column of each row.
pub async fn first_column(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.expect(query);
    rows.iter().map(|row| row.get(0)).collect()
}

/// The SQLSTATE of a failed statement, or nothing if it succeeded.
pub async fn sqlstate(client: &Client, statement: &str) -> Option<String> {
    let error = client.batch_execute(statement).await.err()?;
    Some(
        error
            .code()
            .map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    )
}

/// Checks that the dashboard refuses an edit with this code, and with a sentence rather than a constraint's name.
pub async fn refused(dashboard: &Client, edit: &str, code: &str) -> String {
    let error = dashboard.batch_execute(edit).await.expect_err(edit);
    let error = error.as_db_error().expect("PostgreSQL's error");
    assert_eq!(error.hint(), Some(code), "{edit}: {error}");
    assert!(
        error.message().ends_with('.') && !error.message().contains("violates"),
        "{error}"
    );
    error.message().to_owned()
}

/// An edit that succeeds.
pub async fn done(dashboard: &Client, edit: &str) {
    dashboard.batch_execute(edit).await.expect(edit);
}

/// The same server, another database.
pub fn with_database(url: &SecretString, name: &str) -> SecretString {
    let mut url = url::Url::parse(url.expose_secret()).expect("a URL");
    url.set_path(name);
    url.to_string().into()
}

async fn start() -> Cluster {
    remove_leftovers();
    let data_dir = std::env::temp_dir().join(format!("speedcoding-test-{}", std::process::id()));
    let embedded = Embedded::start(&data_dir, SETTINGS)
        .await
        .expect("a PostgreSQL");
    connect(embedded.url())
        .await
        .batch_execute(&format!("create database {TEMPLATE}"))
        .await
        .expect("a template");
    let template = with_database(embedded.url(), TEMPLATE);
    migrate(&template).await.expect("migrations");
    let (client, connection) = tokio_postgres::connect(template.expose_secret(), NoTls)
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    client
        .batch_execute(TRAVEL)
        .await
        .expect("a clock that travels");
    // A template must have no connections.
    drop(client);
    connection.await.expect("a task").expect("an orderly end");
    Cluster {
        embedded,
        copying: Mutex::new(()),
    }
}

/// Removes the directories of earlier runs, if no process holds the lock in them.
fn remove_leftovers() {
    let leftovers = std::fs::read_dir(std::env::temp_dir()).expect("a temporary directory");
    let is_leftover = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("speedcoding-test-"))
            && File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
    };
    for path in leftovers
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(is_leftover)
    {
        // Another run may be removing the same one.
        let _ = std::fs::remove_dir_all(path);
    }
}

/// Migrated, with the real clock.
pub async fn migrated() -> (Database, Client) {
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    let owner = database.owner().await;
    (database, owner)
}
