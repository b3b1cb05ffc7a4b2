//! A PostgREST of this machine beside a test's database, or a program that pretends to be one.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use secrecy::ExposeSecret;
use url::Url;

use super::{
    app::JWT_SECRET,
    cluster::Database,
    program::{Scratch, install_script, until},
    upstream_program,
};

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
    /// Starts one on this database, as the service would. Returns nothing if this machine has no PostgREST.
    pub async fn beside(database: &Database) -> Option<Self> {
        Self::beside_with(database, &[]).await
    }

    /// The same with other settings.
    pub async fn beside_with(database: &Database, settings: &[(&str, &str)]) -> Option<Self> {
        let program = upstream_program::find(&["postgrest", "postrust"])?;
        let database = login(database).await;
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let log = std::env::temp_dir().join(format!("speedcoding-test-postgrest-{port}.log"));
        let log_file = File::create(&log).expect("a log");
        // The processes use the open file. They do not need its name.
        fs::remove_file(&log).expect("a log to remove");
        let child = upstream_program::command(&program, &database, JWT_SECRET, port)
            .envs(settings.iter().copied())
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
            // A PostgREST that refuses visitors is ready, too.
            let is_ready = answer.status().is_success() || answer.status() == 401;
            is_ready.then_some(())
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

/// Makes a program that is found as `postgrest`. It writes down its process and its environment, and goes on running.
/// Returns the folder of these notes, and the PATH. A shell that waits for a command would outlive an interrupt without
/// the trap.
pub fn pretend_postgrest(scratch: &Scratch) -> (PathBuf, String) {
    let (bin, notes) = (scratch.path("bin"), scratch.path("notes"));
    for dir in [&bin, &notes] {
        fs::create_dir(dir).expect("a directory");
        // If the tests run as root, the program runs under another account.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("permissions");
    }
    let text = format!(
        "trap exit INT\nenv >{0}/env.$$ && mv {0}/env.$$ {0}/env\ntr '\\0' ' ' </proc/$$/cmdline >{0}/argv\n\
         echo $$ >{0}/pid.$$ && mv {0}/pid.$$ {0}/pid\nexec sleep 3600",
        notes.display()
    );
    install_script(&text, &bin.join("postgrest"));
    let path = std::env::var("PATH").expect("a PATH");
    (notes, format!("{}:{path}", bin.display()))
}

/// The process of the pretended PostgREST, as soon as it differs from the one before.
pub async fn pretended(notes: &Path, before: Option<u32>) -> u32 {
    until("PostgREST runs", async || {
        let pid = fs::read_to_string(notes.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        (Some(pid) != before).then_some(pid)
    })
    .await
}
