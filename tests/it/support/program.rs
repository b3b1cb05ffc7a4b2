//! The program itself, as people run it: a process with a data directory, settings, signals and an exit code.

use std::{
    fs::{self, File, Permissions},
    io::Read,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    actor::{Actor, PASSWORD},
    app::JWT_SECRET,
};

/// The longest wait of a test, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A temporary directory. It is removed with its test.
pub struct Scratch {
    path: PathBuf,
    /// While this lock is held, no other run takes the directory for a leftover.
    _lock: File,
}

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("speedcoding-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        // Other accounts may pass through the directory. The umask does not matter.
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
        let lock = File::create(path.join("lock")).expect("a file");
        lock.lock().expect("a lock");
        Scratch { path, _lock: lock }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The program with these arguments, in this directory, with a data directory of its own, and no other settings.
    pub fn program(&self, arguments: &[&str]) -> Launch {
        let data_dir = self.path("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedcoding"));
        command
            .args(arguments)
            .env_clear()
            .env("DATA_DIR", &data_dir)
            .env("BIND", "127.0.0.1:0")
            .current_dir(&self.path);
        for name in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Launch {
            command,
            data_dir,
            // The document has an example of a token, which looks like a token.
            prints_a_secret: matches!(arguments.first(), Some(&"db" | &"openapi" | &"keys")),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The program, about to be run.
pub struct Launch {
    command: Command,
    data_dir: PathBuf,
    prints_a_secret: bool,
}

impl Launch {
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        if name == "DATA_DIR" {
            self.data_dir = PathBuf::from(value.as_ref());
        }
        self.command.env(name, value);
        self
    }

    /// With this database instead of a private one.
    pub fn on(self, url: &str) -> Self {
        self.env("DATABASE_URL", url).env("JWT_SECRET", JWT_SECRET)
    }

    /// Under another account, with a copy of the program that it can reach.
    pub fn under_account(mut self, uid: u32, gid: u32, copy: &Path) -> Self {
        install(env!("CARGO_BIN_EXE_speedcoding").as_ref(), copy);
        self = self.through(copy.to_str().expect("a path"), &[]);
        self.command.uid(uid).gid(gid);
        self
    }

    /// Through a wrapper, which runs its last arguments; or, without arguments, by another program.
    pub fn through(mut self, wrapper: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(wrapper);
        if !arguments.is_empty() {
            command.args(arguments).arg(self.command.get_program());
        }
        command
            .args(self.command.get_args())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .current_dir(self.command.get_current_dir().expect("a directory"));
        self.command = command;
        self
    }

    /// Starts the program without waiting for anything.
    pub fn start(mut self) -> Program {
        let secrets = self.settings_to_keep_secret();
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = Said::read(child.stdout.take().expect("its output"));
        let stderr = Said::read(child.stderr.take().expect("its errors"));
        Program {
            child,
            stdout,
            stderr,
            data_dir: self.data_dir,
            prints_a_secret: self.prints_a_secret,
            secrets,
            base: String::new(),
        }
    }

    /// Starts it, and waits until it has announced its address.
    pub async fn serve(self) -> Program {
        self.start().announced().await
    }

    /// Runs it to its end.
    pub async fn finish(self) -> Ended {
        self.start().ended().await
    }

    fn settings_to_keep_secret(&self) -> Vec<String> {
        let given = self.command.get_envs().filter_map(|(name, value)| {
            let value = value?.to_str()?.to_owned();
            match name.to_str()? {
                "DATABASE_URL" | "MIGRATION_DATABASE_URL" => {
                    Some(url::Url::parse(&value).ok()?.password()?.to_owned())
                }
                "JWT_SECRET" | "REFRESH_SECRETS" => Some(value),
                "JWT_KEYS" => private_part(&value),
                _ => None,
            }
        });
        given.collect()
    }
}

/// The first `d` of a JWK in a text.
fn private_part(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(r#""d":""#)?;
    Some(rest.split('"').next()?.to_owned())
}

/// The running program. It ends with its test, and so does the PostgreSQL that it has started.
pub struct Program {
    child: Child,
    stdout: Said,
    stderr: Said,
    data_dir: PathBuf,
    prints_a_secret: bool,
    secrets: Vec<String>,
    /// `http://127.0.0.1:<port>`
    pub base: String,
}

/// The result of the program: its exit status and its output.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Waits until it has announced its address.
    pub async fn announced(mut self) -> Self {
        let announced = until("the program announces its address", async || {
            if let Some(status) = self.child.try_wait().expect("a process") {
                panic!("it ended ({status}):\n{}", self.stderr.text());
            }
            address_in(&self.stdout.text())
        });
        self.base = announced.await;
        self
    }

    /// Somebody who has not signed in.
    pub fn visitor(&self) -> Actor {
        Actor::new(&self.base)
    }

    /// The address of its metrics, which it has printed.
    pub fn metrics(&self) -> String {
        let text = self.stderr.text();
        let said = text.split_once("metrics are at ").expect("metrics").1;
        let end = said.find("/metrics").expect("a URL");
        format!("{}/metrics", &said[..end])
    }

    /// Waits until these words are in its log.
    pub async fn says(&self, words: &str) {
        let said = async || self.stderr.text().contains(words).then_some(());
        until(words, said).await;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process of its private PostgreSQL.
    pub fn postmaster(&self) -> u32 {
        postmaster(&self.data_dir).expect("a postmaster")
    }

    pub fn signal(&self, signal: &str) {
        send(self.child.id(), signal);
    }

    /// Asks it to stop, and waits until it has stopped.
    pub async fn stop(self) -> Ended {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for the end of the program. Checks that the program has kept its secrets and has not panicked.
    pub async fn ended(mut self) -> Ended {
        let status = until("the program ends", async || {
            self.child.try_wait().expect("a process")
        });
        let status = status.await;
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        let mut secrets = std::mem::take(&mut self.secrets);
        secrets.push(PASSWORD.to_owned());
        secrets.extend(generated_secrets(&self.data_dir));
        let told = [
            ("errors", &stderr),
            ("log of PostgreSQL", &server_log(&self.data_dir)),
            ("output", &stdout),
        ];
        let told = &told[..if self.prints_a_secret { 2 } else { 3 }];
        for (place, text) in told {
            assert_keeps(text, &secrets, place);
            assert!(!text.contains("panicked"), "{text}");
        }
        Ended {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let postmaster = postmaster(&self.data_dir).filter(|pid| is_alive(*pid));
        let lives = self.child.try_wait().is_ok_and(|status| status.is_none());
        if !lives {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The kernel tells the server that its parent has died.
        let began = Instant::now();
        while postmaster.is_some_and(is_alive) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Ended {
    /// Checks that the program ended well.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(self.status.code(), Some(0), "{}", self.stderr);
        self
    }

    /// Checks that the program ended with an error of one line that has all of these words. Returns that line.
    #[track_caller]
    pub fn told(self, words: &[&str]) -> String {
        let code = self.status.code();
        assert!(code.is_some_and(|code| code > 0), "{:?}", self.status);
        let is_error =
            |line: &&str| line.starts_with("speedcoding: ") || line.starts_with("error: ");
        let lines: Vec<_> = self.stderr.lines().filter(is_error).collect();
        assert_eq!(lines.len(), 1, "one line:\n{}", self.stderr);
        for word in words {
            assert!(lines[0].contains(word), "{word:?} in {}", lines[0]);
        }
        lines[0].to_owned()
    }
}

/// Copies a program to the place where it runs. Another process does the copying. If this process wrote the file,
/// programs that other tests start at that moment would inherit the open file, and Linux does not run a file that is
/// open for writing (`ETXTBSY`).
pub fn install(program: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).arg(program).arg(to).status();
    assert!(status.expect("install, of coreutils").success());
}

/// Makes a shell script a program, as [`install`] does.
pub fn install_script(script: &str, to: &Path) {
    let source = to.with_extension("sh");
    fs::write(&source, format!("#!/bin/sh\n{script}\n")).expect("a script");
    install(&source, to);
}

/// The output of a process, as it comes.
struct Said {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let into = text.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let part = String::from_utf8_lossy(&bytes[..count]);
                into.lock().expect("a text").push_str(&part);
            }
        });
        Said {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text.lock().expect("a text").clone()
    }

    /// Reads to the end. By then no process holds the other end of the pipe any more.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader");
        }
        self.text()
    }
}

/// Asks again and again until there is an answer. Panics if that takes too long.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited for this: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process of the PostgreSQL of a data directory, as its own file says. The process may be dead.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Whether this process exists. A zombie does not count.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends a signal by the shell's own `kill`.
pub fn send(pid: u32, signal: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {signal} {pid}")])
        .status();
    assert!(status.expect("a shell").success(), "SIG{signal} to {pid}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}

/// Prints that a story could not run here. It bypasses the test harness, which would swallow the line.
pub fn tell_untold(story: &str, needs: &str) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "NOT TESTED HERE: {story} (needs {needs})"
    );
}

fn address_in(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("API "))?;
    let url = line.split_whitespace().last()?;
    // The rest of the announcement must have come, too.
    text.contains("Ctrl-C stops it.")
        .then(|| url.trim_end_matches("/api/v1").to_owned())
}

fn generated_secrets(data_dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(data_dir.join("embedded.env")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !matches!(*name, "POSTGRES_PORT" | "POSTGREST_URL"))
        .map(|(_, value)| value.to_owned())
        .collect()
}

fn server_log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("postgres.log")).unwrap_or_default()
}

/// Fails if a text has one of these secrets, or any token.
#[track_caller]
fn assert_keeps(text: &str, secrets: &[String], place: &str) {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        assert!(!text.contains(secret), "a secret in the {place}:\n{text}");
    }
    let is_of_token = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for beginning in ["eyJ", "rt_"] {
        for (at, _) in text.match_indices(beginning) {
            let length = text[at..].chars().take_while(is_of_token).count();
            assert!(length < 40, "a token in the {place}:\n{text}");
        }
    }
}
