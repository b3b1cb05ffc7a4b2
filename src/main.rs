//! The command line.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use secrecy::ExposeSecret;
use speedcoding::{
    app,
    auth::keys,
    config::{self, Config, DATABASE},
    db::migrate::migrate,
    embedded::Embedded,
    operate::{
        challenge_file, challenges, doctor, login,
        owner::{as_owner, blame, owner_url, refuse_another},
        seed, tell,
        users::{self, Appointed, Role},
    },
    serve::serve,
    telemetry,
};
use tokio::runtime::Builder;

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
    warn_of_slips();
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
        let cores = config::cores();
        // SAFETY: it takes any numbers; no other thread runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, cores.try_into().unwrap_or(i32::MAX)) };
    }
}

/// Names each variable that is nearly a setting, such as `DATABSE_URL`: the setting itself would silently be missing.
fn warn_of_slips() {
    let command = Cli::command();
    let settings: Vec<_> = command
        .get_arguments()
        .filter_map(Arg::get_env)
        .filter_map(|name| name.to_str())
        .collect();
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| !settings.contains(name)) else {
            continue;
        };
        let is_near =
            |setting: &&&str| setting.len() > 5 && strsim::damerau_levenshtein(name, setting) <= 2;
        if let Some(setting) = settings.iter().find(is_near) {
            tracing::warn!("{name} is set, and is no setting: is {setting} meant?");
        }
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
        Command::Migrate => bring_up_to_date(config).await,
        Command::Seed => add_season(config).await,
        Command::Openapi => tell(app::openapi()?.trim_end()),
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
            } = as_owner(config, async |url| users::set_role(url, &name, role).await).await?;
            tell(if before == after {
                format!("{username} is {after} already.")
            } else {
                format!("{username} was {before}, and is now {after}.")
            })
        }
        Command::Challenges(ChallengesCommand::Load { file }) => {
            load_challenge(config, &file).await
        }
        Command::Db(DbCommand::Url) => {
            tell(Embedded::running_url(&config.data_dir)?.expose_secret())
        }
        Command::Db(DbCommand::Login) => {
            refuse_another(config).await?;
            let login = login::give_password(&owner_url(config)?).await;
            tell(blame(config, login)?.expose_secret())
        }
    }
}

async fn bring_up_to_date(config: &Config) -> anyhow::Result<()> {
    let applied = as_owner(config, async |url| migrate(url).await).await?;
    match applied.as_slice() {
        [] => tell("The database is up to date."),
        applied => tell(format!("Migrated: {}.", applied.join(", "))),
    }
}

async fn add_season(config: &Config) -> anyhow::Result<()> {
    let added = as_owner(config, async |url| {
        migrate(url).await?;
        seed::seed(url).await
    });
    match added.await? {
        (0, _) => tell("The season is there already."),
        (users, runs) => tell(format!("Added a season: {users} users, {runs} runs.")),
    }
}

async fn load_challenge(config: &Config, file: &Path) -> anyhow::Result<()> {
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
        migrate(url).await?;
        challenges::load(url, &challenge, |done, of| {
            eprintln!("{name}: {done} of {of} inputs");
        })
        .await
    });
    let loaded = loaded.await?;
    tell(loaded.with_context(|| format!("{} is not loaded", challenge.slug))?)
}
