//! The common parts of the benchmarks: a database with users, a server to measure, connections to it, and medians.
#![allow(dead_code, reason = "each benchmark uses its part")]

#[path = "../../tests/it/support/upstream_program.rs"]
pub mod upstream_program;

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::{ExposeSecret, SecretString};
use speedcoding::{auth::token::AccessTokens, embedded::Embedded};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// The build of the service that cargo makes for the benchmarks.
pub const BUILT: &str = env!("CARGO_BIN_EXE_speedcoding");
/// The secret that signs access tokens.
pub const SECRET: &str = "a secret for benchmarks, which everybody may know";

/// The first number of an id. Ids end in a number of twelve digits, so that pgbench can make them by counting.
pub const FIRST: u64 = 100_000_000_000;
pub const USER: &str = "00000000-0000-7000-8000-";
pub const SIGN_IN: &str = "00000000-0000-4000-8000-";
/// The order of turns of two that are compared (the Thue–Morse sequence). A drift of the machine, even an uneven one,
/// favours neither.
pub const TURNS: [bool; 8] = [true, false, false, true, false, true, true, false];
/// The time that a turn runs before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(300);
/// The unit in which Linux counts CPU time: a hundredth of a second.
pub const TICK_US: u64 = 10_000;

/// Does the work with a private PostgreSQL in a temporary directory. Afterwards it removes the directory, also after
/// Ctrl-C.
pub async fn on_private_postgresql(
    settings: &[(&str, &str)],
    work: impl AsyncFnOnce(&Embedded, &Path) -> Result<()>,
) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("speedcoding-bench-{}", std::process::id()));
    let embedded = Embedded::start(&dir, settings).await?;
    let outcome = tokio::select! {
        outcome = work(&embedded, &dir) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
    };
    embedded.stop().await;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    outcome
}

pub async fn connect(url: &SecretString) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url.expose_secret(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// SQL for this count of numbers from the first on, as `n`.
pub fn numbers(count: u64) -> String {
    format!("generate_series({FIRST}, {}) as n", FIRST + count - 1)
}

/// SQL that makes a user who is signed in, for each number.
pub fn fill_users(numbers: &str) -> String {
    format!(
        "insert into public.users (id, username) select ('{USER}' || n)::uuid, 'bench_' || n from {numbers};
         insert into private.credentials (user_id, password_hash) select ('{USER}' || n)::uuid, 'none' from {numbers};
         insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
         select ('{SIGN_IN}' || n)::uuid, ('{USER}' || n)::uuid, sha256(n::text::bytea), '\\x00000000',
                now() + interval '14 days', now() + interval '30 days'
           from {numbers};"
    )
}

/// Issues access tokens like those of the service.
pub fn access_tokens() -> Result<AccessTokens> {
    AccessTokens::new(Some(&SecretString::from(SECRET)), &[], "speedcoding")
}

/// The access token of the user with this number.
pub fn token(tokens: &AccessTokens, number: u64) -> Result<String> {
    let user = Uuid::parse_str(&format!("{USER}{number}"))?;
    let sign_in = Uuid::parse_str(&format!("{SIGN_IN}{number}"))?;
    Ok(tokens.issue(user, "runner", sign_in, None)?)
}

/// The CPU time of a process, from /proc/<pid>/stat.
pub struct Usage {
    pub parent: u32,
    pub own_us: u64,
    /// The CPU time of its children that have ended.
    pub children_us: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name stands in brackets, and may have spaces.
        let fields: Vec<&str> = text
            .rsplit_once(") ")
            .context("/proc/<pid>/stat has another form")?
            .1
            .split(' ')
            .collect();
        let field = |index: usize| -> Result<u64> {
            Ok(fields.get(index).copied().unwrap_or_default().parse()?)
        };
        Ok(Usage {
            parent: field(1)?.try_into()?,
            own_us: (field(11)? + field(12)?) * TICK_US,
            children_us: (field(13)? + field(14)?) * TICK_US,
        })
    }
}

/// A server under test, as a process.
pub struct Server {
    pub port: u16,
    pub pid: u32,
    child: Child,
}

impl Server {
    /// Starts a build of the service on a database, with further settings.
    pub async fn service(
        program: &Path,
        url: &SecretString,
        dir: &Path,
        name: &str,
        settings: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<Self> {
        let port = free_port()?;
        let cores = std::thread::available_parallelism()?.get();
        let mut command = Command::new(program);
        command
            .env("DATABASE_URL", url.expose_secret())
            .env("JWT_SECRET", SECRET)
            .env("BIND", format!("127.0.0.1:{port}"))
            // The service's default with the private PostgreSQL, which this is.
            .env("WORKER_THREADS", (cores / 2).max(1).to_string())
            .envs(settings);
        Self::start(command, dir, name, port, "/health/ready").await
    }

    /// Starts a server and waits until it answers on `ready`.
    pub async fn start(
        mut command: Command,
        dir: &Path,
        name: &str,
        port: u16,
        ready: &str,
    ) -> Result<Self> {
        let path = dir.join(format!("{name}.log"));
        let log = File::create(&path)?;
        let mut child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        for _ in 0..600 {
            if let Ok(mut connection) = Connection::open(port).await {
                let mut request = Vec::new();
                http(&mut request, "GET", "", ready, "", "");
                if matches!(connection.exchange(&request).await, Ok(status) if status != 503) {
                    let pid = child.id().context("it has ended")?;
                    return Ok(Server { port, pid, child });
                }
            }
            if child.try_wait()?.is_some() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{name} does not start:\n{}", fs::read_to_string(path)?)
    }

    /// Ends it with a signal, so that it ends the processes that it has started.
    pub async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid.try_into()?), Signal::SIGTERM)?;
        self.child.wait().await?;
        Ok(())
    }
}

/// Writes a request. An empty token means no token.
pub fn http(out: &mut Vec<u8>, method: &str, base: &str, path: &str, token: &str, body: &str) {
    out.clear();
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let written = write!(
        out,
        "{method} {base}{path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    written.expect("memory takes every write");
}

/// The smallest value, the median, the greatest value.
pub fn summary(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

/// A keep-alive connection that understands only the HTTP that the benchmarks need.
pub struct Connection {
    stream: TcpStream,
    /// The bytes of the answer.
    pub buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a request and reads the answer to its end. Returns its status; the answer stays in the buffer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut end = None;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            if end.is_none()
                && let Some(head) = find(&self.buffer, b"\r\n\r\n")
            {
                let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
                end = Some(match text.split_once("\r\ncontent-length: ") {
                    Some((_, rest)) => {
                        let length = rest.split("\r\n").next().unwrap_or_default();
                        End::Length(head + 4 + length.parse::<usize>()?)
                    }
                    None => End::LastChunk,
                });
            }
            let complete = match end {
                None => false,
                Some(End::Length(length)) => self.buffer.len() >= length,
                Some(End::LastChunk) => self.buffer.ends_with(b"\r\n0\r\n\r\n"),
            };
            if complete {
                // HTTP/1.1 200 OK
                let status = self.buffer.get(9..12).context("not HTTP")?;
                return Ok(std::str::from_utf8(status)?.parse()?);
            }
        }
    }
}

/// The way to find the end of an answer.
enum End {
    Length(usize),
    LastChunk,
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
