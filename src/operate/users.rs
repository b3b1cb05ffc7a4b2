//! Changes to accounts by an operator, who appoints the first moderator.

use anyhow::{Context, ensure};
use clap::ValueEnum;
use postgres_from_row::FromRow;
use secrecy::SecretString;
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};

use crate::db::columns::TextColumn;
use crate::db::connect::{SERVICE_ROLE, logs_in_as_service, once};

const SET_ROLE: &str = include_str!("../../sql/owner/set_role.sql");

/// The roles of users. An admin may do everything that the others may.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Runner,
    Moderator,
    Verifier,
    Admin,
}

/// A user who got a role.
#[derive(FromRow)]
pub struct Appointed {
    /// The name as it was registered.
    pub username: String,
    /// The role before.
    pub before: String,
    /// The role now.
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
        "{SERVICE_ROLE} cannot appoint anybody: set MIGRATION_DATABASE_URL to the owner's URL"
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
