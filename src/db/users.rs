//! What an operator does with accounts: the first moderator has nobody to be appointed by.

use clap::ValueEnum;
use secrecy::SecretString;
use tokio_postgres::types::Type;

use super::{connect::PostgresUrl, describe};

/// What a user may do; an admin may do all that the others may.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    Runner,
    Moderator,
    Verifier,
    Admin,
}

/// Gives a user a role, as the owner that the URL names; returns the user's name and the role before. A trigger
/// keeps it in the audit log.
pub async fn set_role(
    owner_url: &SecretString,
    username: &str,
    role: Role,
) -> anyhow::Result<(String, String)> {
    let role = role.to_possible_value();
    let role = role.as_ref().map(|role| role.get_name());
    let (client, connection) = PostgresUrl::parse(owner_url)?.connect().await?;
    let changed = client
        .query_typed(
            "with account as (
               select id, role from public.users where lower(username) = lower($1 collate \"C\") for update
             )
             update public.users as u
                set role = $2::public.user_role
               from account
              where u.id = account.id
             returning u.username, account.role::text",
            &[(&username, Type::TEXT), (&role, Type::TEXT)],
        )
        .await;
    drop(client);
    let _ = connection.await;
    let rows = changed
        .map_err(|error| anyhow::anyhow!("the role could not be changed: {}", describe(&error)))?;
    let row = rows
        .first()
        .ok_or_else(|| anyhow::anyhow!("there is no user {username:?}"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
