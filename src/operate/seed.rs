//! The sample season: `supabase/seed.sql`, which the Supabase CLI runs too.

use anyhow::Context;
use secrecy::SecretString;

use crate::db::connect::once;

const SEASON: &str = include_str!("../../supabase/seed.sql");

/// Adds the missing rows of the season, as the owner that the URL names. Returns the numbers of users and runs it
/// added.
pub async fn seed(owner_url: &SecretString) -> anyhow::Result<(i64, i64)> {
    once(owner_url, async |client| {
        let row = client.query_one(SEASON, &[]).await?;
        Ok((row.try_get("users")?, row.try_get("runs")?))
    })
    .await
    .context("the season could not be added")
}
