//! A PostgREST of this machine beside a test's database.

use std::{
    fs::File,
    net::TcpListener,
    process::{Child, Stdio},
};

use secrecy::ExposeSecret;
use url::Url;

use super::{app::JWT_SECRET, cluster::Database, program::until, upstream_program};

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
    upstream_program::database(database.url().expose_secret(), password)
}

impl PostgRest {
    /// On this database, as the service would start it; nothing where this machine has none.
    pub async fn beside(database: &Database) -> Option<Self> {
        let program = upstream_program::find(&["postgrest", "postrust"])?;
        let database = login(database).await;
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let log = std::env::temp_dir().join(format!("speedcoding-test-postgrest-{port}.log"));
        let log_file = File::create(&log).expect("a log");
        // It has it open: the name is not needed.
        std::fs::remove_file(&log).expect("a log to remove");
        let child = upstream_program::command(&program, &database, JWT_SECRET, port)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().expect("a log"))
            .stderr(log_file)
            .spawn()
            .expect("a PostgREST");
        let root = upstream_program::root(&program);
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
