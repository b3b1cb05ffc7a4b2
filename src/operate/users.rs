//! What an operator does with accounts: the first moderator has nobody to be appointed by.

use anyhow::{Context, ensure};
use clap::ValueEnum;
use postgres_from_row::FromRow;
use secrecy::SecretString;
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};

use crate::db::columns::TextColumn;
use crate::db::connect::{SERVICE_ROLE, logs_in_as_service, once};

const SET_ROLE: &str = include_str!("../../sql/owner/set_role.sql");

/// What a user may do; an admin may do all that the others may.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Runner,
    Moderator,
    Verifier,
    Admin,
}

/// A user who was given a role.
#[derive(FromRow)]
pub struct Appointed {
    /// As it was registered.
    pub username: String,
    /// The role until now.
    pub before: String,
    /// The role from now on.
    pub after: String,
}

/// Gives a user a role, as the owner that the URL names. A trigger keeps it in the audit log.
pub async fn set_role(
    owner_url: &SecretString,
    username: &str,
    role: Role,
) -> anyhow::Result<Appointed> {
    ensure!(
        !logs_in_as_service(owner_url)?,
        "{SERVICE_ROLE} cannot appoint anybody: give an owner's URL with MIGRATION_DATABASE_URL"
    );
    let appointed = once(owner_url, async |client| {
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&username, Type::TEXT), (&TextColumn(role), Type::TEXT)];
        let rows = client.query_typed(SET_ROLE, &params).await?;
        rows.first().map(Appointed::try_from_row).transpose()
    });
    appointed
        .await
        .context("the role could not be changed")?
        .with_context(|| format!("there is no user {username:?}"))
}
