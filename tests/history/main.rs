//! Runs the service while everything around it breaks, and checks that it keeps its promises.
//!
//! Two replicas serve sixteen clients and a moderator over real HTTP. A nemesis kills processes, cuts, delays and
//! silences connections, fills the disk, makes the database read-only, and upgrades. At the end both replicas and the
//! database must have everything that was acknowledged, and nothing twice. No answer may be 500. After each fault the
//! service must be back in time.
//!
//!     cargo test --test history -- --seconds 600 --seed 7
//!
//! As root on Linux it runs in namespaces of its own. When it ends, all its processes and mounts end with them.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "it ends when it meets something unexpected; it may read clocks, random numbers and the environment"
)]

mod checker;
mod client;
mod history;
mod link;
mod nemesis;
mod world;

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{BufWriter, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;
use uuid::Uuid;

use client::{Client, Dice};
use history::{History, Kind, Outcome, Request, Violation};
use link::Link;
use nemesis::{Fault, Nemesis, Struck};
use world::{Place, Replica, Server, program};

const REPLICAS: usize = 2;
/// The variable that is set for the process in namespaces of its own.
const ALONE: &str = "SPEEDCODING_HISTORY_ALONE";

/// Breaks everything around two replicas of the service, and checks what they promised meanwhile.
#[derive(Parser)]
struct Arguments {
    /// The time in seconds during which things break.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of all choices. The same seed makes the same choices; the default is another seed each time.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of clients.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// The time in seconds after a fault from which on no request may fail.
    #[arg(long, default_value_t = 5.0)]
    back_within: f64,
    /// Causes only these faults, comma-separated.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Settings of PostgreSQL. With synchronous_commit=off, for instance, the run must report losses.
    #[arg(long)]
    postgres: Vec<String>,
    /// Keeps the logs and the whole history in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    isolate();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let told = async {
        // The first process of a namespace gets only the signals that it asks for.
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            told = tell(&arguments) => told,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    };
    match runtime.expect("a runtime").block_on(told) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("history: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Continues in namespaces of its own, if that is possible.
fn isolate() {
    const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(NAMESPACES);
        unshare
    };
    let works = unshare().arg("true").stderr(Stdio::null()).status();
    if env::var_os(ALONE).is_none() && works.is_ok_and(|status| status.success()) {
        let program = env::current_exe().expect("this program");
        let error = unshare()
            .arg(program)
            .args(env::args_os().skip(1))
            .env(ALONE, "yes")
            .exec();
        eprintln!("history: unshare: {error}");
    }
}

/// Runs the whole history. Returns whether it had no violation.
async fn tell(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    });
    println!("{} s, seed {seed}", arguments.seconds);
    let mut dice = Dice(seed);
    let place = Place::new(arguments.keep.as_deref())?;
    let server = Server::create(&place.path, arguments.postgres.clone()).await?;
    let database = service_url(&server)?;
    let (mut links, mut replicas) = (Vec::new(), Vec::new());
    for number in 0..REPLICAS {
        let link = Link::before(server.port).await;
        replicas.push(Replica::new(&place.path, number, &database, link.port)?);
        links.push(link);
    }
    for replica in &mut replicas {
        replica.start()?;
    }
    let history = Arc::new(History::begin());
    let bases: Arc<[String]> = replicas
        .iter()
        .map(|replica| replica.base.clone())
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut nemesis = Nemesis {
        server,
        links,
        replicas,
        history: history.clone(),
        dice: Dice(dice.below(u64::MAX)),
    };
    for replica in 0..REPLICAS {
        nemesis.until_ready(replica).await;
    }

    let mut clients = Vec::new();
    for number in 0..=arguments.clients {
        let name = if number == 0 {
            "moderator".to_owned()
        } else {
            format!("client_{number}")
        };
        // A third of the clients goes to the first replica, a third to the second, and a third to both.
        let home = (number % 3 < REPLICAS && number > 0).then_some(number % 3);
        let shared = (history.clone(), bases.clone(), stop.clone());
        let mut client = Client::new(name, home, Dice(dice.below(u64::MAX)), shared);
        client.register().await;
        ensure!(
            !client.known.user.is_empty(),
            "{} could not register",
            client.name
        );
        clients.push(client);
    }
    let sql = nemesis.server.sql("speedcoding").await?;
    sql.batch_execute("update public.users set role = 'moderator' where username = 'moderator'")
        .await?;
    let clients = clients.into_iter().enumerate().map(|(number, client)| {
        tokio::spawn(async move {
            if number == 0 {
                client.moderate().await
            } else {
                client.run().await
            }
        })
    });
    let clients: Vec<_> = clients.collect();

    let mut faults = arguments.faults.clone();
    if faults.is_empty() {
        faults = Fault::value_variants().to_vec();
    }
    let (faults, untold): (Vec<_>, Vec<_>) =
        faults.into_iter().partition(|fault| nemesis.can(*fault));
    let until = history.now() + Duration::from_secs(arguments.seconds);
    let rage = nemesis.rage(&faults, until).await;
    stop.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for client in clients {
        ended.push(client.await.context("a client")?);
    }
    let struck = rage?;
    for one in &struck {
        if one
            .back
            .is_none_or(|back| back.as_secs_f64() > arguments.back_within)
        {
            let text = format!(
                "{:?} at {:.3}: {}",
                one.fault,
                one.began.as_secs_f64(),
                one.verdict()
            );
            history.violate_at(one.over, Kind::Late, None, text);
        }
    }
    checker::check_invariants(&nemesis.server, &history).await?;
    for client in &ended {
        checker::check_database(&nemesis.server, &history, client).await?;
    }
    if struck.iter().all(|one| one.back.is_some()) {
        check_replicas(ended, &nemesis, &history).await?;
    }
    if let Some(keep) = &arguments.keep {
        write_down(&history, &keep.join("history.log"))?;
    }
    for fault in untold {
        println!("NOT TESTED HERE: {fault:?} (needs root, namespaces, and Debian's PostgreSQL)");
    }
    Ok(sum_up(&history, &struck, seed))
}

/// Checks that both replicas show everything that was acknowledged.
async fn check_replicas(clients: Vec<Client>, nemesis: &Nemesis, history: &History) -> Result<()> {
    let began = history.now();
    println!("{:9.3} checking", began.as_secs_f64());
    let checks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move { checker::check_replicas(&mut client, REPLICAS).await })
    });
    for check in checks.collect::<Vec<_>>() {
        check.await.context("a check")?;
    }
    let bases: Vec<_> = nemesis
        .replicas
        .iter()
        .map(|replica| replica.base.clone())
        .collect();
    checker::check_boards(&nemesis.server, history, &bases).await?;
    let failed = history.between(began, Duration::MAX, |requests| {
        requests
            .iter()
            .filter(|request| matches!(request.outcome, Outcome::Unknown(_)))
            .count()
    });
    if failed > 0 {
        history.violate(
            Kind::Late,
            None,
            format!("{failed} requests failed while nothing was wrong"),
        );
    }
    Ok(())
}

/// Migrates the database and gives the service its own login. Returns the login's URL.
fn service_url(server: &Server) -> Result<Url> {
    let run = |arguments: &[&str]| {
        let done = program(arguments)
            .env("DATABASE_URL", server.url("speedcoding"))
            .output()?;
        ensure!(
            done.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    };
    run(&["migrate"])?;
    Ok(run(&["db", "login"])?.trim().parse()?)
}

/// Prints one line for each kind of fault, and the lines of the history that explain each violation.
fn sum_up(history: &History, struck: &[Struck], seed: u64) -> bool {
    let mut faults: BTreeMap<Fault, Vec<&Struck>> = BTreeMap::new();
    for one in struck {
        faults.entry(one.fault).or_default().push(one);
    }
    println!(
        "\n{:<16}{:>6}{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}",
        "fault", "times", "worst back", "longest", "acked", "refused", "unknown", "500s"
    );
    let row = |name: &str, times: usize, back: &str, spans: &[(Duration, Duration)]| {
        let (mut acked, mut refused, mut unknown, mut internal, mut longest) =
            (0, 0, 0, 0, Duration::ZERO);
        for (from, to) in spans {
            history.between(*from, *to, |requests| {
                for request in requests {
                    longest = longest.max(request.ended - request.begun);
                    match &request.outcome {
                        Outcome::Acknowledged(_) => acked += 1,
                        Outcome::Refused(..) => refused += 1,
                        Outcome::Unknown(why) => {
                            unknown += 1;
                            internal += usize::from(why.starts_with("500"));
                        }
                    }
                }
            });
        }
        let longest = format!("{:.2} s", longest.as_secs_f64());
        println!(
            "{name:<16}{times:>6}{back:>12}{longest:>12}{acked:>10}{refused:>10}{unknown:>10}{internal:>8}"
        );
    };
    for (fault, times) in &faults {
        let worst = times.iter().map(|one| one.back).collect::<Option<Vec<_>>>();
        let worst = worst.and_then(|backs| backs.into_iter().max());
        let worst = worst.map_or("never".to_owned(), |back| {
            format!("{:.2} s", back.as_secs_f64())
        });
        let spans: Vec<_> = times.iter().map(|one| (one.began, one.over)).collect();
        row(&format!("{fault:?}"), times.len(), &worst, &spans);
    }
    row(
        "altogether",
        struck.len(),
        "",
        &[(Duration::ZERO, Duration::MAX)],
    );
    let violations = history.violations();
    let count = |kind| {
        violations
            .iter()
            .filter(|violation| violation.kind == kind)
            .count()
    };
    println!(
        "\nacknowledged and lost {}, doubled {}, revived {}, 500s {}, late {}, falsely ready {}, refused without a reason {}, hung {}",
        count(Kind::Lost),
        count(Kind::Doubled),
        count(Kind::Revived),
        count(Kind::InternalError),
        count(Kind::Late),
        count(Kind::FalselyReady),
        count(Kind::Refused),
        count(Kind::Hung)
    );
    for violation in violations.iter().take(20) {
        println!("\n{violation}");
        explain(history, violation);
    }
    if !violations.is_empty() {
        println!(
            "\n{} violations; --seed {seed} makes the same choices again",
            violations.len()
        );
    }
    violations.is_empty()
}

/// Prints the client's requests about the violation's subject and its last requests before the violation. Without a
/// client, prints the last failures of all clients.
fn explain(history: &History, violation: &Violation) {
    let subject = violation
        .text
        .split([' ', ':', ','])
        .find(|word| Uuid::try_parse(word).is_ok());
    let lines = history.between(Duration::ZERO, violation.at, |requests| {
        let is_meant = |request: &&&Request| match &violation.client {
            Some(client) => request.client == *client,
            None => matches!(request.outcome, Outcome::Unknown(_)),
        };
        let meant: Vec<_> = requests
            .iter()
            .filter(is_meant)
            .map(ToString::to_string)
            .collect();
        let is_about = |line: &&String| subject.is_some_and(|subject| line.contains(subject));
        let about: Vec<_> = meant.iter().filter(is_about).cloned().collect();
        [last(&about), last(&meant)].concat()
    });
    for line in lines {
        println!("    {line}");
    }
}

fn last(lines: &[String]) -> &[String] {
    &lines[lines.len().saturating_sub(8)..]
}

/// Writes the whole history to a file, for people.
fn write_down(history: &History, path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    history.between(Duration::ZERO, Duration::MAX, |requests| {
        requests
            .iter()
            .try_for_each(|request| writeln!(file, "{request}"))
    })?;
    file.flush()?;
    Ok(())
}
