//! Compares a board of ten million runs with a board of ten thousand. Both should answer equally fast.
//!
//! `cargo bench --bench boards` fills two private PostgreSQLs in the temporary directory, and starts the release build
//! of the service on each. It asks both in turns, over one connection each: first quietly, then while 200 results a
//! second arrive. If a fill is stopped, the next run continues it. Boards that are filled are used again. Options: `--
//! --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a measurement stops when it meets something unexpected"
)]

mod support;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;
use speedcoding::{api::BASE, db::migrate::migrate, embedded::Embedded};
use support::{BUILT, Connection, Server, access_tokens, connect, http, summary};
use tokio::time::interval_at;
use tokio_postgres::Client;
use uuid::Uuid;

/// PostgreSQL's shared buffers. PostgreSQL's documentation advises a quarter of the machine's memory; this is a quarter
/// of the memory of a machine for such a board.
const MEASURED: &[(&str, &str)] = &[("shared_buffers", "4GB")];
const FILL: &str = include_str!("boards.sql");
/// The number of results that one statement fills in.
const CHUNK: i64 = 50_000;
/// Filling needs no safety: after a power cut the board is filled anew.
const FILLING: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("max_wal_size", "2GB"),
    ("shared_buffers", "2GB"),
    ("maintenance_work_mem", "1GB"),
    ("work_mem", "512MB"),
];
/// The number of runners who ask, one after the other.
const RUNNERS: i64 = 1000;
const ARRIVALS_PER_SECOND: u32 = 200;
/// The number of connections over which results arrive.
const ARRIVING: u32 = 4;
/// The number of results that wait to arrive.
const ARRIVING_AT_MOST: i64 = 12_000;

#[derive(Parser)]
struct Options {
    /// The number of runs of the large board.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(i64).range(RUNNERS..=100_000_000))]
    entries: i64,
    /// The number of runs of the small board.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(RUNNERS..=100_000_000))]
    beside: i64,
    /// The number of turns of each board.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The number of requests in a turn.
    #[arg(long, default_value_t = 400)]
    requests: usize,
    /// The directory for the databases: 20 GB for ten million runs. Under root, PostgreSQL's account must be able to
    /// enter.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("speedcoding-boards"))]
    dir: PathBuf,
    /// Only fills the boards, and measures nothing.
    #[arg(long)]
    fill_only: bool,
    /// An argument that cargo gives to every benchmark. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Question {
    Top,
    Deep,
    Standing,
    Profile,
    Approve,
}

impl Question {
    fn name(self) -> &'static str {
        match self {
            Question::Top => "top 100",
            Question::Deep => "100 from the middle",
            Question::Standing => "own rank",
            Question::Profile => "profile with ranks",
            Question::Approve => "approve one more",
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    tokio::select! {
        outcome = run(&options) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped; the next run goes on from here")),
    }
}

async fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.dir)?;
    let sizes = [options.beside, options.entries];
    for entries in sizes {
        fill(options, entries).await?;
    }
    if options.fill_only {
        return Ok(());
    }
    let boards = [
        Board::open(options, sizes[0]).await?,
        Board::open(options, sizes[1]).await?,
    ];
    println!(
        "Median and p99 in ms over one connection, {} rounds of {} requests, {} cores, PostgreSQL with 4 GB of shared \
         buffers. Load average: {}.\n",
        options.rounds,
        options.requests,
        std::thread::available_parallelism()?,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    println!(
        "| | {} runs | | {} runs | | ratio |",
        grouped(sizes[0]),
        grouped(sizes[1])
    );
    println!("|---|---|---|---|---|---|");
    for arriving in [false, true] {
        let mut rates = [Vec::new(), Vec::new()];
        for question in Question::value_variants() {
            let mut took = [Vec::new(), Vec::new()];
            for board in &boards {
                // Loads all pages into memory, for both boards.
                board.turn(*question, options.requests, false).await?;
            }
            for round in 0..options.rounds {
                // Each board goes first once. A drift of the machine then favours neither.
                for place in [round % 2, 1 - round % 2] {
                    let board = &boards[place];
                    let (turn, rate) = board.turn(*question, options.requests, arriving).await?;
                    took[place].extend(turn);
                    rates[place].push(rate);
                }
            }
            let [small, large] = took.map(|took| (summary(took.clone()).1, percentile_99(took)));
            println!(
                "| {}{} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                question.name(),
                if arriving {
                    ", while results arrive"
                } else {
                    ""
                },
                small.0,
                small.1,
                large.0,
                large.1,
                large.0 / small.0
            );
        }
        if arriving {
            let [small, large] = rates.map(|rates| summary(rates).1);
            println!("\nResults arrived at {small:.0} and {large:.0} a second.");
        }
    }
    for board in boards {
        let status = fs::read_to_string(format!("/proc/{}/status", board.server.pid))?;
        let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
        println!(
            "The service's memory, at most: {}",
            peak.context("no VmHWM")?
        );
        board.embedded.stop().await;
    }
    Ok(())
}

/// Makes a board with this number of runs, or adds the runs that it lacks.
async fn fill(options: &Options, entries: i64) -> Result<()> {
    let dir = options.dir.join(entries.to_string());
    let embedded = Embedded::start(&dir, FILLING).await?;
    migrate(embedded.url()).await?;
    let owner = connect(embedded.url()).await?;
    owner
        .batch_execute(
            "create schema if not exists bench;
             create table if not exists bench.filled (entries bigint not null, ready boolean not null);
             insert into bench.filled select 0, false where not exists (select from bench.filled)",
        )
        .await?;
    let row = owner
        .query_one("select entries, ready from bench.filled", &[])
        .await?;
    let (mut filled, ready): (i64, bool) = (row.get(0), row.get(1));
    if !ready {
        let (began, before) = (Instant::now(), filled);
        while filled < entries {
            let next = (filled + CHUNK).min(entries);
            insert(&owner, filled + 1, next).await?;
            filled = next;
            let rate = (filled - before) as f64 / began.elapsed().as_secs_f64();
            println!(
                "{} of {} runs, {rate:.0} a second, {:.0} s left",
                grouped(filled),
                grouped(entries),
                (entries - filled) as f64 / rate
            );
        }
        println!("making the boards of {} runs", grouped(entries));
        owner
            .execute("select private.rebuild_boards()", &[])
            .await?;
        println!("vacuum and analyze");
        owner.batch_execute("vacuum (analyze)").await?;
        owner
            .execute("update bench.filled set ready = true", &[])
            .await?;
    }
    owner.batch_execute("checkpoint").await?;
    drop(owner);
    embedded.stop().await;
    Ok(())
}

/// Inserts the results with these numbers without triggers, and notes the progress.
async fn insert(owner: &Client, from: i64, to: i64) -> Result<()> {
    owner
        .batch_execute("begin; set local session_replication_role = replica")
        .await?;
    owner.execute(FILL, &[&from, &to]).await?;
    owner
        .execute("update bench.filled set entries = $1", &[&to])
        .await?;
    owner.batch_execute("commit").await?;
    Ok(())
}

/// A board, and the service that answers for it.
struct Board {
    embedded: Embedded,
    server: Server,
    owner: Client,
    moderator: String,
    top: Vec<Vec<u8>>,
    deep: Vec<Vec<u8>>,
    standings: Vec<Vec<u8>>,
    profiles: Vec<Vec<u8>>,
    /// The approvals that are still to come, each of one run.
    approvals: RefCell<Vec<Vec<u8>>>,
}

impl Board {
    async fn open(options: &Options, entries: i64) -> Result<Self> {
        let dir = options.dir.join(entries.to_string());
        let embedded = Embedded::start(&dir, MEASURED).await?;
        let owner = connect(embedded.url()).await?;
        let settings = [("RATE_LIMITS", "off".to_owned())];
        let server =
            Server::service(BUILT.as_ref(), embedded.url(), &dir, "service", settings).await?;
        let tokens = access_tokens()?;
        // The runners who ask are signed in.
        let rows = owner
            .query(
                "with moderator as (
                   insert into public.users (username, role) values ('moderator', 'moderator')
                       on conflict (lower(username)) do update set role = 'moderator'
                   returning id, username
                 ),
                 asking as (
                   select id, username::text from moderator
                    union all
                   select u.id, u.username::text
                     from generate_series(1, $1::bigint) as turn
                     join public.users as u on lower(u.username) = 'runner_' || 1 + (turn * 7919 % $2::bigint)
                 ),
                 known as (
                   insert into private.credentials (user_id, password_hash)
                   select distinct id, 'none' from asking
                       on conflict (user_id) do nothing
                 )
                 insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
                 select gen_random_uuid(), id, sha256(username::bytea), '\\x00000000',
                        now() + interval '14 days', now() + interval '30 days'
                   from asking
                 returning id, user_id, (select username from asking where asking.id = user_id)",
                &[&RUNNERS, &entries],
            )
            .await?;
        let mut board = Board {
            embedded,
            server,
            owner,
            moderator: String::new(),
            top: vec![get("/leaderboards/slack-clone?limit=100", "")],
            deep: Vec::new(),
            standings: Vec::new(),
            profiles: Vec::new(),
            approvals: RefCell::default(),
        };
        for row in rows {
            let username: String = row.get(2);
            let moderates = username == "moderator";
            let role = if moderates { "moderator" } else { "runner" };
            let token = tokens.issue(row.get(1), role, row.get(0), None)?;
            if moderates {
                board.moderator = token;
            } else {
                board
                    .standings
                    .push(get("/leaderboards/slack-clone/me", &token));
                board.profiles.push(get(&format!("/users/{username}"), ""));
            }
        }
        // Pages from the middle half of the board. Each begins at the position of a run.
        let places = board
            .owner
            .query(
                "select total_ms, (extract(epoch from end_time) * 1000000)::bigint, submission_id
                   from (
                     select p.*, row_number() over (order by total_ms, end_time, submission_id) as place
                       from public.personal_bests as p
                      where tech_stack_key = ''
                   ) as placed
                  where place between $1::bigint / 4 and $1 * 3 / 4
                    and place % ($1 / 1000) = 0",
                &[&entries],
            )
            .await?;
        for row in places {
            let (ms, micros, id): (i64, i64, Uuid) = (row.get(0), row.get(1), row.get(2));
            let cursor = BASE64_URL_SAFE_NO_PAD.encode(format!("{ms}.{micros}.{id}"));
            let path = format!("/leaderboards/slack-clone?limit=100&cursor={cursor}");
            board.deep.push(get(&path, ""));
        }
        board.hand_in(options, entries).await?;
        for statement in ["vacuum (analyze)", "checkpoint"] {
            board.owner.batch_execute(statement).await?;
        }
        Ok(board)
    }

    /// Adds further runs, which wait for approval. Runs that an earlier measurement approved become pending again, so
    /// that the board has its size.
    async fn hand_in(&self, options: &Options, entries: i64) -> Result<()> {
        let approved = i64::try_from(2 * (options.rounds + 1) * options.requests)?;
        let row = self
            .owner
            .query_one("select entries from bench.filled", &[])
            .await?;
        let filled: i64 = row.get(0);
        let to = filled.max(entries + approved + ARRIVING_AT_MOST);
        if filled < to {
            insert(&self.owner, filled + 1, to).await?;
        }
        let rows = self
            .owner
            .query(
                "with further as (
                   select u.id
                     from generate_series($1::bigint, $2) as n
                     join public.users as u on lower(u.username) = 'runner_' || n
                 ),
                 reopened as (
                   update public.submissions set status = 'PENDING'
                    where id in (select id from further)
                      and status = 'APPROVED'
                   returning id, revision
                 )
                 select id, revision from reopened
                  union all
                 select id, revision from public.submissions join further using (id) where status = 'PENDING'",
                &[&(entries + 1), &to],
            )
            .await?;
        let row = self
            .owner
            .query_one(
                "select entries from private.boards where tech_stack_key = ''",
                &[],
            )
            .await?;
        let on_board: i64 = row.get(0);
        ensure!(
            on_board == entries,
            "{on_board} runs are on the board of {entries}"
        );
        let approval = |row: &tokio_postgres::Row| {
            let path = format!("/submissions/{}/review", row.get::<_, Uuid>(0));
            let mut request = Vec::new();
            let revision: i32 = row.get(1);
            let body = format!(r#"{{"decision":"APPROVED","revision":{revision}}}"#);
            http(&mut request, "POST", BASE, &path, &self.moderator, &body);
            request
        };
        *self.approvals.borrow_mut() = rows.iter().map(approval).collect();
        Ok(())
    }

    /// Sends this number of requests. Returns the time that each took, in ms, and the number of results that arrived in
    /// a second meanwhile.
    async fn turn(
        &self,
        question: Question,
        requests: usize,
        arriving: bool,
    ) -> Result<(Vec<f64>, f64)> {
        let arrived = Cell::new(0_u32);
        let began = Instant::now();
        let took = tokio::select! {
            took = self.ask(question, requests) => took?,
            never = self.arrive(&arrived), if arriving => match never? {},
        };
        let per_second = f64::from(arrived.get()) / began.elapsed().as_secs_f64();
        Ok((took, per_second))
    }

    async fn ask(&self, question: Question, requests: usize) -> Result<Vec<f64>> {
        let mut connection = Connection::open(self.server.port).await?;
        let mut took = Vec::with_capacity(requests);
        for turn in 0..requests {
            let at = |requests: &[Vec<u8>]| requests[turn % requests.len()].clone();
            let request = match question {
                Question::Top => at(&self.top),
                Question::Deep => at(&self.deep),
                Question::Standing => at(&self.standings),
                Question::Profile => at(&self.profiles),
                Question::Approve => self.next_approval()?,
            };
            let sent = Instant::now();
            succeed(&mut connection, &request).await?;
            took.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(took)
    }

    /// Lets results arrive at an even pace, as long as this future is polled.
    async fn arrive(&self, arrived: &Cell<u32>) -> Result<Infallible> {
        let pace = Duration::from_secs(1) * ARRIVING / ARRIVALS_PER_SECOND;
        let began = tokio::time::Instant::now();
        let arrive = async |place| {
            let mut connection = Connection::open(self.server.port).await?;
            let mut turn = interval_at(began + pace * place / ARRIVING, pace);
            loop {
                turn.tick().await;
                succeed(&mut connection, &self.next_approval()?).await?;
                arrived.set(arrived.get() + 1);
            }
            #[expect(unreachable_code, reason = "tells the type")]
            anyhow::Ok(())
        };
        try_join_all((0..ARRIVING).map(arrive)).await?;
        anyhow::bail!("results arrive without end")
    }

    fn next_approval(&self) -> Result<Vec<u8>> {
        let next = self.approvals.borrow_mut().pop();
        next.context("this machine is too slow: all runs that waited are approved")
    }
}

fn get(path: &str, token: &str) -> Vec<u8> {
    let mut request = Vec::new();
    http(&mut request, "GET", BASE, path, token, "");
    request
}

async fn succeed(connection: &mut Connection, request: &[u8]) -> Result<()> {
    let status = connection.exchange(request).await?;
    ensure!(
        status == 200,
        "{}",
        String::from_utf8_lossy(&connection.buffer)
    );
    Ok(())
}

fn percentile_99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 99 / 100]
}

/// `10,000,000`
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
