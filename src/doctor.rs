//! `speedcoding doctor`: looks at a deployment from all sides and says, for each point that fails, what to do.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use anyhow::Context;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use url::Url;
use uuid::Uuid;

use crate::{
    auth::Auth,
    config::{Config, Statements},
    db::{
        self, Db,
        connect::{ANOTHER, PostgresUrl, place},
        embedded::{Embedded, postgrest::PostgRest},
        migrate,
    },
    postgrest::{self, Answered, Delegate},
    problem::Problem,
};

/// What the catalog says where nothing but the migrations has changed it: `subject: detail`, in the order of the bytes.
const MIGRATED: &str = include_str!("../sql/doctor/catalog.txt");
const MISSING_IN_ROLES: &str = include_str!("../sql/doctor/roles.sql");
/// The roles whose rights are fixed; others belong to whoever runs the database.
pub const ROLES: [&str; 7] = [
    "public",
    "anon",
    "authenticated",
    "service_role",
    "speedcoding_api",
    "speedcoding_writer",
    "speedcoding_keeper",
];
/// Clocks that differ by more let tokens expire early or come from the future.
const MOST_SKEW: Duration = Duration::from_secs(30);
/// So many differences are listed; who has more has another trouble.
const MOST_LISTED: usize = 8;

/// What one look gave.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    status: Status,
    /// What was found.
    found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<String>,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// Not there or not looked at, and not needed.
    Note,
    /// It works, and could be better.
    Warning,
    /// Something does not work, or is open that should not be.
    Failure,
}

/// All findings.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// Whether nothing fails.
    pub fn is_sound(&self) -> bool {
        let mut findings = self.0.iter();
        !findings.any(|finding| finding.status == Status::Failure)
    }

    /// As JSON: `{"sound": true, "findings": [{"check", "status", "found", "remedies"}]}`
    pub fn json(&self) -> String {
        format!(
            "{:#}",
            json!({ "sound": self.is_sound(), "findings": self.0 })
        )
    }

    fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>) {
        self.advise(check, status, found, []);
    }

    fn advise<const N: usize>(
        &mut self,
        check: &'static str,
        status: Status,
        found: impl Into<String>,
        remedies: [&str; N],
    ) {
        self.0.push(Finding {
            check,
            status,
            found: found.into(),
            remedies: remedies.map(str::to_owned).into(),
        });
    }

    fn fail<const N: usize>(
        &mut self,
        check: &'static str,
        found: impl Display,
        remedies: [&str; N],
    ) {
        self.advise(check, Status::Failure, found.to_string(), remedies);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let status = match finding.status {
                Status::Ok => "ok",
                Status::Note => "note",
                Status::Warning => "warning",
                Status::Failure => "FAILURE",
            };
            writeln!(f, "{status:<9}{:<17}{}", finding.check, finding.found)?;
            for remedy in &finding.remedies {
                writeln!(f, "{:<26}-> {remedy}", "")?;
            }
        }
        let failures = self
            .0
            .iter()
            .filter(|finding| finding.status == Status::Failure);
        match failures.count() {
            0 => write!(f, "Nothing fails."),
            1 => write!(f, "One point fails."),
            count => write!(f, "{count} points fail."),
        }
    }
}

/// Looks at everything that the settings lead to. Changes nothing.
pub async fn examine(config: &Config) -> Report {
    let mut report = Report::default();
    let is_private = match config.database_to_serve() {
        Ok(url) => url.is_none(),
        Err(error) => {
            report.fail("settings", error, ["set both, or neither"]);
            return report;
        }
    };
    let config = &mut config.clone();
    if is_private && let Err(error) = find_embedded(config) {
        report.fail(
            "database",
            format!("{error:#}"),
            ["start it with `speedcoding`, or set DATABASE_URL to the database that is meant"],
        );
        return report;
    }
    if let Some(url) = config.database_url.clone()
        && !look_at_database(config, &url, &mut report).await
    {
        let found = "not looked at before the migrations are applied";
        report.add("the rest", Status::Note, found);
        return report;
    }
    look_at_postgrest(config, is_private, &mut report).await;
    report
}

/// Without DATABASE_URL the private PostgreSQL is meant, with its secret and the PostgREST beside it.
fn find_embedded(config: &mut Config) -> anyhow::Result<()> {
    let (url, jwt_secret) = Embedded::running(&config.data_dir)?;
    config.database_url = Some(url);
    if config.jwt_secret.is_none() {
        config.jwt_secret = jwt_secret;
    }
    if config.postgrest_url.is_none() && config.supabase_url.is_none() {
        config.postgrest_url = PostgRest::running_url(&config.data_dir);
    }
    Ok(())
}

/// Whether the migrations are there, so that the rest can be looked at.
async fn look_at_database(config: &Config, url: &SecretString, report: &mut Report) -> bool {
    const CORRECT: &str =
        "correct DATABASE_URL: the service's URL from `speedcoding db login`, or the owner's";
    let Some(service) = connect("DATABASE_URL", url, CORRECT, report).await else {
        return true;
    };
    let owner = match (config.migration_setting(), config.migration_url()) {
        // What cannot be read as a URL is none of the service's role either.
        (Some(setting), Some(url)) if !db::logs_in_as_service(url).unwrap_or(false) => {
            let remedy = format!("correct {setting}, the owner's URL");
            let owner = connect(setting, url, &remedy, report).await;
            if let Some(owner) = &owner
                && let (Ok(one), Ok(other)) = (place(&service).await, place(owner).await)
                && one != other
            {
                report.fail("database", format!("{setting}: {ANOTHER}"), [&remedy]);
                return true;
            }
            owner
        }
        _ => None,
    };
    let mut is_migrated = true;
    let looked = async {
        look_at_server(&service, report).await?;
        match look_at_migrations(owner.as_ref(), report).await? {
            Migrations::Missing => {
                is_migrated = false;
                return Ok(());
            }
            Migrations::Newer => {}
            Migrations::Ours => look_at_catalog(&service, report).await?,
        }
        look_at_roles(&service, report).await?;
        look_at_pooler(config, url, report).await?;
        look_at_supabase(&service, owner.as_ref(), report).await?;
        look_at_boards(owner.as_ref(), report).await
    };
    if let Err(error) = looked.await {
        let error = db::describe(error.as_ref());
        report.fail(
            "database",
            format!("a question was not answered: {error}"),
            ["try again; if it stays, report it with this text"],
        );
    }
    if !is_migrated {
        return false;
    }
    if let Err(error) = Db::connect(url, config).await {
        let remedies = ["mend first what fails above", CORRECT];
        report.fail("service", format!("{error:#}"), remedies);
    }
    true
}

/// As whoever the URL of this setting names; or says what to do about the setting.
async fn connect(
    setting: &str,
    url: &SecretString,
    remedy: &str,
    report: &mut Report,
) -> Option<Client> {
    let mut url = match PostgresUrl::parse(url) {
        Ok(url) => url,
        Err(error) => {
            report.fail("database", format!("{setting}: {error:#}"), [remedy]);
            return None;
        }
    };
    url.postgres.application_name("speedcoding doctor");
    match url.connect().await {
        Ok((client, _)) => Some(client),
        Err(error) => {
            let found = format!("{setting}: {error:#}");
            // What a server answers itself begins so; a paused project's pooler knows no tenant.
            let hint = if found.contains("password authentication failed") {
                "`speedcoding db login` gives the service a new one; in a URL its special characters are written as %40"
            } else if found.contains("FATAL: ") && !found.contains("Tenant or user") {
                report.fail("database", found, [remedy]);
                return None;
            } else {
                "a Supabase project that is paused must be restored in the dashboard"
            };
            report.fail("database", found, [remedy, hint]);
            None
        }
    }
}

async fn look_at_server(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let row = client
        .query_typed_one(include_str!("../sql/doctor/server.sql"), &[])
        .await?;
    let (number, version, database, user): (i32, &str, &str, &str) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let found = format!("PostgreSQL {version}, database {database}, as {user}");
    if number < 150_000 {
        report.fail("database", found, ["upgrade PostgreSQL to 15 or newer"]);
    } else {
        report.add("database", Status::Ok, found);
    }
    let skew = (OffsetDateTime::now_utc() - row.get::<_, OffsetDateTime>(4)).unsigned_abs();
    judge_skew("clock", "the database's", skew, report);
    Ok(())
}

fn judge_skew(check: &'static str, whose: &str, skew: Duration, report: &mut Report) {
    let found = format!(
        "{whose} clock and this machine's differ by {:.1} s",
        skew.as_secs_f64()
    );
    if skew > MOST_SKEW {
        report.fail(
            check,
            found,
            ["synchronise both by NTP: tokens expire early or are refused as from the future"],
        );
    } else {
        report.add(check, Status::Ok, found);
    }
}

/// What can be expected of a database.
enum Migrations {
    /// What this version knows.
    Ours,
    /// More than this version knows.
    Newer,
    /// Nothing yet.
    Missing,
}

async fn look_at_migrations(
    owner: Option<&Client>,
    report: &mut Report,
) -> anyhow::Result<Migrations> {
    const MIGRATE: &str = "run `speedcoding migrate` with the owner's URL, or `supabase db push`";
    let Some(owner) = owner else {
        report.advise(
            "migrations",
            Status::Note,
            "not looked at: the service may not read their history",
            ["give the owner's URL as MIGRATION_DATABASE_URL"],
        );
        return Ok(Migrations::Ours);
    };
    let state = migrate::state(owner).await?;
    if !state.missing.is_empty() {
        let found = match state.applied {
            0 => "none applied".to_owned(),
            _ => format!("not applied: {}", state.missing.join(", ")),
        };
        report.fail("migrations", found, [MIGRATE]);
        return Ok(Migrations::Missing);
    }
    if state.unknown > 0 {
        let found = format!(
            "all applied, and {} that this version does not know",
            state.unknown
        );
        report.advise(
            "migrations",
            Status::Warning,
            found,
            ["run the version that migrated this database"],
        );
        return Ok(Migrations::Newer);
    }
    report.add(
        "migrations",
        Status::Ok,
        format!("all {} applied", state.applied),
    );
    Ok(Migrations::Ours)
}

/// Rights, policies, triggers, functions and tables: as the migrations left them.
async fn look_at_catalog(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let migrated: BTreeMap<&str, &str> = MIGRATED
        .lines()
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .collect();
    let named = |kinds: &[&str]| -> Vec<&str> {
        let subjects = migrated
            .keys()
            .filter_map(|subject| subject.split_once(' '));
        let subjects = subjects.filter(|(kind, _)| kinds.contains(kind));
        subjects.map(|(_, name)| name).collect()
    };
    let relations = named(&["table", "view", "sequence", "type"]);
    let functions = named(&["function"]);
    let schemas: &[&str] = &["public", "private", "speedcoding"];
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&relations, Type::TEXT_ARRAY),
        (&functions, Type::TEXT_ARRAY),
        (&schemas, Type::TEXT_ARRAY),
        (&ROLES.as_slice(), Type::TEXT_ARRAY),
    ];
    client
        .batch_execute(include_str!("../sql/doctor/settings.sql"))
        .await?;
    let rows = client
        .query_typed(include_str!("../sql/doctor/catalog.sql"), &params)
        .await?;
    client.batch_execute("commit").await?;
    let found: BTreeMap<&str, &str> = rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get::<_, Option<&str>>(1).unwrap_or_default(),
            )
        })
        .collect();

    let missing: Vec<&str> = (relations.iter().chain(&functions).copied())
        .filter(|name| !found.keys().any(|subject| names(subject, name)))
        .collect();
    // What is said of something that is not there goes without saying. Whoever runs the database may add tables,
    // columns, indexes and triggers of their own, and let others into their schema public.
    let changed = migrated.iter().filter(|(subject, detail)| {
        let is_there = !missing.iter().any(|name| names(subject, name)) || is_object(subject);
        found.get(*subject) != Some(*detail) && is_there
    });
    let added = found.keys().filter(|subject| {
        !migrated.contains_key(*subject)
            && ["grant ", "policy ", "rule "]
                .iter()
                .any(|kind| subject.starts_with(kind))
            && !subject.contains(" on schema public ")
    });
    let mut remedies: Vec<(&str, String)> = changed
        .map(|(subject, detail)| {
            (
                *subject,
                restore(subject, detail, found.contains_key(subject)),
            )
        })
        .chain(added.map(|subject| (*subject, remove(subject))))
        .collect();
    for check in [
        "privileges",
        "row access",
        "triggers",
        "functions",
        "tables",
    ] {
        let count = migrated
            .keys()
            .filter(|subject| of(subject) == check)
            .count();
        let own = remedies.extract_if(.., |(subject, _)| of(subject) == check);
        judge(
            check,
            count,
            own.map(|(_, remedy)| remedy).collect(),
            report,
        );
    }
    Ok(())
}

/// Which check a subject of the catalog belongs to.
fn of(subject: &str) -> &'static str {
    match subject.split(' ').next() {
        Some("grant") => "privileges",
        Some("trigger" | "rule") => "triggers",
        Some("alter") if subject.ends_with("trigger all") => "triggers",
        Some("policy" | "alter") => "row access",
        Some("function") => "functions",
        _ => "tables",
    }
}

/// Whether something is said of what has this name, or of a part of it.
fn names(subject: &str, name: &str) -> bool {
    let is_named = |word: &str| {
        word.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    subject.split(' ').any(is_named)
}

/// Whether a subject is a whole thing, and no property of one.
fn is_object(subject: &str) -> bool {
    let kind = subject.split(' ').next().unwrap_or_default();
    ["table", "view", "sequence", "type", "function"].contains(&kind)
}

fn judge(check: &'static str, count: usize, mut remedies: Vec<String>, report: &mut Report) {
    let differences = remedies.len();
    if differences == 0 {
        report.add(
            check,
            Status::Ok,
            format!("all {count} as the migrations left them"),
        );
        return;
    }
    remedies.truncate(MOST_LISTED);
    if differences > MOST_LISTED {
        remedies.push(format!("and {} more", differences - MOST_LISTED));
    }
    report.0.push(Finding {
        check,
        status: Status::Failure,
        found: format!("{differences} not as the migrations left them; as the owner:"),
        remedies,
    });
}

/// How what is missing or another is made as it was.
fn restore(subject: &str, detail: &str, is_there: bool) -> String {
    match (subject.split_once(' '), is_there) {
        (Some(("grant" | "alter", _)), _) => format!("{subject};"),
        (Some(("function", name)), _) => format!("run sql/functions/{name}.sql"),
        (Some(("trigger", rest)), false) => {
            let (name, table) = rest.split_once(" on ").unwrap_or((rest, ""));
            format!(
                "alter table {table} enable trigger {name}; or, where it is gone, create it as in sql/migrations"
            )
        }
        (Some(("policy" | "trigger", _)), true) => {
            format!("drop {subject}; and create it as in sql/migrations")
        }
        (Some(("policy", _)), false) => format!("create {subject} as in sql/migrations"),
        (_, true) => format!("make {subject} as in sql/migrations: {detail}"),
        (Some(("table" | "view" | "sequence", _)), false) => {
            format!("restore {subject} from a backup, or create it as in sql/migrations")
        }
        (_, false) => format!("restore {subject} as in sql/migrations: {detail}"),
    }
}

/// How what should not be there is undone.
fn remove(subject: &str) -> String {
    let grant = subject.strip_prefix("grant ");
    match grant.and_then(|grant| grant.rsplit_once(" to ")) {
        Some((what, role)) => format!("revoke {what} from {role};"),
        None => format!("drop {subject};"),
    }
}

async fn look_at_roles(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let rows = client.query_typed(MISSING_IN_ROLES, &[]).await?;
    if rows.is_empty() {
        report.add(
            "roles",
            Status::Ok,
            "all there, none above the policies but service_role",
        );
        return Ok(());
    }
    report.0.push(Finding {
        check: "roles",
        status: Status::Failure,
        found: "not as the migrations left them; as the owner:".to_owned(),
        remedies: rows.iter().map(|row| row.get(0)).collect(),
    });
    Ok(())
}

/// In a pooler's transaction mode a connection that is idle has lent its server to the next one.
async fn look_at_pooler(
    config: &Config,
    url: &SecretString,
    report: &mut Report,
) -> anyhow::Result<()> {
    let url = PostgresUrl::parse(url)?;
    let ((first, _), (second, _)) = (url.connect().await?, url.connect().await?);
    const WHO: &str = "select pg_backend_pid()";
    let mut shared = false;
    for _ in 0..3 {
        let lent: i32 = first.query_typed_one(WHO, &[]).await?.get(0);
        second.batch_execute("begin").await?;
        let used: i32 = second.query_typed_one(WHO, &[]).await?.get(0);
        second.batch_execute("rollback").await?;
        shared |= lent == used;
    }
    match (shared, config.db_statements) {
        (true, Statements::Prepared) => report.fail(
            "pooler",
            "the way leads through a pooler in transaction mode, which loses prepared statements",
            [
                "set DB_STATEMENTS=unnamed",
                "or connect directly, or through the pooler's session mode",
            ],
        ),
        (true, Statements::Unnamed) => report.add(
            "pooler",
            Status::Ok,
            "in transaction mode, and statements go unnamed",
        ),
        (false, Statements::Prepared) => {
            report.add("pooler", Status::Ok, "none, or in session mode")
        }
        (false, Statements::Unnamed) => report.advise(
            "pooler",
            Status::Note,
            "none, or in session mode: statements need not go unnamed",
            ["DB_STATEMENTS=prepared saves PostgreSQL some work"],
        ),
    }
    Ok(())
}

/// What Supabase adds: storage for recordings, and the publication of its Realtime.
async fn look_at_supabase(
    client: &Client,
    owner: Option<&Client>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let row = client
        .query_typed_one(include_str!("../sql/doctor/supabase.sql"), &[])
        .await?;
    // Its rows are the owner's to see.
    let bucket = match owner {
        Some(owner) if row.get(0) => {
            let bucket = include_str!("../sql/doctor/bucket.sql");
            Some(owner.query_typed_opt(bucket, &[]).await?)
        }
        _ => None,
    };
    const OPEN: [&str; 1] = [
        "select private.open_recordings(); as a superuser, or by hand in the dashboard: docs/dashboard.md",
    ];
    match (row.get(0), row.get::<_, Option<&str>>(1), bucket) {
        (false, ..) => report.add(
            "storage",
            Status::Note,
            "no Supabase Storage here: recordings are elsewhere",
        ),
        (true, _, Some(Some(bucket))) if bucket.get(0) => report.fail(
            "storage",
            "the bucket recordings is public: everybody sees what is not approved",
            ["update storage.buckets set public = false where id = 'recordings';"],
        ),
        (true, _, Some(None)) => report.advise(
            "storage",
            Status::Warning,
            "Supabase Storage is here, without the bucket recordings",
            OPEN,
        ),
        (true, Some(rules), _) => report.advise(
            "storage",
            Status::Warning,
            format!("Supabase Storage is here, and no policy on storage.objects asks {rules}"),
            OPEN,
        ),
        (true, None, _) => report.add(
            "storage",
            Status::Ok,
            "Supabase Storage is here, with the policies of recordings",
        ),
    }
    match (row.get(2), row.get::<_, Option<&str>>(3)) {
        (true, Some(tables)) => report.add("realtime", Status::Ok, format!("publishes {tables}")),
        (true, None) => report.add(
            "realtime",
            Status::Note,
            "supabase_realtime publishes nothing of ours",
        ),
        (false, _) => report.add("realtime", Status::Note, "no Supabase Realtime here"),
    }
    Ok(())
}

/// What is kept about boards against what is computed from scratch.
async fn look_at_boards(owner: Option<&Client>, report: &mut Report) -> anyhow::Result<()> {
    let Some(owner) = owner else {
        report.add(
            "boards",
            Status::Note,
            "not looked at: give the owner's URL as MIGRATION_DATABASE_URL",
        );
        return Ok(());
    };
    let known = owner
        .query_typed_one(
            "select to_regprocedure('private.check_boards()') is not null",
            &[],
        )
        .await?;
    if !known.get::<_, bool>(0) {
        return Ok(());
    }
    let wrong: i64 = owner
        .query_typed_one("select count(*) from private.check_boards()", &[])
        .await?
        .get(0);
    if wrong == 0 {
        report.add("boards", Status::Ok, "as computed from scratch");
    } else {
        report.fail("boards", format!("{wrong} entries differ from what is computed from scratch"), [
            "select * from private.check_boards(); shows them, select private.rebuild_boards(); mends them",
        ]);
    }
    Ok(())
}

async fn look_at_postgrest(config: &Config, is_private: bool, report: &mut Report) {
    if config.jwt_secret.is_none() && config.jwt_keys.is_none() {
        let remedy = "set JWT_SECRET: on Supabase the project's JWT secret, else `openssl rand -base64 32` makes one";
        return report.fail("keys", "neither JWT_SECRET nor JWT_KEYS is set", [remedy]);
    }
    let prepared = || {
        let upstream = postgrest::upstream(config)?;
        anyhow::Ok((Auth::new(config, None)?, upstream, Delegate::new(config)?))
    };
    let (auth, url, delegate) = match prepared() {
        Ok((auth, Some(url), delegate)) => (auth, url, delegate),
        Ok((_, None, _)) => {
            let remedy = if is_private {
                "put `postgrest` or `postrust` on PATH, or set POSTGREST_URL"
            } else {
                "set POSTGREST_URL or SUPABASE_URL"
            };
            let found = "none: /rest/v1 answers 501";
            return report.advise("postgrest", Status::Note, found, [remedy]);
        }
        Err(error) => {
            let remedy = "correct it: `speedcoding --help` explains each setting";
            return report.fail("settings", format!("{error:#}"), [remedy]);
        }
    };
    const QUESTION: &str = "/users?select=id&limit=10";
    let asked = async {
        // Nobody's sign-in: taken for a token it reads what everybody may, and the pre-request refuses it.
        let token = auth
            .access
            .issue(Uuid::nil(), "runner", Uuid::nil(), None)?;
        let visitor = delegate.ask(QUESTION, None).await?;
        if let Some(date) = visitor.date {
            let skew = (OffsetDateTime::now_utc() - date).unsigned_abs();
            judge_skew("postgrest clock", "PostgREST's", skew, report);
        }
        // What goes wrong for visitors does for all, and says nothing of keys.
        if judge_visitor(config, &url, &visitor, report) {
            compare_databases(config, &url, &visitor, report).await;
            let signed_in = delegate.ask(QUESTION, Some(&token)).await?;
            judge_token(config, &signed_in, report);
        }
        Ok(())
    };
    let asked: Result<(), Problem> = asked.await;
    if let Err(problem) = asked {
        let cause = std::error::Error::source(&problem).map(db::describe);
        let cause = cause.unwrap_or_else(|| problem.to_string());
        let remedy = if is_private {
            "start it, or correct POSTGREST_URL; of one that the service starts, postgrest.log in DATA_DIR says why \
             it ended"
        } else {
            "start it, or correct POSTGREST_URL or SUPABASE_URL"
        };
        let found = format!("{url} does not answer: {cause}");
        report.fail("postgrest", found, [remedy]);
    }
}

const HIDDEN: &str = "hides what the database says";
const VERBATIM: &str = "start postrust with PGRST_DB_ERRORS_VERBATIM=true; its own log says more";

/// postrust's own codes for errors of the database; PostgREST passes those on as they are.
fn is_hiding(code: &str) -> bool {
    matches!(code, "PGRST500" | "PGRST503" | "PGRST504" | "PGRST505")
}

/// What somebody without a token was told; whether that was an answer.
fn judge_visitor(config: &Config, url: &Url, answer: &Answered, report: &mut Report) -> bool {
    let (found, remedy) = match (answer.status, answer.code()) {
        (200, _) => {
            report.add("postgrest", Status::Ok, format!("{url} answers visitors"));
            return true;
        }
        (_, code) if is_hiding(code) => (HIDDEN, VERBATIM),
        (_, "42501") => (
            "may not read public.users for visitors",
            "see `privileges` above; its role for visitors must be anon (PGRST_DB_ANON_ROLE)",
        ),
        (401 | 403, _) => (
            "refuses visitors",
            "SUPABASE_ANON_KEY must be this project's publishable (anon) key",
        ),
        (_, "PGRST205" | "42P01") => (
            "does not know public.users",
            "notify pgrst, 'reload schema'; as the owner. It must serve this database, with public among its \
             schemas (PGRST_DB_SCHEMAS)",
        ),
        (404, _) if config.postgrest_url.is_none() => (
            "is not PostgREST",
            "SUPABASE_URL must name the project, such as https://abcdefghijklmnopqrst.supabase.co",
        ),
        (404, _) => (
            "is not PostgREST",
            "POSTGREST_URL must name its root, such as http://127.0.0.1:3000; postrust's is beneath /api",
        ),
        _ => ("does not serve", "its own log says why"),
    };
    report.fail("postgrest", format!("{url} {found}: {answer}"), [remedy]);
    false
}

/// Whether whom PostgREST knows is known in our database, too; where it names nobody, that tells nothing.
async fn compare_databases(config: &Config, url: &Url, answer: &Answered, report: &mut Report) {
    let known: Vec<&str> = answer
        .body
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|user| user["id"].as_str())
        .collect();
    let counted = async {
        let database = config.database_url.as_ref().context("no database")?;
        let (client, _) = PostgresUrl::parse(database)?.connect().await?;
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&known, Type::TEXT_ARRAY)];
        let own = client
            .query_typed_one(
                "select count(*) from public.users where id::text = any ($1)",
                &params,
            )
            .await?;
        anyhow::Ok(own.get::<_, i64>(0))
    };
    // Somebody may have gone meanwhile; all of them have not.
    if !known.is_empty() && matches!(counted.await, Ok(0)) {
        report.fail(
            "postgrest",
            format!(
                "{url} serves another database: it names users whom DATABASE_URL does not know"
            ),
            ["let both name one database: PostgREST's own connection is PGRST_DB_URI"],
        );
    }
}

/// What somebody was told whose token is ours, and whose sign-in has never been.
fn judge_token(config: &Config, answer: &Answered, report: &mut Report) {
    const ACCEPTED: &str = "PostgREST accepts our tokens";
    match (answer.status, answer.code()) {
        (401, "PT401") => {
            report.add("keys", Status::Ok, ACCEPTED);
            report.add(
                "pre-request",
                Status::Ok,
                "PostgREST asks whether a sign-in is alive",
            );
        }
        (200, _) => {
            report.add("keys", Status::Ok, ACCEPTED);
            let found =
                "at PostgREST's own address a token of an ended sign-in is good until it expires";
            let remedies = [
                "alter role authenticator set pgrst.db_pre_request = 'speedcoding.check_request';",
                "notify pgrst, 'reload config';",
                "where that is not permitted: PGRST_DB_PRE_REQUEST=speedcoding.check_request, among PostgREST's own settings",
            ];
            report.advise("pre-request", Status::Warning, found, remedies);
        }
        (_, "42501") => {
            let remedies = ["see `privileges` and `owners` above"];
            report.fail(
                "pre-request",
                format!("PostgREST may not ask: {answer}"),
                remedies,
            );
        }
        // It is the pre-request that says no here, or something else in the database: of keys that tells nothing.
        (_, code) if is_hiding(code) => {
            let found = format!("PostgREST {HIDDEN}, such as why a token is refused: {answer}");
            report.fail("errors", found, [VERBATIM]);
        }
        (401, _) => {
            let mut remedies = [
                "JWT_SECRET must be what PostgREST verifies with: on Supabase the project's JWT secret (Project \
                 Settings, JWT keys), with a PostgREST of your own its PGRST_JWT_SECRET",
                "with JWT_KEYS it verifies with their public set: docs/keys.md",
            ];
            if config.jwt_keys.is_some() {
                remedies.reverse();
            }
            report.fail(
                "keys",
                format!("PostgREST refuses our tokens: {answer}"),
                remedies,
            );
        }
        _ => {
            let remedies = ["PostgREST's own log says why"];
            report.fail(
                "keys",
                format!("PostgREST answers our tokens with {answer}"),
                remedies,
            );
        }
    }
}
