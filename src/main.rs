//! The command line.

use std::{
    env,
    fmt::Display,
    io::{self, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use speedcoding::{
    app::App,
    auth::{Auth, keys},
    challenge_file,
    config::{Config, DATABASE},
    db::{
        self, Db,
        connect::PostgresUrl,
        embedded::{Embedded, postgrest::PostgRest},
        users::{Appointed, Role},
    },
    doctor,
    postgrest::{self, Delegate},
    telemetry,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The backend on which developers speedrun building software.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the API; this is what happens without a command, too.
    Serve,
    /// Brings the database up to date, and stops.
    Migrate,
    /// Adds a small season of users, runs and boards to look at; again, it adds nothing.
    Seed,
    /// Prints the OpenAPI document.
    Openapi,
    /// The keys that access tokens are signed with.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Looks at the whole deployment, and says for each point that fails what to do. Changes nothing.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Connecting to the database by other means.
    #[command(subcommand)]
    Db(DbCommand),
    /// Accounts.
    #[command(subcommand)]
    Users(UsersCommand),
    /// What is built against the clock.
    #[command(subcommand)]
    Challenges(ChallengesCommand),
}

#[derive(Subcommand)]
enum ChallengesCommand {
    /// Loads a challenge with its milestones, inputs and answers; again, it changes nothing.
    ///
    /// The file is TOML; challenges/word-count.toml in the source shows and explains every field. All mistakes in it are
    /// told at once, with line and field, and then nothing is loaded. A file that was edited updates its challenge: the
    /// slug says which. Inputs that are no longer in it are retired: sessions that were given one keep it. Answers are
    /// kept as salted digests only.
    Load {
        /// The challenge's file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum UsersCommand {
    /// Gives a user another role. It counts on the user's next request.
    SetRole {
        /// The user's name, in whatever case.
        name: String,
        /// What the user may do from now on.
        role: Role,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Prints a new private key, as the JWK set that JWT_KEYS takes.
    Generate,
    /// Prints the public keys of JWT_KEYS, for those who verify.
    Public,
}

#[derive(Subcommand)]
enum DbCommand {
    /// Prints the connection URL of the private PostgreSQL that is running, with its password.
    Url,
    /// Gives the service's own login a new password, and prints its URL: the one printed before no longer works.
    Login,
}

/// The command line: every command takes every setting, and shows in its help those that count for it.
fn command_line() -> clap::Command {
    let command = Cli::command().mut_args(|setting| unless_empty(setting).global(true));
    let settings: Vec<_> = command.get_arguments().cloned().collect();
    command.mut_subcommands(|command| take(&settings, command))
}

/// A variable that is set but empty counts as none.
fn unless_empty(setting: Arg) -> Arg {
    let value = setting.get_env().and_then(env::var_os);
    match value {
        Some(value) if value.is_empty() => setting.env(None::<&str>),
        _ => setting,
    }
}

fn take(settings: &[Arg], command: clap::Command) -> clap::Command {
    let counts = |setting: &Arg| match command.get_name() {
        "serve" | "doctor" => true,
        "migrate" | "seed" | "load" | "set-role" | "login" => {
            matches!(setting.get_help_heading(), None | Some(DATABASE))
        }
        "url" => setting.get_id() == "data_dir",
        "public" => setting.get_id() == "jwt_keys",
        _ => false,
    };
    let taken = settings
        .iter()
        .map(|setting| setting.clone().hide(!counts(setting)));
    let taken: Vec<_> = taken.collect();
    command
        .args(taken)
        .mut_subcommands(|command| take(settings, command))
}

/// What is wrong has been told already.
#[derive(Debug, thiserror::Error)]
#[error("it has been told what is wrong")]
struct Told;

fn main() -> ExitCode {
    limit_heaps();
    // A variable that is set wins over the file.
    let dotenv = dotenvy::dotenv();
    let cli =
        Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit());
    if let Err(error) = telemetry::init(cli.config.log_format) {
        eprintln!("speedcoding: {error:#}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = dotenv
        && !error.not_found()
    {
        eprintln!(
            "speedcoding: .env cannot be read: {}",
            describe_dotenv(&error)
        );
        return ExitCode::FAILURE;
    }
    let command = cli.command.unwrap_or(Command::Serve);
    // Its threads start here: settings of the process are made before.
    let outcome = Builder::new_multi_thread()
        .worker_threads(cli.config.worker_threads())
        .enable_all()
        .build()
        .context("no threads can be started")
        .and_then(|runtime| runtime.block_on(run(command, &cli.config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Told>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("speedcoding: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One heap for each core: glibc makes up to eight, each with holes of its own, and 500 logins at once took more than
/// they may (benches/logins.rs).
fn limit_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = speedcoding::config::cores();
        // SAFETY: it takes any numbers; no other thread runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, cores.try_into().unwrap_or(i32::MAX)) };
    }
}

/// What is wrong with `.env`. The reader's own words would quote the line, and with it perhaps a secret.
fn describe_dotenv(error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(part, _) = error else {
        return error.to_string();
    };
    // It is the line, or what follows the name in it; a value that is not closed goes on to the end of the file.
    let part = part.lines().next().unwrap_or_default().trim();
    let here = env::current_dir().unwrap_or_default();
    let mut files = here.ancestors().map(|dir| dir.join(".env"));
    let text = files.find_map(|file| fs_err::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let found = (1..)
        .zip(text.lines())
        .find(|(_, line)| !line.trim_start().starts_with('#') && line.trim_end().ends_with(part));
    let Some((number, line)) = found else {
        return "a line is not of the form NAME='value'".to_owned();
    };
    let name = line.split('=').next().unwrap_or_default().trim();
    let command = Cli::command();
    let mut settings = command.get_arguments().filter_map(Arg::get_env);
    if settings.any(|setting| setting == name) {
        format!("line {number}: {name} is not given in the form {name}='value'")
    } else {
        format!("line {number} is not of the form NAME='value'")
    }
}

async fn run(command: Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Serve => serve(config).await,
        Command::Migrate => migrate(config).await,
        Command::Seed => seed(config).await,
        Command::Openapi => tell(speedcoding::app::openapi()?.trim_end()),
        Command::Keys(KeysCommand::Generate) => tell(keys::generate()?.expose_secret()),
        Command::Keys(KeysCommand::Public) => {
            let keys = config.jwt_keys.as_ref().context(
                "JWT_KEYS is not set: it names the file that `speedcoding keys generate >keys.json` has made",
            )?;
            tell(keys::public_set(&keys::load(keys)?))
        }
        Command::Doctor { json } => {
            let report = doctor::examine(config).await;
            if json {
                tell(report.json())?;
            } else {
                tell(&report)?;
            }
            report.is_sound().then_some(()).ok_or(Told.into())
        }
        Command::Users(UsersCommand::SetRole { name, role }) => {
            // It would be initialised for nobody.
            anyhow::ensure!(
                config.migration_url().is_some() || Embedded::is_in(&config.data_dir),
                "there are no users in {} yet: start `speedcoding` with this DATA_DIR first",
                config.data_dir.display()
            );
            let Appointed {
                username,
                before,
                after,
            } = as_owner(config, async |url| {
                db::users::set_role(url, &name, role).await
            })
            .await?;
            tell(if before == after {
                format!("{username} is {after} already.")
            } else {
                format!("{username} was {before}, and is now {after}.")
            })
        }
        Command::Challenges(ChallengesCommand::Load { file }) => load(config, &file).await,
        Command::Db(DbCommand::Url) => {
            tell(Embedded::running_url(&config.data_dir)?.expose_secret())
        }
        Command::Db(DbCommand::Login) => {
            refuse_another(config).await?;
            let login = db::login::give_password(&owner_url(config)?).await;
            tell(blame(config, login)?.expose_secret())
        }
    }
}

/// Prints what was asked for. Whoever reads may have had enough: that is no failure.
fn tell(text: impl Display) -> anyhow::Result<()> {
    let told = writeln!(io::stdout(), "{text}");
    match told {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("standard output"),
    }
}

/// The owner's URL of the database that is meant: the one given, or the private one that is running.
fn owner_url(config: &Config) -> anyhow::Result<SecretString> {
    match config.migration_url() {
        Some(url) => Ok(url.clone()),
        None => Ok(Embedded::running_url(&config.data_dir)?),
    }
}

/// Fails where the owner's URL leads to another database than the one that is served.
async fn refuse_another(config: &Config) -> anyhow::Result<()> {
    match (&config.database_url, &config.migration_database_url) {
        (Some(url), Some(owner)) => blame(config, db::connect::refuse_another(url, owner).await),
        _ => Ok(()),
    }
}

/// Says which setting an error is about, where the owner's URL comes from one.
fn blame<T>(config: &Config, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    match config.migration_setting() {
        Some(setting) => outcome.context(setting),
        None => outcome,
    }
}

/// Works on the database that is meant, as its owner; the private one is started for it where it does not run.
async fn as_owner<T>(
    config: &Config,
    work: impl AsyncFnOnce(&SecretString) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Ok(url) = owner_url(config) {
        refuse_another(config).await?;
        return blame(config, work(&url).await);
    }
    let mut stop = stop_signals()?;
    let interrupted = || anyhow!("stopped by a signal");
    let embedded = start_embedded(config, &mut stop).await?;
    let embedded = embedded.ok_or_else(interrupted)?;
    let outcome = tokio::select! {
        outcome = work(embedded.url()) => outcome,
        () = stop() => Err(interrupted()),
    };
    embedded.stop().await;
    outcome
}

/// Starts the private PostgreSQL; nothing where it is asked to stop meanwhile. Then the start is seen through all the
/// same, so that nothing of it is left behind.
async fn start_embedded(
    config: &Config,
    stop: &mut impl AsyncFnMut(),
) -> anyhow::Result<Option<Embedded>> {
    let mut starting = pin!(Embedded::start_from(
        &config.binaries,
        &config.data_dir,
        &[]
    ));
    tokio::select! {
        started = &mut starting => return started.map(Some),
        () = stop() => {}
    }
    tracing::info!("stopping as soon as PostgreSQL has started; a second Ctrl-C ends it at once");
    tokio::select! {
        // What fails now need not be told: Ctrl-C in a terminal reaches initdb, too.
        started = starting => if let Ok(embedded) = started {
            embedded.stop().await;
        },
        () = stop() => {}
    }
    Ok(None)
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let applied = as_owner(config, async |url| db::migrate::migrate(url).await).await?;
    match applied.as_slice() {
        [] => tell("The database is up to date."),
        applied => tell(format!("Migrated: {}.", applied.join(", "))),
    }
}

async fn seed(config: &Config) -> anyhow::Result<()> {
    let added = as_owner(config, async |url| {
        db::migrate::migrate(url).await?;
        db::seed::seed(url).await
    });
    match added.await? {
        (0, _) => tell("The season is there already."),
        (users, runs) => tell(format!("Added a season: {users} users, {runs} runs.")),
    }
}

async fn load(config: &Config, file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    let challenge = match challenge_file::read(&challenge_file::open(file)?) {
        Ok(challenge) => challenge,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{name}:{mistake}");
            }
            let count = mistakes.len();
            let s = if count == 1 { "" } else { "s" };
            eprintln!("speedcoding: {name} has {count} mistake{s}: nothing is loaded");
            return Err(Told.into());
        }
    };
    let loaded = as_owner(config, async |url| {
        db::migrate::migrate(url).await?;
        db::challenges::load(url, &challenge, |done, of| {
            eprintln!("{name}: {done} of {of} inputs");
        })
        .await
    });
    let loaded = loaded.await?;
    tell(loaded.with_context(|| format!("{} is not loaded", challenge.slug))?)
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    // Before anything is started, so that whatever is started is stopped, too.
    let (mut first, second) = (stop_signals()?, stop_signals()?);
    // A taken port is told at once.
    if let Some(address) = config.metrics_bind {
        let listener = TcpListener::bind(address).map_err(|error| {
            anyhow!("cannot listen on {address}: {error}; choose another address with METRICS_BIND")
        })?;
        tokio::spawn(speedcoding::app::serve_metrics(listener)?);
    }
    let listener = TcpListener::bind(config.bind).map_err(|error| {
        anyhow!(
            "cannot listen on {}: {error}; choose another address with BIND, such as BIND=127.0.0.1:8081",
            config.bind
        )
    })?;
    // Nor is anything started with settings that will not do.
    Delegate::new(config)?;
    let Some(url) = config.database_to_serve()? else {
        // What is generated later will do.
        Auth::new(config, Some(&"-".repeat(32).into()))?;
        return serve_embedded(config, listener, first, second).await;
    };
    let app = tokio::select! {
        app = prepare(config, url) => app?,
        () = first() => return Ok(()),
    };
    announce(&listener, "as DATABASE_URL says", whose_postgrest(config))?;
    serve_until_stopped(app, listener, config, first, second).await
}

/// The service on a database of somebody else's, which is migrated where an owner's URL is given.
async fn prepare(config: &Config, url: &SecretString) -> anyhow::Result<App> {
    let auth = Auth::new(config, None)?;
    if !db::logs_in_as_service(url).context("DATABASE_URL")? {
        PostgresUrl::check_options(url)
            .await
            .context("DATABASE_URL")?;
    }
    if let Some(owner) = config.migration_url()
        && !blame(config, db::logs_in_as_service(owner))?
    {
        refuse_another(config).await?;
        blame(config, db::migrate::migrate(owner).await)?;
    }
    let db = Db::connect(url, config).await.context("DATABASE_URL")?;
    App::build(config, auth, db)
}

/// Serves until Ctrl-C or SIGTERM; then what is under way has its time to finish, unless another one comes.
async fn serve_until_stopped(
    app: App,
    listener: TcpListener,
    config: &Config,
    mut first: impl AsyncFnMut(),
    mut second: impl AsyncFnMut(),
) -> anyhow::Result<()> {
    let stopped = async {
        first().await;
        tracing::info!(
            "stopping: requests under way have {} s to finish; a second Ctrl-C ends them at once",
            config.shutdown_timeout
        );
    };
    let stopped_twice = async {
        second().await;
        second().await;
    };
    tokio::select! {
        served = app.serve(listener, stopped) => served,
        () = stopped_twice => Ok(()),
    }
}

async fn serve_embedded(
    config: &Config,
    listener: TcpListener,
    mut first: impl AsyncFnMut(),
    second: impl AsyncFnMut(),
) -> anyhow::Result<()> {
    let Some(embedded) = start_embedded(config, &mut first).await? else {
        return Ok(());
    };
    let mut config = config.clone();
    let mut beside = None;
    let served = async {
        let app = tokio::select! {
            app = prepare_embedded(&mut config, &embedded, &mut beside) => app?,
            () = first() => return Ok(()),
        };
        announce(
            &listener,
            &format!("private, in {}", config.data_dir.display()),
            &match &beside {
                Some(started) => started.program.display().to_string(),
                None => whose_postgrest(&config).to_owned(),
            },
        )?;
        tokio::select! {
            served = serve_until_stopped(app, listener, &config, first, second) => served,
            () = embedded.ended() => bail!(
                "PostgreSQL has ended by itself; {}/postgres.log says why. The next start recovers",
                config.data_dir.display()
            ),
        }
    };
    let outcome = served.await;
    if let Some(postgrest) = beside {
        postgrest.stop().await;
    }
    embedded.stop().await;
    outcome
}

/// The service on the private PostgreSQL, with a PostgREST beside it where none is given and one is installed.
async fn prepare_embedded(
    config: &mut Config,
    embedded: &Embedded,
    beside: &mut Option<PostgRest>,
) -> anyhow::Result<App> {
    db::migrate::migrate(embedded.url()).await?;
    let auth = Auth::new(config, Some(embedded.jwt_secret()))?;
    if postgrest::upstream(config)?.is_none() {
        let secret = auth.access.postgrest_secret();
        let started = PostgRest::start(&config.data_dir, embedded, secret).await;
        *beside = started.unwrap_or_else(|error| {
            tracing::warn!("PostgREST is not started: {error:#}");
            None
        });
        config.postgrest_url = beside.as_ref().map(|started| started.url.clone());
    }
    let db = Db::connect(embedded.socket_url(), config).await?;
    App::build(config, auth, db)
}

/// Which PostgREST the settings name.
fn whose_postgrest(config: &Config) -> &'static str {
    match (&config.postgrest_url, &config.supabase_url) {
        (Some(_), _) => "as POSTGREST_URL says",
        (None, Some(_)) => "as SUPABASE_URL says",
        (None, None) => "none: /rest/v1 answers 501, and says how to get one",
    }
}

fn announce(listener: &TcpListener, database: &str, postgrest: &str) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tell(format!(
        "SpeedCoding {}\n  API         http://{address}{}\n  Swagger UI  http://{address}/docs\n  \
         PostgreSQL  {database}\n  PostgREST   {postgrest}\nCtrl-C stops it.",
        env!("CARGO_PKG_VERSION"),
        speedcoding::app::BASE,
    ))
}

/// Waits for Ctrl-C or SIGTERM, each time for the next one.
fn stop_signals() -> anyhow::Result<impl AsyncFnMut()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
