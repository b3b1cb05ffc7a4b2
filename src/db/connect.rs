//! Connection URLs as libpq reads them, TLS included: tokio-postgres knows neither `verify-ca` nor
//! `verify-full` nor `sslrootcert`.

use std::{future::poll_fn, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Config, config::Host, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use crate::error::describe;

/// The default time to connect. A server may be far away or waking up. `connect_timeout` in the URL sets another time.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// How often the kernel checks a silent connection (keepalive).
const KEPT_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// A connection ends if bytes that were sent stay unacknowledged for this time (tcp(7), `TCP_USER_TIMEOUT`).
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(15);

/// The message if two URLs lead to two databases.
pub const ANOTHER: &str =
    "this leads to another database than DATABASE_URL: both must name the database that is served";

/// The role that the service works as, whichever role the connection URL names.
pub const SERVICE_ROLE: &str = "speedcoding_api";

/// A database as a connection URL names it, and how to reach it.
pub struct PostgresUrl {
    pub postgres: Config,
    pub tls: MakeRustlsConnect,
    server: String,
}

/// The checks of the server's certificate (PostgreSQL's documentation, section 34.19.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// `prefer` and `require` without a root certificate: the connection is encrypted, and the server is not checked.
    Nothing,
    /// `verify-ca`: a trusted certificate authority has issued it.
    Issuer,
    /// `verify-full`: a trusted certificate authority has issued it for this very host.
    Host,
}

impl PostgresUrl {
    /// Reads a connection URL. Errors never repeat it, because it may hold a password.
    pub fn parse(url: &SecretString) -> anyhow::Result<Self> {
        let mut url = url.expose_secret().to_owned();
        // If a password has an `@` that is not escaped, the parser takes a part of the password for the host.
        let is_ambiguous = url.matches('@').nth(1).is_some();
        let mode = take_parameter(&mut url, "sslmode");
        let root = take_parameter(&mut url, "sslrootcert");
        let mut postgres: Config = url.parse().map_err(|error| {
            anyhow::anyhow!(
                "this is not a PostgreSQL connection URL ({}); one looks like \
                 postgresql://user:password@host:5432/database",
                describe(&error)
            )
        })?;
        use tokio_postgres::config::SslMode;
        let (ssl_mode, check) = match (mode.as_deref(), &root) {
            (Some("disable"), _) => (SslMode::Disable, Check::Nothing),
            (None | Some("allow" | "prefer"), _) => (SslMode::Prefer, Check::Nothing),
            (Some("require"), None) => (SslMode::Require, Check::Nothing),
            (Some("require" | "verify-ca"), _) => (SslMode::Require, Check::Issuer),
            (Some("verify-full"), _) => (SslMode::Require, Check::Host),
            (Some(other), _) => bail!(
                "sslmode={other} is none of disable, allow, prefer, require, verify-ca, verify-full"
            ),
        };
        postgres.ssl_mode(ssl_mode);
        // These are defaults for a URL that does not set them. Without them, the service would notice a broken network
        // path only after hours.
        if postgres.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            postgres
                .keepalives_idle(KEPT_ALIVE_EVERY)
                .keepalives_interval(KEPT_ALIVE_EVERY / 3)
                .keepalives_retries(3);
        }
        if postgres.get_tcp_user_timeout().is_none() {
            postgres.tcp_user_timeout(ACKNOWLEDGED_WITHIN);
        }
        let server = if is_ambiguous {
            String::new()
        } else {
            servers(&postgres)
        };
        Ok(PostgresUrl {
            postgres,
            server,
            tls: MakeRustlsConnect::new(tls(check, root.as_deref())?),
        })
    }

    /// The error if no server can be reached, with the addresses. It never repeats a password.
    pub fn unreachable(&self, why: &str) -> anyhow::Error {
        anyhow::anyhow!("cannot connect to PostgreSQL{}: {why}", self.server)
    }

    /// One connection, driven in the background until the client is dropped.
    pub async fn connect(
        &self,
    ) -> anyhow::Result<(Client, JoinHandle<Result<(), tokio_postgres::Error>>)> {
        let patience = self.postgres.get_connect_timeout().copied();
        let patience = patience.unwrap_or(CONNECT_PATIENCE);
        // `connect_timeout` itself covers only the TCP connection. The program that accepts the connection may not be
        // PostgreSQL and may never answer.
        let (client, mut connection) = timeout(patience, self.postgres.connect(self.tls.clone()))
            .await
            .map_err(|_| self.unreachable(&format!("no answer in {} s", patience.as_secs())))?
            .map_err(|error| self.unreachable(&describe(&error)))?;
        let driven = async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                // Such a notice can say, for instance, that a migration could not do a part of its work.
                if let AsyncMessage::Notice(notice) = message?
                    && notice.severity() == "WARNING"
                {
                    warn!(hint = notice.hint(), "{}", notice.message());
                }
            }
            Ok(())
        };
        Ok((client, tokio::spawn(driven)))
    }
}

/// Identifies the database and its server. The result is the same for every URL that leads to this database.
pub async fn place(client: &Client) -> Result<String, tokio_postgres::Error> {
    const PLACE: &str =
        "select format('%s %s', extract(epoch from pg_postmaster_start_time()), oid)
                           from pg_catalog.pg_database where datname = current_database()";
    Ok(client.query_typed_one(PLACE, &[]).await?.get(0))
}

/// Fails if two URLs lead to two databases. A URL that cannot be used yet, for instance because the first migration
/// makes its role, is ignored.
pub async fn refuse_another(url: &SecretString, owner_url: &SecretString) -> anyhow::Result<()> {
    let Ok((service, _)) = PostgresUrl::parse(url)?.connect().await else {
        return Ok(());
    };
    let (owner, _) = PostgresUrl::parse(owner_url)?.connect().await?;
    anyhow::ensure!(place(&service).await? == place(&owner).await?, ANOTHER);
    Ok(())
}

/// Works on one connection as the role that the URL names, and ends the connection in good order.
pub async fn once<T>(
    url: &SecretString,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
) -> anyhow::Result<T> {
    let (client, connection) = PostgresUrl::parse(url)?.connect().await?;
    let outcome = work(&client).await;
    drop(client);
    // An error at the end of the connection does not matter. The work is done, or its own error is returned.
    let _ = connection.await;
    outcome.map_err(|error| match error.code() {
        Some(&SqlState::UNDEFINED_TABLE) => {
            anyhow::anyhow!("there are no tables yet: run `speedcoding migrate` first")
        }
        _ => anyhow::anyhow!(describe(&error)),
    })
}

/// Whether a connection URL logs in as the service's role itself, which cannot migrate.
pub fn logs_in_as_service(url: &SecretString) -> anyhow::Result<bool> {
    Ok(is_service_role(&PostgresUrl::parse(url)?.postgres))
}

// Supavisor's user names carry the project behind a dot.
pub(super) fn is_service_role(postgres: &tokio_postgres::Config) -> bool {
    postgres.get_user().and_then(|user| user.split('.').next()) == Some(SERVICE_ROLE)
}

/// Lets a role log in with this password.
pub async fn set_password(
    owner_url: &SecretString,
    role: &str,
    password: &SecretString,
) -> anyhow::Result<()> {
    // The server gets only the verifier (RFC 5803), because it may log the statement.
    let verifier = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
    let alter = format!("alter role {role} login password '{verifier}'");
    once(owner_url, async |client| client.batch_execute(&alter).await)
        .await
        .with_context(|| format!("the role {role} could not be altered"))
}

impl PostgresUrl {
    /// Fails if an owner's URL leads through a pooler that drops the options which switch to the service's role. This
    /// is checked before anything is changed.
    pub async fn check_options(url: &SecretString) -> anyhow::Result<()> {
        let mut url = PostgresUrl::parse(url)?;
        url.postgres.options("-c speedcoding.options=kept");
        let (client, _) = url.connect().await?;
        let kept: Option<String> = client
            .query_typed_one("select current_setting('speedcoding.options', true)", &[])
            .await?
            .get(0);
        anyhow::ensure!(
            kept.as_deref() == Some("kept"),
            "this owner's URL leads through a pooler, which drops the option that gives the service its own \
             role {}: run `speedcoding db login` with the owner's direct URL, and give the service the URL \
             that it prints",
            SERVICE_ROLE
        );
        Ok(())
    }
}

/// The addresses of the servers, each with its port, or nothing if the URL names none.
fn servers(postgres: &Config) -> String {
    let ports = postgres.get_ports();
    let servers = postgres
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(number, host)| {
            // One port may stand for all hosts.
            let port = ports.get(number).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(directory) => format!("{}:{port}", directory.display()),
            }
        });
    let servers: Vec<_> = servers.collect();
    if servers.is_empty() {
        String::new()
    } else {
        format!(" at {}", servers.join(", "))
    }
}

/// Removes a parameter from a URL's query, and returns its value.
fn take_parameter(url: &mut String, name: &str) -> Option<String> {
    let (before, query) = url.split_once('?')?;
    let (taken, kept): (Vec<_>, Vec<_>) = query
        .split('&')
        .partition(|pair| pair.split('=').next() == Some(name));
    let value = taken
        .last()
        .and_then(|pair| url::form_urlencoded::parse(pair.as_bytes()).next());
    let value = value.map(|(_, value)| value.into_owned());
    *url = if kept.is_empty() {
        before.to_owned()
    } else {
        format!("{before}?{}", kept.join("&"))
    };
    value
}

fn tls(check: Check, root: Option<&str>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let issuer = match check {
        Check::Nothing => None,
        Check::Issuer | Check::Host => Some(
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(root)?), provider.clone())
                .build()?,
        ),
    };
    let verifier = Arc::new(Verifier {
        check,
        issuer,
        provider,
    });
    Ok(config
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// For HTTPS: trusts the certificate authorities of this machine, or no authority if HTTPS is not needed.
pub fn https(needed: bool) -> anyhow::Result<ClientConfig> {
    if needed {
        return tls(Check::Host, None);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// The certificate authorities of `sslrootcert`. Without it, or with `system`, those of this machine.
fn roots(root: Option<&str>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match root {
        None | Some("system") => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // Machines have odd certificates. Those that can be read are enough.
                let _ = roots.add(certificate);
            }
            anyhow::ensure!(
                !roots.is_empty(),
                "this machine has no certificate authorities (`apt-get install ca-certificates`); \
                 name a file with sslrootcert=…"
            );
        }
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(Path::new(path))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| anyhow::anyhow!("sslrootcert: {path} cannot be read: {error}"))?;
            anyhow::ensure!(
                !certificates.is_empty(),
                "sslrootcert: {path} contains no certificate in PEM form"
            );
            for certificate in certificates {
                roots
                    .add(certificate)
                    .with_context(|| format!("sslrootcert: {path}"))?;
            }
        }
    }
    Ok(roots)
}

/// Checks a server's certificate as far as the sslmode asks. Signatures are always checked.
#[derive(Debug)]
struct Verifier {
    check: Check,
    issuer: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(issuer) = &self.issuer else {
            return Ok(ServerCertVerified::assertion());
        };
        match issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Issuer => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
