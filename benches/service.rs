//! Compares the service with pgbench on the very same statements, and with a generic server.
//!
//! `cargo bench --bench service` starts a private PostgreSQL with its default settings in a temporary directory, fills
//! it, starts the release build of the service on it, and lets the contestants take turns with 32 connections each: the
//! service over HTTP, pgbench, and postrust if it is installed. All do the same work on the same rows. The tables are
//! restored before each turn. Options: `-- --help`.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a measurement stops when it meets something unexpected"
)]

mod support;

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use speedcoding::{auth::token::AccessTokens, db::migrate::migrate, embedded::Embedded};
use support::{
    BUILT, Connection, FIRST, SECRET, Server, TICK_US, USER, Usage, access_tokens, connect,
    fill_users, free_port, http, numbers, on_private_postgresql, summary, token, upstream_program,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::sleep,
};
use tokio_postgres::Client;

const CONNECTIONS: u64 = 32;
const PACKAGES: [&str; 5] = ["tokio", "poem", "serde", "tokio-postgres", "argon2"];
/// The password of `authenticator`.
const PASSWORD: &str = "bench";
const VIDEO_URL: &str = "https://www.youtube.com/watch?v=dQw4w9WgXcQ";
/// The ids of sessions that stay. Every user has one that is over, with milestones and a submission.
const ARCHIVED: &str = "00000000-0000-7001-8000-";
/// The ids of sessions that a turn uses up. Ids that the functions make are greater.
const STOCK: &str = "00000000-0000-7002-8000-";
/// Spreads consecutive requests over all users.
const STRIDE: u64 = 7919;
/// The settings that the service gives its connections.
const OPTIONS: &str = "-c role=speedcoding_api -c statement_timeout=10s -c lock_timeout=5s \
                       -c idle_in_transaction_session_timeout=10s";

#[derive(Parser)]
struct Options {
    /// The operations to measure; all by default.
    operations: Vec<Operation>,
    /// The number of turns of each contestant.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The measured time of a turn, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The time that each turn runs before it is measured, in seconds: caches fill, functions are compiled.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// The number of users. A turn can start or end one session for each.
    #[arg(long, default_value_t = 40_000)]
    users: u64,
    /// Further builds of the service to compare.
    #[arg(long)]
    binary: Vec<PathBuf>,
    /// Statements to try out: run by the owner after the migrations.
    #[arg(long)]
    sql: Option<PathBuf>,
    /// Does not measure postrust.
    #[arg(long)]
    without_postrust: bool,
    /// Commits do not wait for the disk, for any contestant.
    #[arg(long)]
    asynchronous_commit: bool,
    /// An argument that cargo gives to every benchmark. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Operation {
    Start,
    Verify,
    End,
    Get,
}

/// The user, the session and the milestone of a request.
struct Item {
    number: u64,
    milestone: u64,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Start => "start_session",
            Operation::Verify => "verify_milestone",
            Operation::End => "end_session",
            Operation::Get => "get_session",
        }
    }

    /// The number of users who take part. With verify each passes several milestones.
    fn users(self, users: u64) -> u64 {
        if self == Operation::Verify {
            users / 5
        } else {
            users
        }
    }

    /// The subject of the `turn`-th request, or none if the stock is used up. pgbench computes the same.
    fn item(self, turn: u64, users: u64) -> Option<Item> {
        let users = self.users(users);
        let (milestone, most) = match self {
            Operation::Verify => (turn / users + 1, 7),
            Operation::Get => (1, 1),
            Operation::Start | Operation::End => (turn / users + 1, 1),
        };
        let number = FIRST + turn * STRIDE % users;
        (milestone <= most).then_some(Item { number, milestone })
    }

    /// The statement that makes the rows for a turn, besides those that stay.
    fn stock(self, users: u64) -> String {
        let (challenge, passed) = match self {
            Operation::Start | Operation::Get => return String::new(),
            Operation::Verify => ("freestyle", 0),
            Operation::End => ("slack-clone", 7),
        };
        let last = FIRST + self.users(users) - 1;
        format!(
            "insert into public.sessions (id, user_id, challenge_id, tech_stack, tech_stack_key, start_time, deadline)
             select ('{STOCK}' || n)::uuid, ('{USER}' || n)::uuid, id, 'Rust, PostgreSQL', 'postgresql,rust',
                    now() - interval '1 hour', now() + interval '23 hours'
               from generate_series({FIRST}, {last}) as n, public.challenges where slug = '{challenge}';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
             select ('{STOCK}' || n)::uuid, ('{USER}' || n)::uuid, number, true,
                    now() - interval '1 hour' + number * interval '5 minutes', 1
               from generate_series({FIRST}, {last}) as n, generate_series(1, {passed}) as number;"
        )
    }

    /// Counts the work that is found in the database afterwards.
    fn done(self) -> String {
        match self {
            Operation::Start => {
                format!("select count(*) from public.sessions where id >= '{STOCK}000000000000'")
            }
            Operation::Verify => {
                format!(
                    "select count(*) from public.milestones where session_id >= '{STOCK}000000000000'"
                )
            }
            Operation::End => {
                format!(
                    "select count(*) from public.submissions where session_id >= '{STOCK}000000000000'"
                )
            }
            Operation::Get => "select 0::bigint".to_owned(),
        }
    }

    /// The request to the service.
    fn request(self, item: &Item, token: &str, out: &mut Vec<u8>) {
        let Item { number, milestone } = item;
        let (path, body) = match self {
            Operation::Start => (
                "/sessions/start",
                r#"{"techStack":"Rust, PostgreSQL","challenge":"freestyle"}"#.to_owned(),
            ),
            Operation::Verify => (
                "/milestones/verify",
                format!(r#"{{"sessionId":"{STOCK}{number}","milestoneNumber":{milestone}}}"#),
            ),
            Operation::End => (
                "/sessions/end",
                format!(
                    r#"{{"sessionId":"{STOCK}{number}","packages":["{}"],"videoUrl":"{VIDEO_URL}"}}"#,
                    PACKAGES.join("\",\"")
                ),
            ),
            Operation::Get => {
                let path = format!("/sessions/{ARCHIVED}{number}");
                return http(out, "GET", "/api/v1", &path, token, "");
            }
        };
        http(out, "POST", "/api/v1", path, token, &body);
    }

    /// The same request as a remote procedure call of PostgREST.
    fn remote_call(self, item: &Item, token: &str, out: &mut Vec<u8>) {
        let Item { number, milestone } = item;
        let body = match self {
            Operation::Start => {
                r#"{"tech_stack":"Rust, PostgreSQL","challenge":"freestyle"}"#.to_owned()
            }
            Operation::Verify => {
                format!(r#"{{"session_id":"{STOCK}{number}","milestone_number":{milestone}}}"#)
            }
            Operation::End => format!(
                r#"{{"session_id":"{STOCK}{number}","packages":["{}"],"video_url":"{VIDEO_URL}"}}"#,
                PACKAGES.join("\",\"")
            ),
            Operation::Get => format!(r#"{{"session_id":"{ARCHIVED}{number}"}}"#),
        };
        http(out, "POST", "/api/rpc/", self.name(), token, &body);
    }

    /// The script that pgbench repeats: the statement of `sql/queries`, with parameters made from numbers.
    fn script(self, users: u64, clients: u64) -> String {
        let users = self.users(users);
        let arguments = match self {
            Operation::Start => ":stack, :challenge",
            Operation::Verify => "(:stock::text || :n)::uuid, :milestone",
            Operation::End => "(:stock::text || :n)::uuid, :packages, :video",
            Operation::Get => "(:archived::text || :n)::uuid",
        };
        format!(
            "\\set turn :i * {clients} + :client_id\n\
             \\set i :i + 1\n\
             \\set n {FIRST} + :turn * {STRIDE} % {users}\n\
             \\set milestone :turn / {users} + 1\n\
             select * from private.{}((:a::text || :n || :b || :n || :c)::jsonb, {arguments});\n",
            self.name(),
        )
    }
}

/// A program that does the work.
enum Contestant {
    Service { name: String, server: Server },
    Pgbench { name: String, clients: u64 },
    Postrust(Server),
}

impl Contestant {
    fn name(&self) -> &str {
        match self {
            Contestant::Service { name, .. } | Contestant::Pgbench { name, .. } => name,
            Contestant::Postrust(_) => "postrust",
        }
    }
}

/// The result of one turn. Times are microseconds of CPU for each request.
#[derive(Clone, Default)]
struct Turn {
    per_second: f64,
    server_us: f64,
    postgres_us: f64,
    client_us: f64,
    /// The median, in milliseconds. For pgbench it is the mean.
    p50_ms: f64,
    p99_ms: f64,
    /// The share of the machine's CPU that others used.
    others: f64,
    /// The number of all requests, also of those before the measurement.
    total: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let commit = if options.asynchronous_commit {
        "off"
    } else {
        "on"
    };
    on_private_postgresql(&[("synchronous_commit", commit)], async |embedded, dir| {
        compete(&options, embedded, dir).await
    })
    .await
}

async fn compete(options: &Options, embedded: &Embedded, dir: &Path) -> Result<()> {
    let bench = Bench::set_up(options, embedded, dir).await?;
    let contestants = bench.contestants().await?;
    println!(
        "{CONNECTIONS} connections, {} rounds of {} s after {} s of warm-up, {} users, {} cores, {}, \
         synchronous_commit {}",
        options.rounds,
        options.seconds,
        options.warm_up,
        options.users,
        std::thread::available_parallelism()?,
        bench.database_version().await?,
        if options.asynchronous_commit {
            "off"
        } else {
            "on"
        },
    );
    println!(
        "\"of pgbench\": with {CONNECTIONS} clients; the servers, and the other pgbench, have {} connections to \
         PostgreSQL. Medians; in brackets the spread. \"by CPU\": the same ratio, computed from the CPU time of all involved \
         processes for a request; other processes on the machine disturb it less. CPU in µs for each request. \
         \"others\": the share of the machine's CPU that went to unrelated processes. Load average: {}.\n",
        bench.pool,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    println!(
        "{:<17}{:<11}{:>7} {:<13}{:>10} {:<13}{:>5} {:<13}{:>7}{:>9}{:>7}{:>8}{:>8}{:>7}",
        "operation",
        "",
        "req/s",
        "",
        "of pgbench",
        "",
        "by CPU",
        "",
        "server",
        "Postgres",
        "client",
        "p50 ms",
        "p99 ms",
        "others"
    );
    let operations = match options.operations.as_slice() {
        [] => Operation::value_variants(),
        chosen => chosen,
    };
    for operation in operations {
        bench.reset(*operation).await?;
        let mut turns = vec![Vec::new(); contestants.len()];
        for round in 0..options.rounds {
            // Each contestant goes first once. A drift of the machine then favours none.
            for place in 0..contestants.len() {
                let index = (place + round) % contestants.len();
                turns[index].push(bench.turn(*operation, &contestants[index]).await?);
            }
        }
        report(*operation, &contestants, &turns);
    }
    Ok(())
}

fn report(operation: Operation, contestants: &[Contestant], turns: &[Vec<Turn>]) {
    let reference = contestants
        .iter()
        .position(|contestant| matches!(contestant, Contestant::Pgbench { clients, .. } if *clients == CONNECTIONS))
        .expect("pgbench always takes part");
    for (contestant, own) in contestants.iter().zip(turns) {
        let of = |value: fn(&Turn) -> f64| summary(own.iter().map(value).collect());
        let rate = of(|turn| turn.per_second);
        let compared = |value: fn(&Turn) -> f64| {
            let pairs = own.iter().zip(&turns[reference]);
            summary(pairs.map(|(own, it)| value(own) / value(it)).collect())
        };
        let ratio = compared(|turn| turn.per_second);
        let by_cpu = compared(|turn| 1.0 / (turn.server_us + turn.postgres_us + turn.client_us));
        println!(
            "{:<17}{:<11}{:>7.0} {:<13}{:>10.2} {:<13}{:>6.2} {:<12}{:>7.0}{:>9.0}{:>7.0}{:>8.1}{:>8.1}{:>6.0}%",
            operation.name(),
            contestant.name(),
            rate.1,
            format!("({:.0}–{:.0})", rate.0, rate.2),
            ratio.1,
            format!("({:.2}–{:.2})", ratio.0, ratio.2),
            by_cpu.1,
            format!("({:.2}–{:.2})", by_cpu.0, by_cpu.2),
            of(|turn| turn.server_us).1,
            of(|turn| turn.postgres_us).1,
            of(|turn| turn.client_us).1,
            of(|turn| turn.p50_ms).1,
            of(|turn| turn.p99_ms).1,
            of(|turn| turn.others * 100.0).1,
        );
    }
}

struct Bench<'a> {
    options: &'a Options,
    dir: &'a Path,
    url: &'a SecretString,
    owner: Client,
    postmaster: u32,
    /// The number of connections that a server may have to PostgreSQL. It is the service's default with a private
    /// PostgreSQL.
    pool: u64,
    tokens: AccessTokens,
}

impl<'a> Bench<'a> {
    async fn set_up(options: &'a Options, embedded: &'a Embedded, dir: &'a Path) -> Result<Self> {
        let url = embedded.url();
        migrate(url).await?;
        let trial = options.sql.as_ref().map(fs::read_to_string).transpose()?;
        let owner = connect(url).await?;
        owner.batch_execute(&trial.unwrap_or_default()).await?;
        let backend: i32 = owner
            .query_one("select pg_backend_pid()", &[])
            .await?
            .get(0);
        let bench = Bench {
            options,
            dir,
            url,
            owner,
            postmaster: Usage::of(backend.try_into()?)?.parent,
            pool: match std::env::var("DB_CONNECTIONS") {
                Ok(connections) => connections.parse()?,
                Err(_) => 4 * std::thread::available_parallelism()?.get() as u64,
            },
            tokens: access_tokens()?,
        };
        bench.fill().await?;
        Ok(bench)
    }

    async fn database_version(&self) -> Result<String> {
        let version: String = self
            .owner
            .query_one("show server_version", &[])
            .await?
            .get(0);
        Ok(format!("PostgreSQL {version}"))
    }

    /// Makes users who are signed in, each with a session that stays, and functions that PostgREST can call.
    async fn fill(&self) -> Result<()> {
        let numbers = numbers(self.options.users);
        let users = fill_users(&numbers);
        let packages = PACKAGES.join(",");
        let fill = format!(
            "set session_replication_role = replica;
             {users}
             alter role authenticator password '{PASSWORD}';
             insert into public.sessions
               (id, user_id, challenge_id, tech_stack, tech_stack_key, start_time, end_time, deadline, status)
             select ('{ARCHIVED}' || n)::uuid, ('{USER}' || n)::uuid, id, 'Rust, PostgreSQL', 'postgresql,rust',
                    now() - interval '2 days',
                    now() - interval '47 hours', now() - interval '1 day', 'completed'
               from {numbers}, public.challenges where slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
             select id, user_id, number, true, start_time + number * interval '8 minutes', 1
               from public.sessions, generate_series(1, 7) as number;
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
             select id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, '{{{packages}}}', '{VIDEO_URL}'
               from public.sessions;
             reset session_replication_role;"
        );
        self.owner.batch_execute(&fill).await?;
        self.owner
            .batch_execute(
                "create schema bench;
                 grant usage on schema bench to authenticated, anon;
                 create function bench.caller() returns jsonb language sql stable
                 as $$ select current_setting('request.jwt.claims')::jsonb $$;
                 create function bench.start_session(tech_stack text, challenge text)
                 returns private.session_result language sql security definer
                 as $$ select * from private.start_session(bench.caller(), $1, $2) $$;
                 create function bench.verify_milestone(session_id uuid, milestone_number integer)
                 returns private.milestone_result language sql security definer
                 as $$ select * from private.verify_milestone(bench.caller(), $1, $2) $$;
                 create function bench.end_session(session_id uuid, packages text[], video_url text)
                 returns private.session_result language sql security definer
                 as $$ select * from private.end_session(bench.caller(), $1, $2, $3) $$;
                 create function bench.get_session(session_id uuid)
                 returns private.session_result language sql security definer
                 as $$ select * from private.get_session(bench.caller(), $1) $$;",
            )
            .await?;
        Ok(())
    }

    /// Restores the tables to the state in which every turn begins.
    async fn reset(&self, operation: Operation) -> Result<()> {
        self.owner
            .batch_execute(&format!(
                "set session_replication_role = replica;
                 delete from public.submissions where session_id >= '{STOCK}000000000000';
                 delete from public.milestones where session_id >= '{STOCK}000000000000';
                 delete from public.sessions where id >= '{STOCK}000000000000';
                 {};
                 reset session_replication_role;",
                operation.stock(self.options.users)
            ))
            .await?;
        for statement in ["vacuum (analyze)", "checkpoint"] {
            self.owner.batch_execute(statement).await?;
        }
        Ok(())
    }

    async fn contestants(&self) -> Result<Vec<Contestant>> {
        let mut contestants = Vec::new();
        let built = PathBuf::from(BUILT);
        for binary in std::iter::once(&built).chain(&self.options.binary) {
            let name = if *binary == built {
                "service".to_owned()
            } else {
                binary
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            let server = self.start_service(binary, &name).await?;
            contestants.push(Contestant::Service { name, server });
        }
        // pgbench twice: with all clients, and with the number of connections that the service has.
        for clients in [CONNECTIONS, self.pool] {
            let name = format!("pgbench {clients}");
            contestants.push(Contestant::Pgbench { name, clients });
        }
        if self.options.without_postrust {
            return Ok(contestants);
        }
        if let Some(postrust) = upstream_program::find(&["postrust"]) {
            contestants.push(Contestant::Postrust(self.start_postrust(&postrust).await?));
        } else {
            println!(
                "postrust is not installed, so it is not compared: cargo install postrust-server --version '^3' --root {}",
                upstream_program::cache().display()
            );
        }
        Ok(contestants)
    }

    async fn start_service(&self, binary: &Path, name: &str) -> Result<Server> {
        let settings = [("DB_CONNECTIONS", self.pool.to_string())];
        Server::service(binary, self.url, self.dir, name, settings).await
    }

    async fn start_postrust(&self, binary: &Path) -> Result<Server> {
        let port = free_port()?;
        let database = upstream_program::database(self.url.expose_secret(), PASSWORD);
        let mut command = upstream_program::command(binary, &database, SECRET, port);
        command
            .env("PGRST_DB_SCHEMAS", "bench")
            .env("PGRST_DB_POOL", self.pool.to_string())
            // No pre-request check: the functions that it calls check the sign-in themselves.
            .env_remove("PGRST_DB_PRE_REQUEST");
        Server::start(command.into(), self.dir, "postrust", port, "/api/").await
    }

    async fn turn(&self, operation: Operation, contestant: &Contestant) -> Result<Turn> {
        if operation != Operation::Get {
            self.reset(operation).await?;
        }
        let turn = match contestant {
            Contestant::Pgbench { clients, .. } => self.run_pgbench(operation, *clients).await,
            Contestant::Service { server, .. } => {
                self.load(operation, server, Operation::request).await
            }
            Contestant::Postrust(server) => {
                self.load(operation, server, Operation::remote_call).await
            }
        };
        let turn = turn.with_context(|| format!("{}, {}", operation.name(), contestant.name()))?;
        let done: i64 = self.owner.query_one(&operation.done(), &[]).await?.get(0);
        ensure!(
            operation == Operation::Get || u64::try_from(done)? == turn.total,
            "{} of {} made {} requests, and {done} were found done",
            operation.name(),
            contestant.name(),
            turn.total
        );
        Ok(turn)
    }

    /// Drives a server over HTTP. Each turn issues new tokens, because a long benchmark outlives one.
    async fn load(
        &self,
        operation: Operation,
        server: &Server,
        write: fn(Operation, &Item, &str, &mut Vec<u8>),
    ) -> Result<Turn> {
        let users = operation.users(self.options.users);
        let tokens = (FIRST..FIRST + users)
            .map(|number| token(&self.tokens, number))
            .collect::<Result<Vec<_>>>()?;
        let (next, done, over) = (Cell::new(0), Cell::new(0_u64), Cell::new(false));
        let latencies: RefCell<Option<Vec<Duration>>> = RefCell::new(None);
        let client = || async {
            let mut connection = Connection::open(server.port).await?;
            let mut request = Vec::new();
            while !over.get() {
                let item = operation
                    .item(next.replace(next.get() + 1), self.options.users)
                    .context("the stock is used up: give more --users")?;
                let token = &tokens[usize::try_from(item.number - FIRST)?];
                write(operation, &item, token, &mut request);
                let sent = Instant::now();
                let status = connection.exchange(&request).await?;
                ensure!(
                    (200..300).contains(&status),
                    "{}",
                    String::from_utf8_lossy(&connection.buffer)
                );
                done.set(done.get() + 1);
                if let Some(latencies) = latencies.borrow_mut().as_mut() {
                    latencies.push(sent.elapsed());
                }
            }
            Ok(())
        };
        let mut before = None;
        let mut after = None;
        let mut measured = Vec::new();
        let clock = async {
            sleep(Duration::from_secs(self.options.warm_up)).await;
            before = Some(Sample::take(
                self.postmaster,
                Some(server.pid),
                std::process::id(),
            )?);
            *latencies.borrow_mut() = Some(Vec::with_capacity(100_000));
            sleep(Duration::from_secs(self.options.seconds)).await;
            measured = latencies.take().unwrap_or_default();
            after = Some(Sample::take(
                self.postmaster,
                Some(server.pid),
                std::process::id(),
            )?);
            over.set(true);
            Ok::<_, anyhow::Error>(())
        };
        let clients = futures_util::future::try_join_all((0..CONNECTIONS).map(|_| client()));
        tokio::try_join!(clients, clock)?;
        let (before, after) = before.zip(after).context("nothing was measured")?;
        measured.sort();
        let percentile = |share: usize| {
            let index = measured.len() * share / 100;
            measured
                .get(index)
                .map_or(0.0, |it| it.as_secs_f64() * 1000.0)
        };
        let (p50_ms, p99_ms) = (percentile(50), percentile(99));
        Ok(Turn {
            p50_ms,
            p99_ms,
            total: done.get(),
            ..after.since(&before, measured.len() as f64)
        })
    }

    /// Runs pgbench and measures it from outside, second by second, as it reports its progress.
    async fn run_pgbench(&self, operation: Operation, clients: u64) -> Result<Turn> {
        let script = self.dir.join(format!("{}.pgbench", operation.name()));
        fs::write(&script, operation.script(self.options.users, clients))?;
        // A caller's claims, cut at the places of the user's number.
        let claims = serde_json::to_string(&self.tokens.verify(&token(&self.tokens, FIRST)?)?)?;
        let number = FIRST.to_string();
        let [a, b, c]: [&str; 3] = claims
            .split(&number)
            .collect::<Vec<_>>()
            .try_into()
            .ok()
            .context("the claims name the user and the sign-in")?;
        let packages = format!("{{{}}}", PACKAGES.join(","));
        let variables = [
            ("i", "0"),
            ("a", a),
            ("b", b),
            ("c", c),
            ("stock", STOCK),
            ("archived", ARCHIVED),
            ("stack", "Rust, PostgreSQL"),
            ("challenge", "freestyle"),
            ("packages", &packages),
            ("video", VIDEO_URL),
        ];
        let mut command = Command::new("pgbench");
        command
            .args(["--protocol=prepared", "--no-vacuum", "--progress=1"])
            .arg(format!("--client={clients}"))
            .arg(format!(
                "--time={}",
                self.options.warm_up + self.options.seconds + 1
            ))
            .arg("--file")
            .arg(&script);
        for (name, value) in variables {
            command.arg(format!("--define={name}={value}"));
        }
        let mut child = command
            .arg(self.url.expose_secret())
            .env("PGOPTIONS", OPTIONS)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run pgbench; `apt-get install postgresql` brings it")?;
        let pid = child.id().context("it has ended")?;
        let said = child.stderr.take().context("it says nothing")?;
        let (mut before, mut after, mut told) = (None, None, String::new());
        let (mut seconds, mut transactions, mut latency) = (0, 0.0, 0.0);
        let mut lines = BufReader::new(said).lines();
        while let Some(line) = lines.next_line().await? {
            // progress: 1.0 s, 4312.9 tps, lat 7.402 ms stddev 1.205, 0 failed
            let Some(progress) = line.strip_prefix("progress: ") else {
                told += &line;
                told.push('\n');
                continue;
            };
            seconds += 1;
            // The last second is not measured: its line may come after pgbench has ended.
            let end = self.options.warm_up + self.options.seconds;
            if seconds > self.options.warm_up && seconds <= end {
                let mut words = progress.split(' ');
                transactions += words.nth(2).unwrap_or_default().parse::<f64>()?;
                latency += words.nth(2).unwrap_or_default().parse::<f64>()?;
            }
            if seconds == self.options.warm_up {
                before = Some(Sample::take(self.postmaster, None, pid)?);
            } else if seconds == end {
                after = Some(Sample::take(self.postmaster, None, pid)?);
            }
        }
        let output = child.wait_with_output().await?;
        let summary = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && !told.contains("ERROR") && !told.contains("aborted"),
            "pgbench failed:\n{told}{summary}"
        );
        let total = summary
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
            .and_then(|count| count.split('/').next()?.trim().parse().ok())
            .with_context(|| format!("pgbench said:\n{summary}"))?;
        let (before, after) = before.zip(after).context("pgbench reported no progress")?;
        Ok(Turn {
            total,
            p50_ms: latency / self.options.seconds as f64,
            ..after.since(&before, transactions)
        })
    }
}

/// The CPU time that each party has used until a moment, in microseconds.
struct Sample {
    at: Instant,
    server: u64,
    postgres: u64,
    client: u64,
    machine: u64,
}

impl Sample {
    fn take(postmaster: u32, server: Option<u32>, client: u32) -> Result<Self> {
        let root = Usage::of(postmaster)?;
        let backends: u64 = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Usage::of(pid).ok())
            .filter(|usage| usage.parent == postmaster)
            .map(|usage| usage.own_us)
            .sum();
        // cpu  user nice system idle iowait irq softirq steal …
        let machine: u64 = fs::read_to_string("/proc/stat")?
            .split_whitespace()
            .skip(1)
            .take(8)
            .enumerate()
            .filter(|(index, _)| ![3, 4].contains(index))
            .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
            .sum();
        Ok(Sample {
            at: Instant::now(),
            server: server.map_or(Ok(0), |pid| Usage::of(pid).map(|usage| usage.own_us))?,
            postgres: root.own_us + root.children_us + backends,
            client: Usage::of(client)?.own_us,
            machine: machine * TICK_US,
        })
    }

    /// The CPU time used since `before`, divided by this number of requests.
    fn since(&self, before: &Sample, requests: f64) -> Turn {
        let took = self.at - before.at;
        let used = |of: fn(&Sample) -> u64| of(self).saturating_sub(of(before)) as f64;
        let (server, postgres, client) = (
            used(|it| it.server),
            used(|it| it.postgres),
            used(|it| it.client),
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let capacity = took.as_micros() as f64 * cores as f64;
        Turn {
            per_second: requests / took.as_secs_f64(),
            server_us: server / requests,
            postgres_us: postgres / requests,
            client_us: client / requests,
            others: (used(|it| it.machine) - server - postgres - client).max(0.0) / capacity,
            ..Turn::default()
        }
    }
}
