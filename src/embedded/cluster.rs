//! The cluster: made once, freed of the remains of earlier runs, and served.

use std::{
    ffi::OsString,
    fs::{File, Permissions},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use fs_err::{self as fs, os::unix::fs::OpenOptionsExt};
use nix::{sys::signal::Signal, unistd::Pid};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::{
    account::{self, Account},
    binaries,
    data_dir::{DataDir, NO_LINK},
    env_file::EnvFile,
    log::Log,
};
use crate::{config::Binaries, random::random_bytes};

const READY_WITHIN: Duration = Duration::from_secs(30);
/// Crash recovery replays the write-ahead log before a client may connect. That can take minutes.
const RECOVERED_WITHIN: Duration = Duration::from_secs(300);
/// How long the processes of an earlier server may still hold the cluster.
pub(super) const REMAINS_WITHIN: Duration = Duration::from_secs(10);
/// A fast shutdown writes a checkpoint, which a slow disk makes long.
pub(super) const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Defaults of a small service. They are written into postgresql.conf once, not passed as flags, because flags would
/// win over the owner's own `alter system set`.
const SERVER_DEFAULTS: &str = "
# Defaults of speedcoding; `alter system set` overrides them.
cluster_name = 'speedcoding'
jit = off
log_timezone = 'UTC'
timezone = 'UTC'
# Refusals are errors to PostgreSQL and answers to us: anybody could fill the disk with them.
log_min_messages = log
";

/// The parts that run the server, while this process holds the lock of the data directory.
pub(super) struct Cluster {
    files: DataDir,
    account: Account,
    pub bin: PathBuf,
    settings: Vec<String>,
    env: EnvFile,
    pub jwt_secret: SecretString,
    pub password: SecretString,
    pub port: u16,
    /// The file is never read. The lock lasts as long as the file is open.
    _lock: File,
}

impl Cluster {
    /// Locks the directory, removes the remains of earlier runs, and makes the cluster if there is none.
    pub fn prepare(data_dir: &Path, wanted: &Binaries, settings: Vec<String>) -> Result<Self> {
        let unusable = || {
            format!(
                "the DATA_DIR {} cannot be used, choose another",
                data_dir.display()
            )
        };
        let files = DataDir::create(data_dir).with_context(unusable)?;
        let lock = files.lock().with_context(unusable)?.map_err(|process| {
            anyhow!(
                "speedcoding (process {process}) already uses the DATA_DIR {}: stop it, or choose another",
                data_dir.display()
            )
        })?;
        let account = Account::choose(&files)?;
        files.remove_unfinished();
        let major = files.major()?;
        let bin = binaries::find(wanted, major, &account, &files)?;
        let mut env = EnvFile::load(&files.env_file())?;
        let had_password = env.get("POSTGRES_PASSWORD").is_some();
        let cluster = Self {
            jwt_secret: env.get_or_generate("JWT_SECRET")?,
            password: env.get_or_generate("POSTGRES_PASSWORD")?,
            files,
            account,
            bin,
            settings,
            env,
            port: 0,
            _lock: lock,
        };
        cluster.clear_the_way()?;
        if major.is_none() {
            cluster.initialise()?;
        } else if !had_password {
            cluster.reset_password()?;
        }
        // The file is written last: its password must be one that the server knows.
        cluster.env.save(cluster.files.path())?;
        Ok(cluster)
    }

    /// Runs initdb in a directory of its own and renames the result.
    fn initialise(&self) -> Result<()> {
        info!(
            "initialising PostgreSQL in {}",
            self.files.cluster().display()
        );
        let work = self.files.work_dir()?;
        let (cluster, password) = (work.path().join("cluster"), work.path().join("password"));
        // The directory is closed to others.
        fs::write(&password, self.password.expose_secret())?;
        self.account.give(&password)?;
        self.account.give(work.path())?;

        let mut initdb = self.account.command(&self.bin.join("initdb"));
        initdb
            .args(["--username=postgres", "--auth=scram-sha-256"])
            .arg("--pwfile")
            .arg(&password)
            // C is the one locale that every initdb from 15 on accepts on every system: C.UTF-8 is missing on macOS and
            // in older glibc, and the built-in one came with 17. It also keeps text order the same on all of them.
            .args(["--encoding=UTF8", "--locale=C", "--no-instructions"])
            .arg("--pgdata")
            .arg(&cluster);
        if self.settings.iter().any(|setting| setting == "fsync=off") {
            initdb.arg("--no-sync");
        }
        self.run_to_end("initdb", initdb, "")?;

        fs::OpenOptions::new()
            .append(true)
            .custom_flags(NO_LINK)
            .open(cluster.join("postgresql.conf"))?
            .write_all(SERVER_DEFAULTS.as_bytes())?;
        fs::rename(&cluster, self.files.cluster())?;
        // Makes the rename outlast a power failure.
        fs::File::open(self.files.path())?.sync_all()?;
        Ok(())
    }

    /// Gives the cluster a new password after the owner deleted the secrets. It works without a running server, because
    /// there may be no psql beside the server's binaries, and nobody could log in.
    fn reset_password(&self) -> Result<()> {
        warn!(
            "{} held no password; setting a new one",
            self.files.env_file().display()
        );
        let mut single = self.account.command(&self.bin.join("postgres"));
        single.arg("--single").arg("-D").arg(self.files.cluster());
        // The exit status shows an error. The log never repeats the statement, because it holds the password.
        single.args(["-c", "exit_on_error=on"]);
        single.args(["-c", "log_min_error_statement=panic"]);
        single.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        single.arg("postgres");
        let password = self.password.expose_secret();
        let statement = format!("alter role postgres password '{password}';\n");
        self.run_to_end("postgres --single", single, &statement)
    }

    fn run_to_end(&self, program: &'static str, mut command: Command, input: &str) -> Result<()> {
        let (pipe, log) = Log::open(&self.files.log())?;
        let run = move || {
            let mut child = command.stdin(Stdio::piped()).stderr(pipe).spawn()?;
            // If a program ends before it has read everything, the log says why.
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait()
        };
        let status = run().with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("{program} failed ({status}); {}", log.last_words());
        }
        Ok(())
    }

    /// Starts the server and waits until it is ready. Remains of an earlier server may block it for a moment.
    pub fn launch(&mut self) -> Result<Child> {
        let began = Instant::now();
        loop {
            self.clear_the_way()?;
            self.choose_port()?;
            let (pipe, log) = Log::open(&self.files.log())?;
            let child = self.server_command()?.stderr(pipe).spawn();
            let mut child = child.context("cannot run postgres")?;
            let Some(status) = self.wait_until_ready(&mut child, &log)? else {
                let port = self.port;
                info!(
                    "PostgreSQL is ready on 127.0.0.1:{port} after {} ms",
                    began.elapsed().as_millis()
                );
                return Ok(child);
            };

            let tail = log.tail();
            let memory_in_use =
                tail.contains("shared memory block") && tail.contains("is still in use");
            let will_pass =
                memory_in_use || !is_free(self.port) || self.files.living_postmaster()?.is_some();
            if !will_pass || began.elapsed() > REMAINS_WITHIN {
                bail!("postgres failed ({status}); {}", log.last_words());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The directory of the server's socket, if it has one.
    pub fn socket_dir(&self) -> Option<PathBuf> {
        self.files.socket_dir()
    }

    fn server_command(&self) -> Result<Command> {
        let mut sockets = OsString::from("unix_socket_directories=");
        if let Some(dir) = self.socket_dir() {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
            self.account.give(&dir)?;
            sockets.push(dir);
        }
        let mut command = self.account.command(&self.bin.join("postgres"));
        command.arg("-D").arg(self.files.cluster());
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        command.arg("-c").arg(format!("port={}", self.port));
        command.arg("-c").arg(sockets);
        command.args([
            "-c",
            "log_destination=stderr",
            "-c",
            "logging_collector=off",
        ]);
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        // Ctrl-C in a terminal reaches the whole process group; the service drains before it stops the server.
        command.process_group(0);
        Ok(command)
    }

    /// Waits until the server writes to postmaster.pid that it is ready. Returns the exit status if the server ends
    /// instead.
    fn wait_until_ready(&self, child: &mut Child, log: &Log) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        let pid = pid_of(child);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let postmaster = self.files.postmaster()?.filter(|it| it.pid == pid);
            let limit = match postmaster.as_ref().map(|it| it.status.as_str()) {
                Some("ready") => return Ok(None),
                Some("starting") => RECOVERED_WITHIN,
                _ => READY_WITHIN,
            };
            let waited = began.elapsed();
            if waited > limit {
                // The service does not wait for the server to end, because that might hang too. The next start stops
                // the server if it still runs.
                account::send(Signal::SIGQUIT, pid);
                bail!(
                    "PostgreSQL was not ready after {} s; {}",
                    waited.as_secs(),
                    log.last_words()
                );
            }
            let is_early = waited < Duration::from_millis(500);
            thread::sleep(Duration::from_millis(if is_early { 2 } else { 25 }));
        }
    }

    /// Stops a server that outlived an earlier service, and makes the files of a dead server harmless. This is safe,
    /// because this process holds the lock, so no living service needs either.
    fn clear_the_way(&self) -> Result<()> {
        let began = Instant::now();
        let mut asked = false;
        while let Some(postmaster) = self.files.living_postmaster()? {
            let pid = postmaster.pid;
            if !asked {
                warn!("stopping the PostgreSQL (process {pid}) that an earlier run left behind");
                account::send(Signal::SIGINT, pid);
                asked = true;
            }
            if began.elapsed() > STOPPED_WITHIN {
                bail!(
                    "a PostgreSQL (process {pid}) that uses {} does not stop; stop it by hand and start again",
                    self.files.cluster().display()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(self.files.disarm()?)
    }

    fn choose_port(&mut self) -> Result<()> {
        let kept = self.env.get("POSTGRES_PORT");
        let kept = kept.and_then(|port| port.expose_secret().parse().ok());
        self.port = keep_port(kept, "PostgreSQL")?;
        self.env.set("POSTGRES_PORT", &self.port.to_string());
        self.env.save(self.files.path())
    }
}

/// Keeps the port of the last start, so that other programs' settings stay valid. Chooses another port if a program has
/// taken it.
pub(super) fn keep_port(kept: Option<u16>, whose: &str) -> Result<u16> {
    if let Some(port) = kept.filter(|port| is_free(*port)) {
        return Ok(port);
    }
    let port = pick_port()?;
    if let Some(taken) = kept {
        warn!("port {taken} is taken; {whose} moves to {port}");
    }
    Ok(port)
}

pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Chooses a free port below those that the kernel gives to outgoing connections. Such a connection might take the port
/// while the service is down. The choice is random, so that services that start at once seldom choose the same port.
fn pick_port() -> Result<u16> {
    for _ in 0..50 {
        let port = 20_000 + u16::from_ne_bytes(random_bytes()?) % 10_000;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port was found on 127.0.0.1")
}
