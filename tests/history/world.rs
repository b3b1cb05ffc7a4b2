//! The parts that the nemesis breaks: a PostgreSQL on a small disk, and replicas of the service in front of it.

use std::{
    env,
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};
use url::Url;

/// Nothing takes longer than this, even on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const DISK: &str = "size=512m,mode=755";
/// All other settings are PostgreSQL's defaults, so that acknowledged data is on the disk.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "min_wal_size=32MB",
    "max_wal_size=96MB",
    "jit=off",
];
/// A statement may take one second rather than ten. A connection counts as dead two seconds after that. A request may
/// then use another dead connection before the service doubts all of them. Together this is less than the five seconds
/// in which the service must be back.
const STATEMENT_TIMEOUT: &str = "1";
pub const JWT_SECRET: &str = "a secret for the history of more than 32 bytes";

/// A directory that is removed at the end of the run.
pub struct Place {
    pub path: PathBuf,
    is_kept: bool,
}

impl Place {
    pub fn new(keep: Option<&Path>) -> Result<Self> {
        let own = || env::temp_dir().join(format!("speedcoding-history-{}", std::process::id()));
        let path = keep.map_or_else(own, Path::to_owned);
        fs::create_dir_all(&path)?;
        // PostgreSQL's account must be able to enter.
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Place {
            path: path.canonicalize()?,
            is_kept: keep.is_some(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A PostgreSQL for this run alone.
pub struct Server {
    pub port: u16,
    /// The directory of its data; a file system of its own, if that was possible.
    pub disk: PathBuf,
    pub is_bounded: bool,
    bin: PathBuf,
    /// The library of PL/pgSQL, if it can be replaced.
    pub plpgsql: Option<PathBuf>,
    log: PathBuf,
    settings: Vec<String>,
    account: Option<(u32, u32)>,
    child: Option<Child>,
}

impl Server {
    pub async fn create(place: &Path, settings: Vec<String>) -> Result<Self> {
        let disk = place.join("disk");
        fs::create_dir_all(&disk)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", DISK, "none"])
            .arg(&disk)
            .stderr(Stdio::null());
        let is_bounded = mount.status().is_ok_and(|status| status.success());
        let installed = installed()?;
        let copied = copy(&installed, &place.join("installation"))?;
        let account = if Uid::effective().is_root() {
            let user = ["postgres", "nobody"]
                .into_iter()
                .find_map(|name| User::from_name(name).ok().flatten());
            let user = user.context("no account to run PostgreSQL under")?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        } else {
            None
        };
        let mut server = Server {
            port: free_port(),
            is_bounded,
            plpgsql: copied
                .as_ref()
                .map(|bin| bin.with_file_name("lib/plpgsql.so")),
            bin: copied.unwrap_or(installed),
            log: place.join("postgres.log"),
            settings,
            account,
            child: None,
            disk,
        };
        let data = server.data();
        fs::create_dir_all(&data)?;
        if let Some((uid, gid)) = account {
            std::os::unix::fs::chown(&data, Some(uid), Some(gid))?;
        }
        let mut initdb = server.program("initdb")?;
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--pgdata",
        ]);
        ensure!(
            initdb.arg(&data).status()?.success(),
            "initdb failed: see {}",
            server.log.display()
        );
        server.start().await?;
        server
            .sql("postgres")
            .await?
            .batch_execute("create database speedcoding")
            .await?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.disk.join("data")
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut program = Command::new(self.bin.join(name));
        // Ctrl-C must reach this program only.
        program.process_group(0);
        let log = File::options().create(true).append(true).open(&self.log)?;
        program
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir("/")
            .env("LC_ALL", "C");
        if let Some((uid, gid)) = self.account {
            program.uid(uid).gid(gid);
        }
        Ok(program)
    }

    /// Starts it if it is down, and waits until it takes connections.
    pub async fn start(&mut self) -> Result<()> {
        if !self.is_running() {
            let mut postgres = self.program("postgres")?;
            postgres
                .arg("-D")
                .arg(self.data())
                .args(["-p", &self.port.to_string()]);
            let given = self.settings.iter().map(String::as_str);
            for setting in SETTINGS.iter().copied().chain(given) {
                postgres.args(["-c", setting]);
            }
            self.child = Some(postgres.spawn()?);
        }
        self.until_it_answers().await
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Waits until it takes connections.
    pub async fn until_it_answers(&mut self) -> Result<()> {
        let answers = async {
            while self.sql("postgres").await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let answered = timeout(PATIENCE, answers).await;
        answered.with_context(|| format!("PostgreSQL does not answer: see {}", self.log.display()))
    }

    /// Stops it. SIGQUIT stops it at once; SIGINT lets it end all sessions first.
    pub async fn stop(&mut self, how: Signal) -> Result<()> {
        if let Some(child) = &self.child {
            kill(pid(child), how)?;
        }
        let stopped = timeout(PATIENCE, async {
            while self.is_running() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        stopped.await.context("PostgreSQL does not stop")
    }

    /// Connects as superuser, without a link between.
    pub async fn sql(&self, database: &str) -> Result<Client> {
        let mut url: tokio_postgres::Config = self.url(database).parse()?;
        let (client, connection) = url
            .connect_timeout(Duration::from_secs(5))
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = kill(pid(child), Signal::SIGQUIT);
            let _ = child.wait();
        }
        if self.is_bounded {
            let _ = Command::new("umount").arg(&self.disk).status();
        }
    }
}

/// The directory of PostgreSQL's programs: the one on PATH, or the newest of Debian's.
fn installed() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<_> = glob::glob("/usr/lib/postgresql/*/bin")?.flatten().collect();
    debian.sort();
    let places = env::split_paths(&path).chain(debian.into_iter().rev());
    // A symbolic link is followed to the directory with the other programs.
    let programs = places.filter_map(|place| place.join("initdb").canonicalize().ok());
    let mut places = programs.filter_map(|program| Some(program.parent()?.to_owned()));
    let place = places.find(|place| place.join("postgres").exists());
    place.context("no PostgreSQL: neither on PATH nor in /usr/lib/postgresql")
}

/// Copies an installation of the form that Debian's packages have. Its files find each other at any place. Returns none
/// for another form.
fn copy(bin: &Path, to: &Path) -> Result<Option<PathBuf>> {
    let Some(version) = bin
        .parent()
        .filter(|version| version.parent() == Some(Path::new("/usr/lib/postgresql")))
    else {
        return Ok(None);
    };
    let share = Path::new("/usr/share/postgresql").join(version.file_name().context("a version")?);
    for from in [version, &share] {
        let parent = to
            .join(from.strip_prefix("/")?)
            .parent()
            .context("a parent")?
            .to_owned();
        fs::create_dir_all(&parent)?;
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(parent)
            .status()?;
        ensure!(copied.success(), "{} cannot be copied", from.display());
    }
    Ok(Some(to.join(bin.strip_prefix("/")?)))
}

/// A replica of the service, which runs the built program.
pub struct Replica {
    pub base: String,
    command: Command,
    child: Option<Child>,
}

impl Replica {
    pub fn new(place: &Path, number: usize, database: &Url, link: u16) -> Result<Self> {
        let mut database = database.clone();
        let moved = database.set_port(Some(link));
        ensure!(moved.is_ok(), "no port can be set");
        let address = format!("127.0.0.1:{}", free_port());
        let log = File::create(place.join(format!("replica-{number}.log")))?;
        let mut command = program(&[]);
        command
            .env("DATABASE_URL", database.as_str())
            .env("JWT_SECRET", JWT_SECRET)
            .env("BIND", &address)
            .env("RATE_LIMITS", "off")
            .env("STATEMENT_TIMEOUT", STATEMENT_TIMEOUT)
            .env("LOG_FORMAT", "json")
            .env("DATA_DIR", place)
            .current_dir(place)
            .stdout(Stdio::null())
            .stderr(log);
        Ok(Replica {
            base: format!("http://{address}"),
            command,
            child: None,
        })
    }

    pub fn start(&mut self) -> Result<()> {
        self.child = Some(self.command.spawn()?);
        Ok(())
    }

    /// Sends a signal, and waits until the replica has ended.
    pub async fn stop(&mut self, how: Signal) -> Result<ExitStatus> {
        let mut child = self.child.take().context("it does not run")?;
        kill(pid(&child), how)?;
        let ended = timeout(PATIENCE, async {
            loop {
                match child.try_wait() {
                    Ok(None) => sleep(Duration::from_millis(10)).await,
                    ended => break ended,
                }
            }
        });
        let ended = ended.await.context("the service does not stop")??;
        ended.context("the service does not stop")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The service's program with these arguments, and without settings from outside.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedcoding"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .process_group(0);
    for name in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
