//! `speedcoding doctor`: checks a deployment from all sides, and says how to mend each point that fails.

pub mod catalog;
mod database;
mod postgrest;
mod report;

use secrecy::SecretString;
use tokio_postgres::Client;

use crate::{
    config::Config,
    db::{
        Db,
        connect::{ANOTHER, PostgresUrl, logs_in_as_service, place},
    },
    embedded::{Embedded, postgrest::PostgRest},
    error::describe,
};
use catalog::look_at_catalog;
use database::{
    Migrations, look_at_boards, look_at_migrations, look_at_pooler, look_at_roles, look_at_server,
    look_at_supabase,
};
use postgrest::look_at_postgrest;
use report::{Report, Status};

/// Checks everything that the settings name. Changes nothing.
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
            ["start it with `speedcoding`, or set DATABASE_URL to another database"],
        );
        return report;
    }
    if let Some(url) = config.database_url.clone()
        && !look_at_database(config, &url, &mut report).await
    {
        let found = "not checked until the migrations are applied";
        report.add("the rest", Status::Note, found);
        return report;
    }
    look_at_postgrest(config, is_private, &mut report).await;
    report
}

/// Without DATABASE_URL the database is the private PostgreSQL, with its secret and the PostgREST beside it.
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

/// Whether the migrations are applied, so that the rest can be checked.
async fn look_at_database(config: &Config, url: &SecretString, report: &mut Report) -> bool {
    const CORRECT: &str =
        "correct DATABASE_URL: the service's URL from `speedcoding db login`, or the owner's";
    let Some(service) = connect("DATABASE_URL", url, CORRECT, report).await else {
        return true;
    };
    let owner = match (config.migration_setting(), config.migration_url()) {
        // A text that is not a URL does not name the service's role either.
        (Some(setting), Some(url)) if !logs_in_as_service(url).unwrap_or(false) => {
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
        let error = describe(error.as_ref());
        report.fail(
            "database",
            format!("a query failed: {error}"),
            ["try again; if it fails again, report it with this text"],
        );
    }
    if !is_migrated {
        return false;
    }
    match Db::connect(url, config).await {
        Err(error) => {
            let remedies = ["mend the points above first", CORRECT];
            report.fail("service", format!("{error:#}"), remedies);
        }
        Ok(db) => {
            if let Err(problem) = db.ready().await {
                let remedies = [
                    "where its program files were upgraded, restart PostgreSQL",
                    "where it is read-only, let DATABASE_URL lead to the server that takes changes",
                ];
                report.fail("service", describe(&problem), remedies);
            }
        }
    }
    true
}

/// Connects with the URL of this setting, or says what to do about the setting.
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
            // An answer of the server itself begins with FATAL. The pooler of a paused project knows no tenant.
            let hint = if found.contains("password authentication failed") {
                "`speedcoding db login` gives the service a new password; in a URL, write special characters as %40"
            } else if found.contains("FATAL: ") && !found.contains("Tenant or user") {
                report.fail("database", found, [remedy]);
                return None;
            } else {
                "if the Supabase project is paused, restore it in the dashboard"
            };
            report.fail("database", found, [remedy, hint]);
            None
        }
    }
}
