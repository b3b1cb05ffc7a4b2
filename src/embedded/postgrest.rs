//! A PostgREST beside the private PostgreSQL: found on PATH, started, started again when it ends, stopped with the
//! service.

use std::{
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tracing::{info, warn};
use url::Url;

use super::{
    Embedded,
    account::Account,
    binaries::path_dirs,
    cluster::{keep_port, pid_of},
    data_dir::DataDir,
    env_file::EnvFile,
    log::Log,
};
use crate::{db::connect::set_password, limits::turns::AT_ONCE};

/// The role that PostgREST logs in as before it switches to another role.
const ROLE: &str = "authenticator";
/// How often the service checks that PostgREST still runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// The wait before PostgREST is started again. It doubles each time up to the longest wait, and starts
/// over after PostgREST has run for a minute.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const SOUND_AFTER: Duration = Duration::from_secs(60);
/// The number of PostgREST's connections to PostgreSQL. Only five clients with slow requests together can take all of
/// them (`Turns`).
const POOL: usize = 5 * AT_ONCE;

/// A running PostgREST, or one that is about to be started again. Dropping it stops it.
pub struct PostgRest {
    /// Its URL, on loopback.
    pub url: Url,
    /// The program that runs.
    pub program: PathBuf,
    /// It is never used. When it is closed, PostgREST is stopped.
    _stop: Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl PostgRest {
    /// Starts the PostgREST of this machine on the private PostgreSQL, or returns nothing if there is none. It answers
    /// a moment later. It verifies access tokens with `jwt_secret`.
    pub async fn start(
        data_dir: &Path,
        embedded: &Embedded,
        jwt_secret: &SecretString,
    ) -> Result<Option<Self>> {
        let files = DataDir::open(data_dir)?;
        let mut env = EnvFile::load(&files.env_file())?;
        let Some((program, root)) = find() else {
            env.remove("POSTGREST_URL");
            env.save(files.path())?;
            return Ok(None);
        };
        let account = Account::choose(&files)?;
        let may_run = account
            .command(Path::new("test"))
            .arg("-x")
            .arg(&program)
            .status()?;
        ensure!(
            may_run.success(),
            "the account that PostgreSQL runs under may not run {}: put it where everybody may, such as \
             /usr/local/bin",
            program.display()
        );
        let password = env.get_or_generate("AUTHENTICATOR_PASSWORD")?;
        let port = keep_port(known_url(&env).and_then(|url| url.port()), "PostgREST")?;
        let url = format!("http://{}:{port}{root}", Ipv4Addr::LOCALHOST);
        env.set("POSTGREST_URL", &url);
        env.save(files.path())?;
        set_password(embedded.url(), ROLE, &password).await?;

        let mut database = Url::parse(embedded.url().expose_secret())?;
        database
            .set_username(ROLE)
            .and_then(|()| database.set_password(Some(password.expose_secret())))
            .ok()
            .context("the private PostgreSQL's URL takes no user")?;
        let settings = Settings {
            account,
            program: program.clone(),
            log: files.postgrest_log(),
            database: SecretString::from(String::from(database)),
            jwt_secret: jwt_secret.clone(),
            port,
        };
        let (stop, stopping) = channel();
        let (tell, stopped) = oneshot::channel();
        // The kernel sends a parent-death signal when the thread that spawned the child ends.
        thread::Builder::new()
            .name("postgrest".to_owned())
            .spawn(move || {
                settings.keep_running(&stopping);
                let _ = tell.send(());
            })?;
        Ok(Some(PostgRest {
            url: Url::parse(&url)?,
            program,
            _stop: stop,
            stopped,
        }))
    }

    /// The URL of the PostgREST beside the private PostgreSQL of `data_dir`, for commands in another process.
    #[must_use]
    pub fn running_url(data_dir: &Path) -> Option<Url> {
        let files = DataDir::open(data_dir).ok()?;
        known_url(&EnvFile::load(&files.env_file()).ok()?)
    }

    /// Stops it, and waits until it is gone.
    pub async fn stop(self) {
        let PostgRest { _stop, stopped, .. } = self;
        drop(_stop);
        // An error means that the watching thread is gone, and its child with it.
        let _ = stopped.await;
    }
}

fn known_url(env: &EnvFile) -> Option<Url> {
    Url::parse(env.get("POSTGREST_URL")?.expose_secret()).ok()
}

/// The first `postgrest` on PATH, else the first `postrust`, and the path beneath which it serves.
fn find() -> Option<(PathBuf, &'static str)> {
    [("postgrest", ""), ("postrust", "/api")]
        .into_iter()
        .find_map(|(name, root)| {
            let mut programs = path_dirs()
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(name));
            programs
                .find(|program| program.is_file())
                .map(|program| (program, root))
        })
}

/// The parts that run PostgREST.
struct Settings {
    account: Account,
    program: PathBuf,
    log: PathBuf,
    database: SecretString,
    jwt_secret: SecretString,
    port: u16,
}

impl Settings {
    /// Runs PostgREST until this thread is told to stop.
    fn keep_running(&self, stop: &Receiver<()>) {
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            match self.spawn() {
                Ok(mut child) => {
                    info!("PostgREST runs on 127.0.0.1:{}", self.port);
                    if !ends_by_itself(&mut child, stop) {
                        return;
                    }
                    warn!(
                        "PostgREST has ended by itself; {} says why",
                        self.log.display()
                    );
                }
                Err(error) => warn!("PostgREST cannot be started: {error:#}"),
            }
            if began.elapsed() > SOUND_AFTER {
                wait = FIRST_WAIT;
            }
            if stop.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn spawn(&self) -> Result<Child> {
        let (pipe, _) = Log::open(&self.log)?;
        let mut command = self.command();
        // Ctrl-C in a terminal reaches the whole process group; the service drains before it stops this.
        command
            .process_group(0)
            .stdout(pipe.try_clone()?)
            .stderr(pipe);
        Ok(command.spawn()?)
    }

    fn command(&self) -> Command {
        let mut command = self.account.command(&self.program);
        let database = self.database.expose_secret();
        command
            .stdin(Stdio::null())
            // PostgREST reads the first variable, and postrust reads the second.
            .env("PGRST_DB_URI", database)
            .env("DATABASE_URL", database)
            .env("PGRST_DB_SCHEMAS", "public")
            .env("PGRST_DB_EXTRA_SEARCH_PATH", "public,extensions")
            .env("PGRST_DB_ANON_ROLE", "anon")
            .env("PGRST_DB_PRE_REQUEST", "speedcoding.check_request")
            .env("PGRST_DB_MAX_ROWS", "1000")
            .env("PGRST_DB_POOL", POOL.to_string())
            .env("PGRST_DB_ERRORS_VERBATIM", "true")
            .env("PGRST_JWT_SECRET", self.jwt_secret.expose_secret())
            .env("PGRST_JWT_AUD", "authenticated")
            .env("PGRST_SERVER_HOST", Ipv4Addr::LOCALHOST.to_string())
            .env("PGRST_SERVER_PORT", self.port.to_string());
        command
    }
}

/// Waits until a child ends, or stops it when told to. Returns whether the child ended by itself.
fn ends_by_itself(child: &mut Child, stop: &Receiver<()>) -> bool {
    while stop.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
    }
    if let Err(error) = kill(pid_of(child), Signal::SIGTERM) {
        warn!("cannot stop PostgREST: {error}");
    }
    let began = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if began.elapsed() > STOPPED_WITHIN {
            warn!("PostgREST does not stop, and is killed");
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
