//! A PostgREST of this machine beside a test's database.

use std::{
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use secrecy::ExposeSecret;
use url::Url;

use super::{app::JWT_SECRET, cluster::Database, program::until};

/// A running PostgREST. It ends with its test.
pub struct PostgRest {
    child: Child,
    pub url: Url,
}

/// The URL that it logs in with.
pub async fn login(database: &Database) -> Url {
    let password = "a password for the tests";
    database
        .owner()
        .await
        .batch_execute(&format!("alter role authenticator password '{password}'"))
        .await
        .expect("a password");
    let mut url = Url::parse(database.url().expose_secret()).expect("a URL");
    url.set_username("authenticator").expect("a user");
    url.set_password(Some(password)).expect("a password");
    url
}

impl PostgRest {
    /// On this database, as the service would start it; nothing where this machine has none.
    pub async fn beside(database: &Database) -> Option<Self> {
        let (program, root) = find()?;
        let database = login(database).await;
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let log = std::env::temp_dir().join(format!("speedcoding-test-postgrest-{port}.log"));
        let log_file = File::create(&log).expect("a log");
        // It has it open: the name is not needed.
        std::fs::remove_file(&log).expect("a log to remove");
        let child = Command::new(program)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().expect("a log"))
            .stderr(log_file)
            .env("PGRST_DB_URI", database.as_str())
            .env("DATABASE_URL", database.as_str())
            .env("PGRST_DB_SCHEMAS", "public")
            .env("PGRST_DB_EXTRA_SEARCH_PATH", "public,extensions")
            .env("PGRST_DB_ANON_ROLE", "anon")
            .env("PGRST_DB_PRE_REQUEST", "speedcoding.check_request")
            .env("PGRST_DB_ERRORS_VERBATIM", "true")
            .env("PGRST_JWT_SECRET", JWT_SECRET)
            .env("PGRST_JWT_AUD", "authenticated")
            .env("PGRST_SERVER_HOST", "127.0.0.1")
            .env("PGRST_SERVER_PORT", port.to_string())
            .spawn()
            .expect("a PostgREST");
        let url = Url::parse(&format!("http://127.0.0.1:{port}{root}")).expect("a URL");
        let rest = PostgRest { child, url };
        let users = format!("{}/users?limit=0", rest.url);
        until("PostgREST answers", async || {
            let answer = reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client");
            let answer = answer.get(&users).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Some(rest)
    }
}

impl Drop for PostgRest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On PATH, or where `.ci/run` keeps it; and beneath which path it serves.
fn find() -> Option<(PathBuf, &'static str)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let directories: Vec<_> = std::env::split_paths(&path)
        .chain(cache.map(|cache| cache.join("speedcoding/postrust/bin")))
        .collect();
    [("postgrest", ""), ("postrust", "/api")]
        .into_iter()
        .find_map(|(name, root)| {
            let mut programs = directories.iter().map(|directory| directory.join(name));
            programs
                .find(|program| program.is_file())
                .map(|program| (program, root))
        })
}
