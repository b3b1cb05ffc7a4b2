//! `speedcoding db login`: gives the service a login of its own, so that it need not know an owner's URL.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    db::connect::{SERVICE_ROLE, logs_in_as_service, set_password},
    random::random_bytes,
};

/// Gives the service's role a new random password, and returns the URL that it logs in with.
pub async fn give_password(owner_url: &SecretString) -> anyhow::Result<SecretString> {
    anyhow::ensure!(
        !logs_in_as_service(owner_url)?,
        "{SERVICE_ROLE} cannot give itself a password: set MIGRATION_DATABASE_URL to the owner's URL"
    );
    let password = SecretString::from(URL_SAFE_NO_PAD.encode(random_bytes::<24>()?));
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
