//! What delegation costs: PostgREST asked through the service, beside the same PostgREST asked directly.
//!
//! `cargo bench --bench delegation` starts a private PostgreSQL with its default settings in a temporary directory, on it
//! the `postgrest` on PATH or else the postrust of the cache, configured as the service does it, and before that the
//! release build of the service. The two take turns with the same requests. Options: `-- --help`.

mod support;

use std::{
    cell::{Cell, RefCell},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use speedcoding::db::{embedded::Embedded, migrate::migrate};
use support::{
    BUILT, Connection, FIRST, PASSWORD, SECRET, Server, USER, Usage, access_tokens, connect,
    fill_users, free_port, http, numbers, on_private_postgresql, summary, token, upstream_program,
};
use tokio::time::sleep;

const CONNECTIONS: usize = 32;
const USERS: u64 = 1000;

/// What is asked, with a token or without: somebody's runs with their milestones, and what can be started.
const QUESTIONS: [(&str, bool, &str); 2] = [
    (
        "own sessions, signed in",
        true,
        "/sessions?select=id,status,total_time,milestones(milestone_number,passed)&user_id=eq.",
    ),
    (
        "challenges, a visitor",
        false,
        "/challenges?select=slug,title&order=slug",
    ),
];

#[derive(Parser)]
struct Options {
    /// How often each has its turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a turn is measured, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How long each turn runs before it is measured, in seconds.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    on_private_postgresql(&[], async |embedded, dir| {
        measure(&options, embedded, dir).await
    })
    .await
}

/// What one turn gave.
struct Turn {
    per_second: f64,
    p50_ms: f64,
    /// Microseconds of the service's CPU for each request, be it asked or not.
    service_us: f64,
}

async fn measure(options: &Options, embedded: &Embedded, dir: &Path) -> Result<()> {
    fill(embedded.url()).await?;
    let (upstream, root) = start_upstream(embedded.url(), dir).await?;
    let asked = format!("http://127.0.0.1:{}{root}", upstream.port);
    let settings = [("RATE_LIMITS", "off".to_owned()), ("POSTGREST_URL", asked)];
    let service = Server::service(
        BUILT.as_ref(),
        embedded.socket_url(),
        dir,
        "service",
        settings,
    )
    .await?;
    println!(
        "{CONNECTIONS} connections, {} rounds of {} s after {} s of warm-up, {} cores. Medians; in brackets the \
         spread. Load average: {}.\n",
        options.rounds,
        options.seconds,
        options.warm_up,
        std::thread::available_parallelism()?,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    for (name, signed_in, question) in QUESTIONS {
        let requests = |base: &str| requests(base, question, signed_in);
        let (through, directly) = (requests("/rest/v1")?, requests(root)?);
        let (mut delegated, mut direct) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let turn = |server, requests| load(options, server, &service, requests);
            // Each goes first once: what drifts favours nobody.
            if round % 2 == 0 {
                delegated.push(turn(&service, &through).await?);
                direct.push(turn(&upstream, &directly).await?);
            } else {
                direct.push(turn(&upstream, &directly).await?);
                delegated.push(turn(&service, &through).await?);
            }
        }
        let pairs = delegated.iter().zip(&direct);
        let ratio = summary(
            pairs
                .map(|(own, it)| own.per_second / it.per_second)
                .collect(),
        );
        let median =
            |turns: &[Turn], of: fn(&Turn) -> f64| summary(turns.iter().map(of).collect()).1;
        println!(
            "{name:<26}{:>7.0} req/s directly, {:>7.0} through the service: {:.2} ({:.2}–{:.2}); at least 0.80\n\
             {:<26}p50 {:.1} ms directly, {:.1} through the service, whose CPU is {:.0} µs a request",
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

/// Users who are signed in, each with a session that is over and its milestones.
async fn fill(url: &SecretString) -> Result<()> {
    migrate(url).await?;
    let owner = connect(url).await?;
    let numbers = numbers(USERS);
    let users = fill_users(&numbers);
    owner
        .batch_execute(&format!(
            "set session_replication_role = replica;
             {users}
             insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select ('{USER}' || n)::uuid, id, 'Rust, PostgreSQL', now() - interval '2 days',
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

/// As the service starts it beside the private PostgreSQL, and beneath which path it serves.
async fn start_upstream(url: &SecretString, dir: &Path) -> Result<(Server, &'static str)> {
    let program = upstream_program::find(&["postgrest", "postrust"]).with_context(|| {
        format!(
            "there is no PostgREST: put postgrest on PATH, or cargo install postrust-server --version '^3' --root {}",
            upstream_program::cache().display()
        )
    })?;
    let root = upstream_program::root(&program);
    let port = free_port()?;
    let database = upstream_program::database(url.expose_secret(), PASSWORD);
    let command = upstream_program::command(&program, &database, SECRET, port);
    let ready = format!("{root}/challenges");
    Ok((
        Server::start(command.into(), dir, "postgrest", port, &ready).await?,
        root,
    ))
}

/// One request a user, or one for all.
fn requests(base: &str, question: &str, signed_in: bool) -> Result<Vec<Vec<u8>>> {
    let tokens = access_tokens()?;
    let users = if signed_in { USERS } else { 1 };
    let request = |number: u64| {
        let mut request = Vec::new();
        if signed_in {
            let token = token(&tokens, number)?;
            http(
                &mut request,
                "GET",
                base,
                &format!("{question}{USER}{number}"),
                &token,
                "",
            );
        } else {
            http(&mut request, "GET", base, question, "", "");
        }
        Ok(request)
    };
    (FIRST..FIRST + users).map(request).collect()
}

/// Asks a server with all connections, each again as soon as it has its answer.
async fn load(
    options: &Options,
    server: &Server,
    service: &Server,
    requests: &[Vec<u8>],
) -> Result<Turn> {
    let (next, over) = (Cell::new(0_usize), Cell::new(false));
    let latencies: RefCell<Option<Vec<f64>>> = RefCell::new(None);
    let client = || async {
        let mut connection = Connection::open(server.port).await?;
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
        sleep(Duration::from_secs(options.warm_up)).await;
        let (began, before) = (Instant::now(), Usage::of(service.pid)?.own_us);
        *latencies.borrow_mut() = Some(Vec::new());
        sleep(Duration::from_secs(options.seconds)).await;
        let took = began.elapsed().as_secs_f64();
        let used = Usage::of(service.pid)?.own_us - before;
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
