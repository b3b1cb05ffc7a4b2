//! Passwords for roles that log in: so that the service need not know an owner's URL, nor PostgREST the service's.

use anyhow::Context;
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{SERVICE_ROLE, connect::once, logs_in_as_service};

/// Gives the service's role a new random password, and returns the URL that it logs in with.
pub async fn give_password(owner_url: &SecretString) -> anyhow::Result<SecretString> {
    anyhow::ensure!(
        !logs_in_as_service(owner_url)?,
        "{SERVICE_ROLE} cannot give itself a password: give the owner's URL"
    );
    let mut bytes = [0; 24];
    rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let password = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
    let mut url = Url::parse(owner_url.expose_secret()).map_err(|_| {
        anyhow::anyhow!(
            "the owner's URL must be of the form postgresql://user:password@host:5432/database"
        )
    })?;
    set_password(owner_url, SERVICE_ROLE, &password).await?;
    // Supavisor learns the project from what follows the first dot.
    let user = match url.username().split_once('.') {
        Some((_, project)) => format!("{SERVICE_ROLE}.{project}"),
        None => SERVICE_ROLE.to_owned(),
    };
    url.set_username(&user)
        .and_then(|()| url.set_password(Some(password.expose_secret())))
        .map_err(|()| anyhow::anyhow!("the owner's URL names no host"))?;
    Ok(url.to_string().into())
}

/// Lets a role log in with this password.
pub async fn set_password(
    owner_url: &SecretString,
    role: &str,
    password: &SecretString,
) -> anyhow::Result<()> {
    // The server gets the verifier only (RFC 5803): a statement may be logged.
    let verifier = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
    let alter = format!("alter role {role} login password '{verifier}'");
    once(owner_url, async |client| client.batch_execute(&alter).await)
        .await
        .with_context(|| format!("the role {role} could not be altered"))
}
