//! Work on a database as its owner: finding the database, and naming the setting of an error.

use anyhow::{Context, anyhow};
use secrecy::SecretString;

use crate::{
    config::Config,
    db::connect,
    embedded::{Embedded, start_unless_stopped},
    signals::stop_signals,
};

/// The owner's URL: the one that is set, or that of the running private PostgreSQL.
pub fn owner_url(config: &Config) -> anyhow::Result<SecretString> {
    match config.migration_url() {
        Some(url) => Ok(url.clone()),
        None => Ok(Embedded::running_url(&config.data_dir)?),
    }
}

/// Fails if the owner's URL leads to another database than the one that is served.
pub async fn refuse_another(config: &Config) -> anyhow::Result<()> {
    match (&config.database_url, &config.migration_database_url) {
        (Some(url), Some(owner)) => blame(config, connect::refuse_another(url, owner).await),
        _ => Ok(()),
    }
}

/// Adds the name of the setting to an error, if the owner's URL comes from a setting.
pub fn blame<T>(config: &Config, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    match config.migration_setting() {
        Some(setting) => outcome.context(setting),
        None => outcome,
    }
}

/// Works on the database as its owner. The private PostgreSQL is started for it if it does not run.
pub async fn as_owner<T>(
    config: &Config,
    work: impl AsyncFnOnce(&SecretString) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Ok(url) = owner_url(config) {
        refuse_another(config).await?;
        return blame(config, work(&url).await);
    }
    let mut stop = stop_signals()?;
    let interrupted = || anyhow!("stopped by a signal");
    let embedded = start_unless_stopped(config, &mut stop).await?;
    let embedded = embedded.ok_or_else(interrupted)?;
    let outcome = tokio::select! {
        outcome = work(embedded.url()) => outcome,
        () = stop() => Err(interrupted()),
    };
    embedded.stop().await;
    outcome
}
