//! Measures the cost of logins: memory, the speed of hashing and the delay of other requests. Also measures whether the
//! time of an answer tells known names from unknown ones.
//!
//! `cargo bench --bench logins` starts a private PostgreSQL with its default settings in a temporary directory and the
//! release build of the service on it. Each round has four parts. First, 500 people log in at once. Then people log in
//! as fast as the service lets them, in turns with Argon2 alone on all cores. Then milestones are verified at a steady
//! pace, first without logins, then while people log in as fast as the service lets them. Last, unknown users and wrong
//! passwords take turns. Options: `-- --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a measurement stops when it meets something unexpected"
)]

mod support;

use std::{
    cell::{Cell, RefCell},
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use argon2::{Argon2, Block};
use clap::Parser;
use futures_util::future::{try_join, try_join_all};
use serde_json::{Value, json};
use speedcoding::embedded::Embedded;
use support::{
    BUILT, Connection, Server, TURNS, WARM_UP, connect, http, on_private_postgresql, summary,
};
use tokio::time::sleep;

const USERS: u64 = 1000;
const PASSWORD: &str = "correct horse battery staple";
const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// The memory of one hash.
const HASH_MEMORY: f64 = 19.0 * MEBIBYTE;
/// The memory that the service may use besides the hashes.
const REST: f64 = 60e6;
/// The number of people who log in at the same time, where logins go as fast as the service lets them. Its queue is
/// then never empty.
const CLIENTS_PER_CORE: usize = 8;
const VERIFIERS: u32 = 8;

#[derive(Parser)]
struct Options {
    /// The number of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The time of each measurement in a round, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The number of people who log in at once.
    #[arg(long, default_value_t = 500)]
    crowd: usize,
    /// The number of milestones that are verified in a second.
    #[arg(long, default_value_t = 200)]
    pace: u32,
    /// The number of unknown users in each round, and of wrong passwords.
    #[arg(long, default_value_t = 60)]
    guesses: u64,
    /// An argument that cargo gives to every benchmark. It has no effect.
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

/// The results of the rounds.
#[derive(Default)]
struct Figures {
    let_in: Vec<f64>,
    peak: Vec<f64>,
    logins: Vec<f64>,
    of_argon2: Vec<f64>,
    quiet: Vec<Latencies>,
    meanwhile: Vec<Latencies>,
    unknown: Vec<f64>,
    wrong: Vec<f64>,
}

/// In milliseconds.
struct Latencies {
    p50: f64,
    p99: f64,
}

async fn measure(options: &Options, embedded: &Embedded, dir: &std::path::Path) -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    let bench = Bench::set_up(options, embedded, dir, cores).await?;
    println!(
        "{} rounds, in each {} s of everything, {cores} cores. Medians; in brackets the spread. Load average: {}.\n",
        options.rounds,
        options.seconds,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    let mut figures = Figures::default();
    for round in 0..options.rounds {
        bench.crowd(&mut figures).await?;
        let (mut logins, mut alone) = (0.0, 0.0);
        for turn in TURNS {
            // Each of the two goes first in every other round.
            if turn == (round % 2 == 0) {
                logins += bench.logins().await? / 4.0;
            } else {
                alone += bench.argon2_alone().await? / 4.0;
            }
        }
        figures.logins.push(logins);
        figures.of_argon2.push(logins / alone);
        figures.quiet.push(bench.verify(false).await?);
        figures.meanwhile.push(bench.verify(true).await?);
        bench.guess(round as u64, &mut figures).await?;
    }
    report(options, cores, figures);
    Ok(())
}

fn report(options: &Options, cores: usize, figures: Figures) {
    let show = |name: &str, (least, median, most): (f64, f64, f64), rest: &str| {
        println!("{name:<46}{median:>9.2} ({least:.2}–{most:.2}){rest}");
    };
    let allowed = cores as f64 * HASH_MEMORY + REST;
    let crowd = options.crowd;
    show(
        &format!("{crowd} at once: let in, the others 503"),
        summary(figures.let_in),
        "",
    );
    let (least, median, most) = summary(figures.peak);
    let peak = (least / 1e6, median / 1e6, most / 1e6);
    show(
        "their peak of resident memory, MB",
        peak,
        &format!("; at most {:.0}", allowed / 1e6),
    );
    show("logins per second", summary(figures.logins), "");
    show(
        "of Argon2 alone on all cores",
        summary(figures.of_argon2),
        "; at least 0.95",
    );
    let pick =
        |of: &[Latencies], value: fn(&Latencies) -> f64| summary(of.iter().map(value).collect());
    show(
        "verify, quiet: p50, ms",
        pick(&figures.quiet, |it| it.p50),
        "",
    );
    show(
        "verify, during logins: p50, ms",
        pick(&figures.meanwhile, |it| it.p50),
        "",
    );
    show(
        "verify, quiet: p99, ms",
        pick(&figures.quiet, |it| it.p99),
        "",
    );
    show(
        "verify, during logins: p99, ms",
        pick(&figures.meanwhile, |it| it.p99),
        "",
    );
    let (unknown, wrong) = (summary(figures.unknown), summary(figures.wrong));
    show("unknown user, ms", unknown, "");
    show("wrong password, ms", wrong, "");
    println!(
        "{:<46}{:>9.3}; 0.95 to 1.05",
        "their medians' ratio",
        unknown.1 / wrong.1
    );
}

struct Bench<'a> {
    options: &'a Options,
    cores: usize,
    server: Server,
}

impl<'a> Bench<'a> {
    async fn set_up(
        options: &'a Options,
        embedded: &'a Embedded,
        dir: &std::path::Path,
        cores: usize,
    ) -> Result<Self> {
        let settings = [
            ("DB_CONNECTIONS", (4 * cores).to_string()),
            // The service counts these failed logins as always. Counting is part of the time that is compared.
            (
                "RATE_LIMITS",
                "on,network=off,user=off,register=off,login=off,refresh=off,runs=off".to_owned(),
            ),
        ];
        let server = Server::service(
            BUILT.as_ref(),
            embedded.socket_url(),
            dir,
            "service",
            settings,
        )
        .await?;
        let bench = Bench {
            options,
            cores,
            server,
        };
        let mut connection = bench.connect().await?;
        let body = json!({ "username": "user_0", "password": PASSWORD });
        call(&mut connection, "/auth/register", "", &body, 201).await?;
        // All users have the same password, because a thousand registrations would take long.
        let owner = connect(embedded.url()).await?;
        owner
            .batch_execute(&format!(
                "with account as (
                   insert into public.users (username) select 'user_' || n from generate_series(1, {USERS}) as n
                   returning id
                 )
                 insert into private.credentials (user_id, password_hash)
                 select id, (select password_hash from private.credentials) from account;
                 analyze;"
            ))
            .await?;
        Ok(bench)
    }

    async fn connect(&self) -> Result<Connection> {
        Connection::open(self.server.port).await
    }

    /// A quarter of the time that is measured in a round.
    fn turn(&self) -> Duration {
        Duration::from_secs(self.options.seconds) / 4
    }

    /// Lets `crowd` people log in at the same moment.
    async fn crowd(&self, figures: &mut Figures) -> Result<()> {
        let crowd = self.options.crowd;
        let mut connections = try_join_all((0..crowd).map(|_| self.connect())).await?;
        let process = format!("/proc/{}", self.server.pid);
        // This resets the peak (proc(5)).
        fs::write(format!("{process}/clear_refs"), "5")?;
        let logins = (0..)
            .zip(&mut connections)
            .map(async |(number, connection)| {
                let status =
                    log_in(connection, &format!("user_{}", number % USERS), PASSWORD).await?;
                let head = String::from_utf8_lossy(&connection.buffer).to_ascii_lowercase();
                ensure!(
                    status == 200 || status == 503 && head.contains("\r\nretry-after: "),
                    "{head}"
                );
                Ok(status == 200)
            });
        let let_in = try_join_all(logins).await?;
        let let_in = let_in.into_iter().filter(|is_in| *is_in).count();
        let status = fs::read_to_string(format!("{process}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok());
        figures.let_in.push(let_in as f64);
        figures.peak.push(peak.context("no VmHWM")? * 1024.0);
        Ok(())
    }

    /// The number of logins in a second.
    async fn logins(&self) -> Result<f64> {
        let (done, over) = (Cell::new(0_u64), Cell::new(false));
        let mut rate = 0.0;
        let clock = async {
            sleep(WARM_UP).await;
            let (before, began) = (done.get(), Instant::now());
            sleep(self.turn()).await;
            rate = (done.get() - before) as f64 / began.elapsed().as_secs_f64();
            over.set(true);
            Ok(())
        };
        try_join(self.log_in_until(&over, &done), clock).await?;
        Ok(rate)
    }

    async fn log_in_until(&self, over: &Cell<bool>, done: &Cell<u64>) -> Result<()> {
        let clients = (0..self.cores * CLIENTS_PER_CORE).map(async |client| {
            let mut connection = self.connect().await?;
            let user = format!("user_{client}");
            while !over.get() {
                let status = log_in(&mut connection, &user, PASSWORD).await?;
                ensure!(
                    status == 200,
                    "{}",
                    String::from_utf8_lossy(&connection.buffer)
                );
                done.set(done.get() + 1);
            }
            Ok(())
        });
        try_join_all(clients).await?;
        Ok(())
    }

    /// The number of hashes that all cores make in a second, at the service's priority, in memory that they keep.
    async fn argon2_alone(&self) -> Result<f64> {
        let turn = self.turn();
        let threads = (0..self.cores).map(|_| {
            tokio::task::spawn_blocking(move || {
                // The service's hashing threads have this priority, too.
                #[cfg(target_os = "linux")]
                rustix::process::nice(10)?;
                let argon2 = Argon2::default();
                let mut memory = vec![Block::new(); argon2.params().block_count()];
                let mut output = [0; 32];
                let mut hash_for = |time| {
                    let (mut done, began) = (0.0, Instant::now());
                    while began.elapsed() < time {
                        let (password, salt) = (PASSWORD.as_bytes(), b"0123456789abcdef");
                        argon2.hash_password_into_with_memory(
                            password,
                            salt,
                            &mut output,
                            &mut memory,
                        )?;
                        done += 1.0;
                    }
                    Ok::<_, argon2::Error>(done / began.elapsed().as_secs_f64())
                };
                let rate = hash_for(WARM_UP).and_then(|_| hash_for(turn));
                rate.map_err(|error| anyhow::anyhow!("{error}"))
            })
        });
        let mut rate = 0.0;
        for thread in try_join_all(threads).await? {
            rate += thread?;
        }
        Ok(rate)
    }

    /// The time that verifying a milestone takes, at a steady pace.
    async fn verify(&self, during_logins: bool) -> Result<Latencies> {
        let (done, over) = (Cell::new(0), Cell::new(false));
        let latencies = RefCell::new(None);
        let clock = async {
            sleep(WARM_UP).await;
            *latencies.borrow_mut() = Some(Vec::new());
            sleep(Duration::from_secs(self.options.seconds)).await;
            over.set(true);
            Ok(())
        };
        let runners =
            try_join_all((0..VERIFIERS).map(|runner| self.verify_until(runner, &over, &latencies)));
        let logins = async {
            if during_logins {
                self.log_in_until(&over, &done).await?;
            }
            Ok(())
        };
        try_join(try_join(runners, clock), logins).await?;
        let mut latencies: Vec<Duration> = latencies.take().unwrap_or_default();
        latencies.sort();
        let at = |share: usize| {
            let latency = latencies.get(latencies.len() * share / 100);
            latency.map_or(0.0, |it| it.as_secs_f64() * 1000.0)
        };
        Ok(Latencies {
            p50: at(50),
            p99: at(99),
        })
    }

    /// One runner's part of the requests. If the previous request delays the next one, the time of that one still
    /// counts from the moment when it was due.
    async fn verify_until(
        &self,
        runner: u32,
        over: &Cell<bool>,
        latencies: &RefCell<Option<Vec<Duration>>>,
    ) -> Result<()> {
        let mut connection = self.connect().await?;
        let body = json!({ "username": format!("user_{}", 500 + runner), "password": PASSWORD });
        let tokens = call(&mut connection, "/auth/login", "", &body, 200).await?;
        let token = tokens["accessToken"].as_str().context("a token")?;
        let period = Duration::from_secs(VERIFIERS.into()) / self.options.pace;
        let start = json!({ "techStack": "Rust", "challenge": "freestyle" });
        while !over.get() {
            let session = call(&mut connection, "/sessions/start", token, &start, 201).await?;
            let mut due = Instant::now() + period * runner / VERIFIERS;
            for number in 1..=7 {
                if let Some(wait) = due.checked_duration_since(Instant::now()) {
                    sleep(wait).await;
                    due = Instant::now();
                }
                let body = json!({ "sessionId": session["id"], "milestoneNumber": number });
                call(&mut connection, "/milestones/verify", token, &body, 200).await?;
                if let Some(latencies) = latencies.borrow_mut().as_mut() {
                    latencies.push(due.elapsed());
                }
                due += period;
            }
            let end = json!({ "sessionId": session["id"], "packages": [] });
            call(&mut connection, "/sessions/end", token, &end, 200).await?;
        }
        Ok(())
    }

    /// Sends logins of unknown users and wrong passwords in turns, on one connection. No user fails often enough to
    /// have to wait.
    async fn guess(&self, round: u64, figures: &mut Figures) -> Result<()> {
        let mut connection = self.connect().await?;
        let guesses = self.options.guesses;
        for number in round * guesses..(round + 1) * guesses {
            for is_unknown in [number % 2 == 0, number % 2 != 0] {
                let kind = if is_unknown { "nobody" } else { "user" };
                let sent = Instant::now();
                let name = format!("{kind}_{}", number % USERS);
                let status = log_in(&mut connection, &name, "not the right passphrase").await?;
                ensure!(
                    status == 401,
                    "{}",
                    String::from_utf8_lossy(&connection.buffer)
                );
                let times = if is_unknown {
                    &mut figures.unknown
                } else {
                    &mut figures.wrong
                };
                times.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
        }
        Ok(())
    }
}

async fn log_in(connection: &mut Connection, username: &str, password: &str) -> Result<u16> {
    let body = json!({ "username": username, "password": password });
    let mut request = Vec::new();
    http(
        &mut request,
        "POST",
        "/api/v1",
        "/auth/login",
        "",
        &body.to_string(),
    );
    connection.exchange(&request).await
}

/// Sends a request. Its answer must have this status.
async fn call(
    connection: &mut Connection,
    path: &str,
    token: &str,
    body: &Value,
    wanted: u16,
) -> Result<Value> {
    let mut request = Vec::new();
    http(
        &mut request,
        "POST",
        "/api/v1",
        path,
        token,
        &body.to_string(),
    );
    let status = connection.exchange(&request).await?;
    ensure!(
        status == wanted,
        "{}",
        String::from_utf8_lossy(&connection.buffer)
    );
    let (_, json) = std::str::from_utf8(&connection.buffer)?
        .split_once("\r\n\r\n")
        .context("no body")?;
    Ok(serde_json::from_str(json)?)
}
