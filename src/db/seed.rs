//! A small season to look at: `supabase/seed.sql`, which the Supabase CLI runs too.

use secrecy::SecretString;

use super::{connect::PostgresUrl, describe};

const SEASON: &str = include_str!("../../supabase/seed.sql");

/// Adds what is missing of the season, as the owner that the URL names; returns how many users and runs it added.
pub async fn seed(owner_url: &SecretString) -> anyhow::Result<(i64, i64)> {
    let (client, connection) = PostgresUrl::parse(owner_url)?.connect().await?;
    let seeded = client.query_one(SEASON, &[]).await;
    drop(client);
    let _ = connection.await;
    let row = seeded
        .map_err(|error| anyhow::anyhow!("the season could not be added: {}", describe(&error)))?;
    Ok((row.try_get("users")?, row.try_get("runs")?))
}
