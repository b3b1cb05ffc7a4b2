//! What the benchmarks share: a server to measure, connections to it, and the middle of what was measured.

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

/// The build of the service that cargo has made for this.
pub const BUILT: &str = env!("CARGO_BIN_EXE_speedcoding");
/// Signs access tokens.
pub const SECRET: &str = "a secret for benchmarks, which everybody may know";

/// A server under test: a process of its own.
pub struct Server {
    pub port: u16,
    pub pid: u32,
    _child: Child,
}

impl Server {
    /// Starts a build of the service on a database, with these settings besides.
    pub async fn service(
        program: &Path,
        url: &SecretString,
        dir: &Path,
        name: &str,
        settings: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .env("DATABASE_URL", url.expose_secret())
            .env("JWT_SECRET", SECRET)
            .env("BIND", format!("127.0.0.1:{port}"))
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
                    return Ok(Server {
                        port,
                        pid,
                        _child: child,
                    });
                }
            }
            if child.try_wait()?.is_some() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{name} does not start:\n{}", fs::read_to_string(path)?)
    }
}

/// A request, without a token where it is empty.
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

/// The least, the median, the greatest.
pub fn summary(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

/// A keep-alive connection, with no more of HTTP than it takes.
pub struct Connection {
    stream: TcpStream,
    /// The answer as it came.
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

    /// Sends a request and reads the answer to its end, which stays in the buffer; gives its status.
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

/// How the end of an answer is known.
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
