//! Measures the memory that the service keeps after it needed much, and its CPU time, for one build or several.
//!
//! `cargo bench --bench memory -- PROGRAM…` starts a private PostgreSQL in a temporary directory and one build of the
//! service after the other on it (without a PROGRAM the release build). It measures the resident memory at rest, after
//! 500 people have logged in at once, while 6,000 clients of a hundred addresses leave bodies of 261 KB unfinished,
//! after these clients have gone, after 100 answers of 8.6 MB, and a minute later. Then the builds take turns: they
//! read a session and log people in, and their CPU time for a request is measured. Options: `-- --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a measurement stops when it meets something unexpected"
)]

mod support;

use std::{
    cell::Cell,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::future::{join_all, try_join, try_join_all};
use serde_json::json;
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use support::{
    BUILT, Connection, FIRST, Server, TURNS, USER, Usage, WARM_UP, access_tokens, connect,
    fill_users, http, numbers, on_private_postgresql, summary, token,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

const USERS: u64 = 1000;
const PASSWORD: &str = "correct horse battery staple";
/// The size of a body. The service accepts bodies that are a little longer.
const BODY: usize = 261_000;
const ADDRESSES: u8 = 100;
const READERS: usize = 16;
const LOGGERS_IN: usize = 4;

#[derive(Parser)]
struct Options {
    /// The builds to compare.
    programs: Vec<PathBuf>,
    /// The number of people who log in at once.
    #[arg(long, default_value_t = 500)]
    crowd: usize,
    /// The number of clients that leave their bodies unfinished.
    #[arg(long, default_value_t = 6000)]
    bodies: usize,
    /// The number of large answers that are read.
    #[arg(long, default_value_t = 100)]
    answers: usize,
    /// The time until memory is measured once more at the end, in seconds.
    #[arg(long, default_value_t = 60)]
    later: u64,
    /// The length of a turn, in seconds. Each build has four turns in a round.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// The number of rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// An argument that cargo gives to every benchmark. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.programs.is_empty() {
        options.programs.push(BUILT.into());
    }
    let settings = [("synchronous_commit", "off")];
    on_private_postgresql(&settings, async |embedded, dir| {
        measure(&options, embedded, dir).await
    })
    .await
}

async fn measure(options: &Options, embedded: &Embedded, dir: &Path) -> Result<()> {
    migrate(embedded.url()).await?;
    let owner = connect(embedded.url()).await?;
    owner.batch_execute(&fill_users(&numbers(USERS))).await?;
    // A page of these sessions has 8.6 MB.
    owner
        .batch_execute(&format!(
            "insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select '{USER}{FIRST}', c.id, 'Rust', t, t + interval '1 hour', t + interval '1 day', 'completed'
               from public.challenges as c, generate_series(1, 100) as n,
                    lateral (values (timestamptz '2026-02-01' + n * interval '1 day')) as start (t)
              where c.slug = 'slack-clone';
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages)
             select id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time,
                    array_fill(repeat('é', 214), array[200])
               from public.sessions;"
        ))
        .await?;
    let session: String = owner
        .query_one("select min(id::text) from public.sessions", &[])
        .await?
        .get(0);
    let start = async |program: &Path, name: &str| {
        let settings = [
            ("RATE_LIMITS", "off".to_owned()),
            ("RUST_LOG", "off".to_owned()),
        ];
        Server::service(program, embedded.socket_url(), dir, name, settings).await
    };

    let mut has_passwords = false;
    for program in &options.programs {
        let server = start(program, "memory").await?;
        if !has_passwords {
            set_passwords(&server, &owner).await?;
            has_passwords = true;
        }
        keep_memory(options, program, &server).await?;
        server.stop().await?;
    }

    let mut servers = Vec::new();
    for (number, program) in options.programs.iter().enumerate() {
        servers.push(start(program, &format!("cpu-{number}")).await?);
    }
    let tokens = access_tokens()?;
    let mut read = Vec::new();
    let path = format!("/sessions/{session}");
    http(
        &mut read,
        "GET",
        "/api/v1",
        &path,
        &token(&tokens, FIRST)?,
        "",
    );
    for (what, clients) in [("read a session", READERS), ("log in", LOGGERS_IN)] {
        let request = |client: usize| match what {
            "log in" => login(client as u64),
            _ => read.clone(),
        };
        let mut figures = vec![Vec::new(); servers.len()];
        for round in 0..options.rounds {
            for turn in TURNS {
                // If there are two builds, each goes first in every other turn.
                let mut order: Vec<_> = servers.iter().zip(&mut figures).collect();
                if turn == (round % 2 == 0) {
                    order.reverse();
                }
                for (server, figures) in order {
                    let turn = Duration::from_secs(options.seconds) / 2;
                    figures.push(cpu(server, clients, &request, turn).await?);
                }
            }
        }
        for (program, figures) in options.programs.iter().zip(figures) {
            let (least, median, most) = summary(figures);
            println!(
                "{:<40} {what}: {median:.1} µs of CPU ({least:.1}–{most:.1})",
                program.display()
            );
        }
    }
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

/// Gives all users the same password.
async fn set_passwords(server: &Server, owner: &tokio_postgres::Client) -> Result<()> {
    let body = json!({ "username": "somebody", "password": PASSWORD }).to_string();
    let mut request = Vec::new();
    http(&mut request, "POST", "/api/v1", "/auth/register", "", &body);
    let status = Connection::open(server.port)
        .await?
        .exchange(&request)
        .await?;
    ensure!(status == 201, "no registration: {status}");
    let same = "update private.credentials set password_hash =
        (select c.password_hash from private.credentials as c join public.users as u on u.id = c.user_id
          where u.username = 'somebody')";
    owner.batch_execute(same).await?;
    Ok(())
}

/// The request that logs a user in. After the last user the numbers begin again.
fn login(number: u64) -> Vec<u8> {
    let body =
        json!({ "username": format!("bench_{}", FIRST + number % USERS), "password": PASSWORD });
    let mut request = Vec::new();
    http(
        &mut request,
        "POST",
        "/api/v1",
        "/auth/login",
        "",
        &body.to_string(),
    );
    request
}

async fn keep_memory(options: &Options, program: &Path, server: &Server) -> Result<()> {
    println!("{}", program.display());
    sleep(Duration::from_secs(2)).await;
    tell(server, "at rest")?;
    let crowd = try_join_all((0..options.crowd).map(|_| Connection::open(server.port))).await?;
    let logins = crowd
        .into_iter()
        .zip(0..)
        .map(async |(mut connection, number)| {
            let status = connection.exchange(&login(number)).await?;
            ensure!([200, 503].contains(&status), "{status}");
            Ok(status == 200)
        });
    let let_in = try_join_all(logins)
        .await?
        .into_iter()
        .filter(|is_in| *is_in);
    let let_in = let_in.count();
    tell(
        server,
        &format!(
            "after {} logins at once, of which {let_in} were let in",
            options.crowd
        ),
    )?;
    later(options, server).await?;

    let unfinished = (0..options.bodies).map(|number| leave_unfinished(server.port, number));
    let unfinished = join_all(unfinished).await;
    tell(
        server,
        &format!("with {} unfinished bodies", options.bodies),
    )?;
    drop(unfinished);
    sleep(Duration::from_secs(2)).await;
    tell(server, "after they have gone")?;
    later(options, server).await?;

    let tokens = access_tokens()?;
    let mut request = Vec::new();
    let path = "/submissions?limit=100";
    http(
        &mut request,
        "GET",
        "/api/v1",
        path,
        &token(&tokens, FIRST)?,
        "",
    );
    let (left, request) = (Cell::new(options.answers), &request);
    let readers = (0..4).map(async |_| {
        let mut connection = Connection::open(server.port).await?;
        while left.get() > 0 {
            left.set(left.get() - 1);
            let status = connection.exchange(request).await?;
            ensure!([200, 503].contains(&status), "{status}");
        }
        Ok(())
    });
    try_join_all(readers).await?;
    tell(
        server,
        &format!("after {} answers of 8.6 MB", options.answers),
    )?;
    later(options, server).await
}

async fn later(options: &Options, server: &Server) -> Result<()> {
    sleep(Duration::from_secs(options.later)).await;
    tell(server, &format!("  {} s later", options.later))
}

/// Prints the resident memory, and its peak since the last call.
fn tell(server: &Server, when: &str) -> Result<()> {
    let process = format!("/proc/{}", server.pid);
    let status = fs::read_to_string(format!("{process}/status"))?;
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kilobytes
            .map(|kilobytes| kilobytes * 1024.0 / 1e6)
            .context("no such line")
    };
    let (now, peak) = (megabytes("VmRSS:")?, megabytes("VmHWM:")?);
    println!("  {when:<56} {now:>6.0} MB, {peak:>6.0} at most");
    // This resets the peak (proc(5)).
    fs::write(format!("{process}/clear_refs"), "5")?;
    Ok(())
}

/// Sends a body without its end, from one of many addresses. The client stays connected unless it is refused.
async fn leave_unfinished(port: u16, number: usize) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let from = Ipv4Addr::new(127, 0, 1, 1 + (number % usize::from(ADDRESSES)) as u8);
    socket.bind((from, 0).into()).ok()?;
    let to: SocketAddr = ([127, 0, 0, 1], port).into();
    let mut stream = socket.connect(to).await.ok()?;
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {BODY}\r\n\r\n"
    );
    let body = vec![b' '; BODY - 1];
    let sent = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await
    };
    let _ = timeout(Duration::from_secs(5), sent).await;
    Some(stream)
}

/// The CPU time of the service for a request, in microseconds, while this number of clients ask.
async fn cpu(
    server: &Server,
    clients: usize,
    request: &impl Fn(usize) -> Vec<u8>,
    turn: Duration,
) -> Result<f64> {
    let (done, over) = (Cell::new(0_u64), Cell::new(false));
    let mut figure = 0.0;
    let clock = async {
        sleep(WARM_UP).await;
        let (before, began) = (done.get(), Usage::of(server.pid)?.own_us);
        let started = Instant::now();
        while started.elapsed() < turn || done.get() == before {
            sleep(turn / 10).await;
        }
        let used = Usage::of(server.pid)?.own_us - began;
        figure = used as f64 / (done.get() - before) as f64;
        over.set(true);
        Ok(())
    };
    let asking = (0..clients).map(async |client| {
        let (mut connection, request) = (Connection::open(server.port).await?, request(client));
        while !over.get() {
            let status = connection.exchange(&request).await?;
            ensure!(
                status == 200,
                "{}",
                String::from_utf8_lossy(&connection.buffer)
            );
            done.set(done.get() + 1);
        }
        Ok(())
    });
    try_join(try_join_all(asking), clock).await?;
    Ok(figure)
}
