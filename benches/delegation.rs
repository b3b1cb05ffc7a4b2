//! Measures the cost of delegation: requests to the same PostgREST, through the service and directly.
//!
//! `cargo bench --bench delegation` starts the release build of the service with a private PostgreSQL in a temporary
//! directory. The service starts a PostgREST: the `postgrest` on PATH, or else the postrust of the cache. The same
//! requests go to this PostgREST in turns, directly and through the service. Options: `-- --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a measurement stops when it meets something unexpected"
)]

mod support;

use std::{
    cell::{Cell, RefCell},
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use secrecy::SecretString;
use speedcoding::embedded::{Embedded, postgrest::PostgRest};
use support::{
    BUILT, Connection, FIRST, SECRET, Server, TURNS, USER, Usage, WARM_UP, access_tokens, connect,
    fill_users, free_port, http, numbers, summary, token, upstream_program,
};
use tokio::{process::Command, time::sleep};

const CONNECTIONS: usize = 32;
const USERS: u64 = 1000;

/// A user's runs with their milestones.
const OWN_SESSIONS: &str =
    "/sessions?select=id,status,total_time,milestones(milestone_number,passed)&user_id=eq.";
/// The challenges that can be started.
const CHALLENGES: &str = "/challenges?select=slug,title&order=slug";

#[derive(Parser)]
struct Options {
    /// The number of rounds. In a round each way has four turns.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// The measured time of a turn, in seconds.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// An argument that cargo gives to every benchmark. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let dir = env::temp_dir().join(format!("speedcoding-bench-{}", std::process::id()));
    fs::create_dir_all(dir.join("bin"))?;
    let service = start(&dir).await?;
    let outcome = tokio::select! {
        outcome = measure(&options, &service, &dir) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
    };
    service.stop().await?;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    outcome
}

/// Starts the service with its default settings and with a PostgREST on its PATH.
async fn start(dir: &Path) -> Result<Server> {
    let program = upstream_program::find(&["postgrest", "postrust"]).with_context(|| {
        format!(
            "there is no PostgREST: put postgrest on PATH, or cargo install postrust-server --version '^3' --root {}",
            upstream_program::cache().display()
        )
    })?;
    // The account of the private PostgreSQL may run it there.
    let bin = dir.join("bin");
    fs::copy(&program, bin.join(program.file_name().context("a name")?))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([bin].into_iter().chain(env::split_paths(&path)))?;
    let port = free_port()?;
    let mut command = Command::new(BUILT);
    command
        .env("DATA_DIR", dir.join("data"))
        .env("PATH", path)
        .env("JWT_SECRET", SECRET)
        .env("BIND", format!("127.0.0.1:{port}"))
        .env("RATE_LIMITS", "off");
    Server::start(command, dir, "service", port, "/health/ready").await
}

/// The result of one turn.
struct Turn {
    per_second: f64,
    p50_ms: f64,
    /// Microseconds of the service's CPU time for each request. Also measured when the requests go directly to
    /// PostgREST.
    service_us: f64,
}

async fn measure(options: &Options, service: &Server, dir: &Path) -> Result<()> {
    let data_dir = dir.join("data");
    let database = Embedded::running_url(&data_dir)?;
    fill(&database).await?;
    let upstream =
        PostgRest::running_url(&data_dir).context("the service has found no PostgREST")?;
    let questions = [
        ("own sessions, signed in", OWN_SESSIONS),
        ("challenges, a visitor", CHALLENGES),
    ];
    println!(
        "{CONNECTIONS} connections, {} rounds of four turns each, {} s a turn, {} cores. Medians; in brackets the \
         spread. Load average: {}.\n",
        options.rounds,
        options.seconds,
        std::thread::available_parallelism()?,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    let direct_port = upstream.port().context("a port")?;
    for (name, question) in questions {
        let through = requests("/rest/v1", question)?;
        let directly = requests(upstream.path().trim_end_matches('/'), question)?;
        let (mut delegated, mut direct) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            for turn in TURNS {
                // Each of the two goes first in every other round.
                if turn == (round % 2 == 0) {
                    delegated.push(load(options, service.port, service.pid, &through).await?);
                } else {
                    direct.push(load(options, direct_port, service.pid, &directly).await?);
                }
            }
        }
        let rate = |turns: &[Turn]| turns.iter().map(|turn| turn.per_second).sum::<f64>();
        let rounds = delegated.chunks(4).zip(direct.chunks(4));
        let ratio = summary(rounds.map(|(own, it)| rate(own) / rate(it)).collect());
        let median =
            |turns: &[Turn], of: fn(&Turn) -> f64| summary(turns.iter().map(of).collect()).1;
        println!(
            "{name:<26}{:>7.0} req/s directly, {:>7.0} through the service: {:.2} ({:.2}–{:.2}); at least 0.80\n\
             {:<26}p50 {:.1} ms directly, {:.1} through the service, which takes {:.0} µs of CPU for a request",
            median(&direct, |turn| turn.per_second),
            median(&delegated, |turn| turn.per_second),
            ratio.1,
            ratio.0,
            ratio.2,
            "",
            median(&direct, |turn| turn.p50_ms),
            median(&delegated, |turn| turn.p50_ms),
            median(&delegated, |turn| turn.service_us),
        );
    }
    Ok(())
}

/// Makes users who are signed in. Each has a session that is over, with milestones.
async fn fill(url: &SecretString) -> Result<()> {
    let owner = connect(url).await?;
    let numbers = numbers(USERS);
    let users = fill_users(&numbers);
    owner
        .batch_execute(&format!(
            "set session_replication_role = replica;
             {users}
             insert into public.sessions (user_id, challenge_id, tech_stack, tech_stack_key, start_time, end_time, deadline, status)
             select ('{USER}' || n)::uuid, id, 'Rust, PostgreSQL', 'postgresql,rust', now() - interval '2 days',
                    now() - interval '47 hours', now() - interval '1 day', 'completed'
               from {numbers}, public.challenges where slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
             select id, user_id, number, true, start_time + number * interval '8 minutes', 1
               from public.sessions, generate_series(1, 7) as number;
             reset session_replication_role"
        ))
        .await?;
    owner.batch_execute("vacuum (analyze)").await?;
    Ok(())
}

/// Makes the request of each user. If the path ends in a user's id, each user asks with their own; otherwise a visitor
/// asks.
fn requests(base: &str, question: &str) -> Result<Vec<Vec<u8>>> {
    let tokens = access_tokens()?;
    let request = |number: Option<u64>| {
        let mut request = Vec::new();
        let (path, token) = match number {
            Some(number) => (format!("{question}{USER}{number}"), token(&tokens, number)?),
            None => (question.to_owned(), String::new()),
        };
        http(&mut request, "GET", base, &path, &token, "");
        Ok(request)
    };
    match question.ends_with('.') {
        true => (FIRST..FIRST + USERS)
            .map(|number| request(Some(number)))
            .collect(),
        false => Ok(vec![request(None)?]),
    }
}

/// Sends requests to a server over all connections. A connection sends its next request as soon as it has its answer.
async fn load(options: &Options, port: u16, service: u32, requests: &[Vec<u8>]) -> Result<Turn> {
    let (next, over) = (Cell::new(0_usize), Cell::new(false));
    let latencies: RefCell<Option<Vec<f64>>> = RefCell::new(None);
    let client = || async {
        let mut connection = Connection::open(port).await?;
        while !over.get() {
            let request = &requests[next.replace(next.get() + 1) % requests.len()];
            let sent = Instant::now();
            let status = connection.exchange(request).await?;
            ensure!(
                status == 200,
                "{}",
                String::from_utf8_lossy(&connection.buffer)
            );
            if let Some(latencies) = latencies.borrow_mut().as_mut() {
                latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
        }
        Ok(())
    };
    let clock = async {
        sleep(WARM_UP).await;
        let (began, before) = (Instant::now(), Usage::of(service)?.own_us);
        *latencies.borrow_mut() = Some(Vec::new());
        sleep(Duration::from_secs(options.seconds)).await;
        let took = began.elapsed().as_secs_f64();
        let used = Usage::of(service)?.own_us - before;
        over.set(true);
        let latencies = latencies.take().unwrap_or_default();
        let count = latencies.len() as f64;
        Ok(Turn {
            per_second: count / took,
            p50_ms: summary(latencies).1,
            service_us: used as f64 / count,
        })
    };
    let clients = try_join_all((0..CONNECTIONS).map(|_| client()));
    Ok(tokio::try_join!(clients, clock)?.1)
}
