//! The command line.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use nix::libc;
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

/// The backend of a platform where developers speedrun building software.
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
    /// Serves the API. Without a command the program does this too.
    Serve,
    /// Brings the database up to date, and stops.
    Migrate,
    /// Adds sample users, runs and boards to look at. A second time it adds nothing.
    Seed,
    /// Prints the OpenAPI document.
    Openapi,
    /// Makes and shows the keys that sign access tokens.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Checks the whole deployment, and says how to mend each point that fails. Changes nothing.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints connection URLs of the database.
    #[command(subcommand)]
    Db(DbCommand),
    /// Changes accounts.
    #[command(subcommand)]
    Users(UsersCommand),
    /// Loads challenges.
    #[command(subcommand)]
    Challenges(ChallengesCommand),
}

#[derive(Subcommand)]
enum ChallengesCommand {
    /// Loads a challenge with its milestones, inputs and answers. A second time it changes nothing.
    ///
    /// The file is TOML. challenges/word-count.toml in the source shows and explains every field. All mistakes are
    /// reported at once, with line and field, and then nothing is loaded. A file that was edited updates the challenge
    /// of its slug. Inputs that are no longer in the file are retired, and sessions that have one keep it. The database
    /// keeps only salted digests of answers.
    Load {
        /// The path of the challenge's file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum UsersCommand {
    /// Gives a user another role. The role counts on the user's next request.
    SetRole {
        /// The user's name, in upper or lower case.
        name: String,
        /// The new role.
        role: Role,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Prints a new private key, as the JWK set that JWT_KEYS takes.
    Generate,
    /// Prints the public keys of JWT_KEYS, for services that verify tokens.
    Public,
}

#[derive(Subcommand)]
enum DbCommand {
    /// Prints the connection URL of the private PostgreSQL that is running, with its password.
    Url,
    /// Gives the service's own login a new password, and prints its URL. The URL printed before stops working.
    Login,
}

/// The command line. Every command takes every setting, and its help shows the settings that count for it.
fn command_line() -> clap::Command {
    let command = Cli::command().mut_args(|setting| unless_empty(setting).global(true));
    let settings: Vec<_> = command.get_arguments().cloned().collect();
    command.mut_subcommands(|command| take(&settings, command))
}

/// A variable that is set but empty counts as not set.
#[expect(
    clippy::disallowed_methods,
    reason = "clap has not read the settings yet"
)]
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

/// The mistake was reported already.
#[derive(Debug, thiserror::Error)]
#[error("the mistake was reported already")]
struct Told;

fn main() -> ExitCode {
    settle_memory();
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
    // The threads of the runtime start here. Settings of the whole process must be made before.
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

/// From this size on, glibc takes each piece of memory from the system by itself, and gives it back when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING: i32 = 128 * 1024;

/// Makes glibc give memory back. By default glibc makes up to eight heaps for each core, and each heap has holes of its
/// own. Here it makes one heap for each core. Otherwise 500 logins at once take more memory than they may
/// (benches/logins.rs). By default glibc also raises the size from which on it gives pieces back, up to 32 MiB. Then it
/// kept 120 MB after 6,000 unfinished bodies (benches/memory.rs), so the size is fixed here. docs/measured.md compares
/// other allocators.
fn settle_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = config::cores().try_into().unwrap_or(i32::MAX);
        for (setting, value) in [
            (libc::M_ARENA_MAX, cores),
            (libc::M_MMAP_THRESHOLD, OWN_MAPPING),
            (libc::M_TRIM_THRESHOLD, OWN_MAPPING),
        ] {
            // SAFETY: mallopt takes any numbers, and no other thread runs yet.
            #[expect(
                unsafe_code,
                reason = "this is glibc's own setting, and no crate wraps it"
            )]
            unsafe {
                libc::mallopt(setting, value)
            };
        }
    }
}

/// Warns of each variable that is nearly a setting, such as `DATABSE_URL`. Otherwise the setting would silently be
/// missing.
#[expect(
    clippy::disallowed_methods,
    reason = "it looks for variables that are no settings"
)]
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
            tracing::warn!("{name} is set but is not a setting; did you mean {setting}?");
        }
    }
}

/// Describes the mistake in `.env`. The reader's own message would quote the line, and with it perhaps a secret.
fn describe_dotenv(error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(part, _) = error else {
        return error.to_string();
    };
    // The part is the line, or the rest of it after the name. A value that is not closed goes on to the end of the
    // file.
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
        format!("line {number}: {name} is not of the form {name}='value'")
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
                "JWT_KEYS is not set: set it to the file that `speedcoding keys generate >keys.json` makes",
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
            // Without this the command would make a new database without users.
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
                format!("{username} is already {after}.")
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
        (0, _) => tell("The sample season is already there."),
        (users, runs) => tell(format!(
            "Added a sample season: {users} users, {runs} runs."
        )),
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
            eprintln!("speedcoding: {name} has {count} mistake{s}; nothing is loaded");
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
