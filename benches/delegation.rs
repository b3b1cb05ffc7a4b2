//! What delegation costs: PostgREST asked through the service, beside the same PostgREST asked directly.
//!
//! `cargo bench --bench delegation` starts a private PostgreSQL with its default settings in a temporary directory, on it
//! the `postgrest` on PATH or else the postrust of the cache, configured as the service does it, and before that the
//! release build of the service. The two take turns with the same requests. Options: `-- --help`.

mod support;

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use speedcoding::{
    auth::token::AccessTokens,
    db::{embedded::Embedded, migrate::migrate},
};
use support::{BUILT, Connection, SECRET, Server, free_port, http, summary};
use tokio::{process::Command, time::sleep};
use tokio_postgres::NoTls;
use uuid::Uuid;

const CONNECTIONS: usize = 32;
const USERS: usize = 1000;
/// Ids end in the number of a user.
const FIRST: u64 = 100_000_000_000;
const USER: &str = "00000000-0000-7000-8000-";
const SIGN_IN: &str = "00000000-0000-4000-8000-";
/// Linux counts CPU time in hundredths of a second.
const TICK_US: f64 = 10_000.0;

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
    let dir = std::env::temp_dir().join(format!("speedcoding-bench-{}", std::process::id()));
    let embedded = Embedded::start(&dir, &[]).await?;
    let outcome = tokio::select! {
        outcome = measure(&options, &embedded, &dir) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
    };
    embedded.stop().await;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    outcome
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
    let (owner, connection) = tokio_postgres::connect(url.expose_secret(), NoTls).await?;
    tokio::spawn(connection);
    let numbers = format!(
        "generate_series({FIRST}, {}) as n",
        FIRST + USERS as u64 - 1
    );
    owner
        .batch_execute(&format!(
            "set session_replication_role = replica;
             insert into public.users (id, username) select ('{USER}' || n)::uuid, 'bench_' || n from {numbers};
             insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
             select ('{SIGN_IN}' || n)::uuid, ('{USER}' || n)::uuid, sha256(n::text::bytea), '\\x00000000',
                    now() + interval '14 days', now() + interval '30 days'
               from {numbers};
             insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select ('{USER}' || n)::uuid, id, 'Rust, PostgreSQL', now() - interval '2 days',
                    now() - interval '47 hours', now() - interval '1 day', 'completed'
               from {numbers}, public.challenges where slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
             select id, user_id, number, true, start_time + number * interval '8 minutes', 1
               from public.sessions, generate_series(1, 7) as number;
             reset session_replication_role;
             alter role authenticator password 'bench'"
        ))
        .await?;
    owner.batch_execute("vacuum (analyze)").await?;
    Ok(())
}

/// As the service starts it beside the private PostgreSQL, and beneath which path it serves.
async fn start_upstream(url: &SecretString, dir: &Path) -> Result<(Server, &'static str)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("postgrest"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_default()
        .join("speedcoding/postrust");
    let found = on_path
        .map(|program| (program, ""))
        .chain([(cache.join("bin/postrust"), "/api")])
        .find(|(program, _)| program.is_file());
    let (program, root) = found.with_context(|| {
        format!(
            "there is no PostgREST: put postgrest on PATH, or cargo install postrust-server --version '^3' --root {}",
            cache.display()
        )
    })?;
    let port = free_port()?;
    let mut database = url::Url::parse(url.expose_secret())?;
    let named = database
        .set_username("authenticator")
        .and_then(|()| database.set_password(Some("bench")));
    named
        .ok()
        .context("a PostgreSQL URL takes a user and a password")?;
    let mut command = Command::new(program);
    command
        .env("PGRST_DB_URI", database.as_str())
        .env("DATABASE_URL", database.as_str())
        .env("PGRST_DB_SCHEMAS", "public")
        .env("PGRST_DB_ANON_ROLE", "anon")
        .env("PGRST_DB_PRE_REQUEST", "speedcoding.check_request")
        .env("PGRST_JWT_SECRET", SECRET)
        .env("PGRST_JWT_AUD", "authenticated")
        .env("PGRST_SERVER_HOST", "127.0.0.1")
        .env("PGRST_SERVER_PORT", port.to_string());
    let ready = format!("{root}/challenges");
    Ok((
        Server::start(command, dir, "postgrest", port, &ready).await?,
        root,
    ))
}

/// One request a user, or one for all.
fn requests(base: &str, question: &str, signed_in: bool) -> Result<Vec<Vec<u8>>> {
    let tokens = AccessTokens::new(Some(&SecretString::from(SECRET)), &[], "speedcoding")?;
    let users = if signed_in { USERS as u64 } else { 1 };
    let request = |number: u64| {
        let mut request = Vec::new();
        if signed_in {
            let user = format!("{USER}{number}");
            let sign_in = Uuid::parse_str(&format!("{SIGN_IN}{number}"))?;
            let token = tokens.issue(Uuid::parse_str(&user)?, "runner", sign_in, None)?;
            http(
                &mut request,
                "GET",
                base,
                &format!("{question}{user}"),
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
        let (began, before) = (Instant::now(), cpu_us(service.pid)?);
        *latencies.borrow_mut() = Some(Vec::new());
        sleep(Duration::from_secs(options.seconds)).await;
        let (took, used) = (began.elapsed().as_secs_f64(), cpu_us(service.pid)? - before);
        over.set(true);
        let latencies = latencies.take().unwrap_or_default();
        let count = latencies.len() as f64;
        Ok(Turn {
            per_second: count / took,
            p50_ms: summary(latencies).1,
            service_us: used / count,
        })
    };
    let clients = try_join_all((0..CONNECTIONS).map(|_| client()));
    Ok(tokio::try_join!(clients, clock)?.1)
}

/// How much CPU a process has used.
fn cpu_us(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold spaces.
    let (_, fields) = text
        .rsplit_once(") ")
        .context("/proc/<pid>/stat has another form")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
    };
    let used = ticks(11)
        .zip(ticks(12))
        .context("/proc/<pid>/stat has another form")?;
    Ok((used.0 + used.1) * TICK_US)
}
