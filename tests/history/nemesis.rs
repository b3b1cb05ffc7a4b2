//! Causes one fault after another. Each one ends before the next: it is mended, and the service is back.

use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{
    checker,
    client::Dice,
    history::{History, Kind},
    link::Link,
    world::{Replica, Server},
};

/// The longest wait for the service to be back.
const PATIENCE: Duration = Duration::from_secs(45);

/// The faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// A replica is killed with `kill -9`, and started again.
    KillReplica,
    /// The replicas are replaced, one after the other, as at a release.
    Upgrade,
    /// One of PostgreSQL's backends is killed with `kill -9`. PostgreSQL then restarts all of them.
    KillBackend,
    /// PostgreSQL is stopped with `pg_ctl stop -m immediate`, and started again.
    StopPostgres,
    /// Connections to PostgreSQL are reset.
    Cut,
    /// Everything sent between the service and PostgreSQL takes 300 ms longer.
    Delay,
    /// Connections to PostgreSQL's address are refused.
    Refuse,
    /// Open connections fall silent without an error. New ones work.
    Swallow,
    /// The same, but PostgreSQL gets the requests: it carries them out, and its answers are lost.
    SwallowAnswers,
    /// New connections fall silent, too, for a while.
    SwallowAll,
    /// PostgreSQL's disk is full.
    FillDisk,
    /// PostgreSQL is read-only.
    ReadOnly,
    /// PostgreSQL's program files are replaced while it runs. It is restarted later.
    ReplaceLibrary,
}

/// One fault that was caused.
pub struct Struck {
    pub fault: Fault,
    pub began: Duration,
    /// The time when the fault was mended.
    pub mended: Duration,
    /// The time from then until the service was back. None if the wait was given up.
    pub back: Option<Duration>,
    /// The time when the whole fault was over, in the history.
    pub over: Duration,
}

impl Struck {
    /// Only requests that ended by then count: a later one may have met the next fault.
    fn judge(&mut self, history: &History, replicas: usize) {
        self.back = history.recovery(self.mended, self.over, replicas).back;
    }

    pub fn verdict(&self) -> String {
        let back = self
            .back
            .map(|back| format!("back after {:.2} s", back.as_secs_f64()));
        back.unwrap_or_else(|| "not back".to_owned())
    }
}

pub struct Nemesis {
    pub server: Server,
    pub links: Vec<Link>,
    pub replicas: Vec<Replica>,
    pub history: Arc<History>,
    pub dice: Dice,
}

impl Nemesis {
    /// Causes these faults in random order, again and again, until this time or until the service does not come back.
    pub async fn rage(&mut self, faults: &[Fault], until: Duration) -> Result<Vec<Struck>> {
        let mut struck: Vec<Struck> = Vec::new();
        let mut coming = Vec::new();
        while self.history.now() < until && struck.iter().all(|one| one.back.is_some()) {
            if coming.is_empty() {
                coming = faults.to_vec();
            }
            let fault = coming.swap_remove(self.dice.below(coming.len() as u64) as usize);
            struck.push(self.strike(fault).await?);
        }
        Ok(struck)
    }

    /// Whether this machine allows the fault.
    pub fn can(&self, fault: Fault) -> bool {
        match fault {
            Fault::FillDisk => self.server.is_bounded,
            Fault::ReplaceLibrary => self.server.plpgsql.is_some(),
            _ => true,
        }
    }

    async fn strike(&mut self, fault: Fault) -> Result<Struck> {
        let began = self.history.now();
        println!("{:9.3} {fault:?}", began.as_secs_f64());
        self.inflict(fault)
            .await
            .with_context(|| format!("{fault:?}"))?;
        let mended = self.history.now();
        let mut one = Struck {
            fault,
            began,
            mended,
            back: None,
            over: Duration::MAX,
        };
        loop {
            let recovery = self.history.recovery(mended, one.over, self.replicas.len());
            let waits = self.history.now() - mended;
            if recovery.back.is_some() && recovery.is_calm || waits > PATIENCE {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        one.over = self.history.now();
        one.judge(&self.history, self.replicas.len());
        println!(
            "{:9.3} {fault:?} is over, {}",
            mended.as_secs_f64(),
            one.verdict()
        );
        checker::check_invariants(&self.server, &self.history).await?;
        Ok(one)
    }

    /// Causes the fault, and mends it.
    async fn inflict(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::KillReplica => {
                let replica = self.any_replica();
                self.replicas[replica].stop(Signal::SIGKILL).await?;
                self.a_while().await;
                self.replicas[replica].start()?;
            }
            Fault::Upgrade => {
                for replica in 0..self.replicas.len() {
                    let ended = self.replicas[replica].stop(Signal::SIGTERM).await?;
                    anyhow::ensure!(ended.success(), "replica {replica} ended with {ended}");
                    self.replicas[replica].start()?;
                    self.until_ready(replica).await;
                }
            }
            Fault::KillBackend => {
                let sql = self.server.sql("speedcoding").await?;
                let backends = "select pid from pg_stat_activity where application_name = 'speedcoding' order by backend_start";
                let backends: Vec<i32> = sql
                    .query(backends, &[])
                    .await?
                    .iter()
                    .map(|row| row.get(0))
                    .collect();
                if let Some(pid) = self.dice.choose(&backends) {
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL)?;
                }
                // PostgreSQL tells the other backends to end, and then recovers.
                while !sql.is_closed() {
                    sleep(Duration::from_millis(5)).await;
                }
                self.server.until_it_answers().await?;
            }
            Fault::StopPostgres => {
                self.server.stop(Signal::SIGQUIT).await?;
                self.a_while().await;
                self.ready_is_denied(fault).await;
                self.server.start().await?;
            }
            Fault::Cut => {
                for _ in 0..=self.dice.below(3) {
                    for link in self.some_links() {
                        self.links[link].cut();
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
            Fault::Delay => {
                let links = self.some_links();
                for link in &links {
                    self.links[*link].delay(Duration::from_millis(300));
                }
                self.a_while().await;
                for link in links {
                    self.links[link].delay(Duration::ZERO);
                }
            }
            Fault::Refuse => {
                for link in &mut self.links {
                    link.refuse().await;
                }
                self.a_while().await;
                self.ready_is_denied(fault).await;
                for link in &mut self.links {
                    link.accept().await;
                }
            }
            // Silent connections stay silent. Now the service has to recover by itself.
            Fault::Swallow | Fault::SwallowAnswers => {
                for link in self.some_links() {
                    self.links[link].swallow(fault == Fault::SwallowAnswers);
                }
            }
            Fault::SwallowAll => {
                for link in &self.links {
                    link.swallow_all();
                }
                self.a_while().await;
                for link in &self.links {
                    link.swallow(false);
                }
            }
            Fault::FillDisk => {
                let filler = self.server.disk.join("filler");
                fill(&filler)?;
                self.a_while().await;
                fs::remove_file(&filler)?;
                // PostgreSQL may have given up. Starts it again, as a supervisor would.
                self.server.start().await?;
            }
            Fault::ReadOnly => {
                self.set("default_transaction_read_only", "on").await?;
                self.end_connections().await?;
                self.a_while().await;
                self.ready_is_denied(fault).await;
                self.set("default_transaction_read_only", "default").await?;
            }
            Fault::ReplaceLibrary => {
                let library = self.server.plpgsql.clone().context("a library")?;
                let kept = library.with_extension("kept");
                let new = library.with_extension("new");
                fs::copy(&library, &kept)?;
                // A file that is no library. PostgreSQL reports it like a library that lacks a symbol.
                fs::write(&new, "of another version")?;
                fs::rename(&new, &library)?;
                self.end_connections().await?;
                self.a_while().await;
                self.ready_is_denied(fault).await;
                fs::rename(&kept, &library)?;
                self.server.stop(Signal::SIGINT).await?;
                self.server.start().await?;
            }
        }
        Ok(())
    }

    /// Checks that a replica is not ready while nothing can be written.
    async fn ready_is_denied(&self, fault: Fault) {
        for (number, replica) in self.replicas.iter().enumerate() {
            if is_ready(replica).await {
                self.history.violate(
                    Kind::FalselyReady,
                    None,
                    format!("replica {number} is ready, in spite of {fault:?}"),
                );
            }
        }
    }

    /// Waits until a replica says that it is ready.
    pub async fn until_ready(&self, replica: usize) {
        let began = self.history.now();
        while !is_ready(&self.replicas[replica]).await && self.history.now() - began < PATIENCE {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn set(&self, setting: &str, value: &str) -> Result<()> {
        let sql = self.server.sql("postgres").await?;
        sql.batch_execute(&format!("alter system set {setting} = {value}"))
            .await?;
        sql.batch_execute("select pg_reload_conf()").await?;
        Ok(())
    }

    async fn end_connections(&self) -> Result<()> {
        let sql = self.server.sql("postgres").await?;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'speedcoding'";
        sql.batch_execute(end).await?;
        Ok(())
    }

    /// One to three seconds.
    async fn a_while(&mut self) {
        let millis = 1000 + self.dice.below(2000);
        sleep(Duration::from_millis(millis)).await;
    }

    fn any_replica(&mut self) -> usize {
        self.dice.below(self.replicas.len() as u64) as usize
    }

    /// The link of one replica, or the links of all.
    fn some_links(&mut self) -> Vec<usize> {
        match self.dice.below(2) {
            0 => vec![self.any_replica()],
            _ => (0..self.links.len()).collect(),
        }
    }
}

/// Whether a replica says that it is ready.
async fn is_ready(replica: &Replica) -> bool {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build();
    let client = client.expect("a client");
    let answer = client
        .get(format!("{}/health/ready", replica.base))
        .send()
        .await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

/// Writes until the disk is full.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1024 * 1024];
    while file.write(&zeros).is_ok_and(|count| count > 0) {}
    Ok(())
}
