//! Measures the service under three times the load that it can serve.
//!
//! `cargo bench --bench overload` starts a private PostgreSQL in a temporary directory, and the release build of the
//! service on it with 8 connections. Each request takes 10 ms longer in the database, as if the database were far away.
//! First it finds the highest rate (a closed loop: a client sends its next request when it has its answer). Then it
//! sends three times that rate (an open loop: requests do not wait for answers), and then half of it. Latency counts
//! from the moment when a request was due. Options: `-- --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "it ends when it meets something unexpected; it may read clocks, random numbers and the environment"
)]

mod support;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Parser;
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use support::{
    BUILT, Connection, FIRST, Server, access_tokens, connect, fill_users, http, numbers,
    on_private_postgresql, token,
};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const USERS: u64 = 1000;
/// The number of connections that the service has to PostgreSQL.
const CONNECTIONS: u64 = 8;
/// A clock that takes 10 ms longer to read. Every request reads it once.
const FAR_AWAY: &str = "
    create or replace function private.clock() returns timestamptz language plpgsql volatile
    set search_path = pg_catalog, pg_temp
    as $$ begin perform pg_sleep(0.01); return date_trunc('milliseconds', clock_timestamp()); end $$";

#[derive(Parser)]
struct Options {
    /// The length of each of the three parts, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// The load, as a multiple of the highest rate that the service reaches.
    #[arg(long, default_value_t = 3.0)]
    times: f64,
    /// An argument that cargo gives to every benchmark. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

/// An answer: the moment when its request was due, the time that it took, its status.
type Answered = (Instant, Duration, u16);

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let settings = [("synchronous_commit", "off")];
    on_private_postgresql(&settings, async |embedded, dir| {
        measure(embedded, dir, &options).await
    })
    .await
}

async fn measure(embedded: &Embedded, dir: &Path, options: &Options) -> Result<()> {
    migrate(embedded.url()).await?;
    let owner = connect(embedded.url()).await?;
    owner.batch_execute(&fill_users(&numbers(USERS))).await?;
    owner.batch_execute(FAR_AWAY).await?;
    let settings = [
        ("RATE_LIMITS", "off".to_owned()),
        ("DB_CONNECTIONS", CONNECTIONS.to_string()),
        ("RUST_LOG", "off".to_owned()),
    ];
    let server =
        Server::service(Path::new(BUILT), embedded.url(), dir, "service", settings).await?;
    let tokens = access_tokens()?;
    let mut requests = Vec::new();
    for number in FIRST..FIRST + USERS {
        let mut request = Vec::new();
        let token = token(&tokens, number)?;
        http(&mut request, "GET", "/api/v1", "/auth/me", &token, "");
        requests.push(request);
    }
    let load = Arc::new(Load {
        port: server.port,
        requests,
        idle: Mutex::default(),
    });
    let lasting = Duration::from_secs(options.seconds);

    load.closed(2 * CONNECTIONS, Duration::from_secs(1)).await?;
    let peak = load.closed(2 * CONNECTIONS, lasting).await?;
    let peak = rate(&peak, lasting);
    println!("closed loop: {peak:.0}/s");
    let over = load.open(peak * options.times, lasting).await?;
    let after = load.open(peak / 2.0, lasting).await?;

    let good = rate(&over, lasting);
    let refused = over.iter().filter(|(.., status)| *status == 503).count();
    let (of_good, of_refused) = (percentile(&over, 200), percentile(&over, 503));
    println!(
        "{} times as much: goodput {good:.0}/s, {:.0} % of the peak; {refused} of {} refused; \
         p99 of the accepted {of_good:?}, of the refused {of_refused:?}",
        options.times,
        100.0 * good / peak,
        over.len(),
    );
    let began = after.iter().map(|(due, ..)| *due).min();
    let last = after.iter().filter(|(.., status)| *status != 200);
    let last = last.map(|(due, ..)| *due).max();
    let recovered = began
        .zip(last)
        .map_or(Duration::ZERO, |(began, last)| last - began);
    println!(
        "half as much: p99 {:?}; the last refusal {recovered:?} after the load had ended",
        percentile(&after, 200),
    );
    let known = [200, 503];
    ensure!(
        over.iter()
            .chain(&after)
            .all(|(.., status)| known.contains(status))
    );
    server.stop().await
}

/// The number of successful answers in a second.
fn rate(answered: &[Answered], lasting: Duration) -> f64 {
    let good = answered.iter().filter(|(.., status)| *status == 200);
    good.count() as f64 / lasting.as_secs_f64()
}

/// The longest time among the fastest 99 of 100 answers with this status.
fn percentile(answered: &[Answered], status: u16) -> Duration {
    let of_status = answered.iter().filter(|(.., answered)| *answered == status);
    let mut times: Vec<_> = of_status.map(|(_, took, _)| *took).collect();
    times.sort();
    times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or_default()
}

struct Load {
    port: u16,
    requests: Vec<Vec<u8>>,
    idle: Mutex<Vec<Connection>>,
}

impl Load {
    async fn send(&self, turn: usize, due: Instant) -> Result<Answered> {
        let idle = self.idle.lock().await.pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(self.port).await?,
        };
        let request = &self.requests[turn % self.requests.len()];
        let status = connection.exchange(request).await?;
        self.idle.lock().await.push(connection);
        Ok((due, due.elapsed(), status))
    }

    /// Runs this number of clients. Each waits for its answer before it sends the next request.
    async fn closed(self: &Arc<Self>, clients: u64, lasting: Duration) -> Result<Vec<Answered>> {
        let until = Instant::now() + lasting;
        let mut running = JoinSet::new();
        for client in 0..clients {
            let load = self.clone();
            running.spawn(async move {
                let mut answered = Vec::new();
                let mut turn = usize::try_from(client)? * 61;
                while Instant::now() < until {
                    answered.push(load.send(turn, Instant::now()).await?);
                    turn += 1;
                }
                anyhow::Ok(answered)
            });
        }
        let answered: Result<Vec<_>> = running.join_all().await.into_iter().collect();
        Ok(answered?.concat())
    }

    /// Sends this number of requests in a second, without waiting for answers.
    async fn open(self: &Arc<Self>, rate: f64, lasting: Duration) -> Result<Vec<Answered>> {
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (began, mut sent) = (Instant::now(), 0_u32);
        let mut running = JoinSet::new();
        while began.elapsed() < lasting {
            ticks.tick().await;
            let elapsed = began.elapsed().min(lasting);
            while f64::from(sent) / rate < elapsed.as_secs_f64() {
                let due = began + Duration::from_secs_f64(f64::from(sent) / rate);
                let load = self.clone();
                let turn = usize::try_from(sent)?;
                running.spawn(async move { load.send(turn, due).await });
                sent += 1;
            }
        }
        running.join_all().await.into_iter().collect()
    }
}
