//! The embedded default: a private PostgreSQL that is found or fetched, initialised, started, watched and stopped with
//! the service.
//!
//! All files are in one data directory: `postgres/` (the cluster), `embedded.env` (the secrets), `postgres.log` and
//! `postgrest.log` (of 10 MiB at most, each with its predecessor), `run/` (the socket), `binaries/` (a PostgreSQL that
//! was fetched) and `lock` (the process that uses it).

mod account;
mod binaries;
mod cluster;
mod data_dir;
#[cfg(feature = "download")]
mod download;
mod env_file;
mod log;
pub mod postgrest;
mod programs;

use std::{
    io,
    path::Path,
    pin::pin,
    process::Child,
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_postgres::{NoTls, error::SqlState};
use tracing::{info, warn};

use crate::{
    config::{Binaries, Config},
    error::describe,
};
use cluster::{Cluster, REMAINS_WITHIN, STOPPED_WITHIN};
use data_dir::DataDir;
use env_file::{EnvFile, connection_url};
use programs::{Programs, Server, State, Wish};

/// A running private PostgreSQL. Dropping it asks the server to stop; [`Embedded::stop`] also waits for that.
#[derive(Debug)]
pub struct Embedded {
    url: SecretString,
    socket_url: SecretString,
    jwt_secret: SecretString,
    server: Arc<Server>,
    ended: watch::Receiver<bool>,
}

impl Embedded {
    /// Starts the private PostgreSQL of `data_dir` with the programs of this machine, or with fetched ones.
    ///
    /// `settings` are extra server settings (`fsync`, `off`) that win over every other source.
    pub async fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_from(&Binaries::default(), data_dir, settings).await
    }

    /// Starts the private PostgreSQL of `data_dir`, initialising it where needed; returns when its database
    /// accepts connections.
    pub async fn start_from(
        binaries: &Binaries,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let (tell, told) = oneshot::channel();
        let (dir, binaries) = (data_dir.to_owned(), binaries.clone());
        let settings = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        // One thread starts the server and waits for it until the end: the kernel sends a parent-death signal when the
        // *thread* that spawned the child ends, so no pool thread may do it.
        thread::Builder::new()
            .name("embedded-postgres".to_owned())
            .spawn(move || {
                let started = Cluster::prepare(&dir, &binaries, settings);
                keep(started, tell);
            })?;
        let embedded = told
            .await
            .context("the thread that starts PostgreSQL ended early; the lines above say why")??;
        match create_database(&embedded.url).await {
            Ok(libraries) => {
                let programs = Programs::new(&embedded.server.bin, &libraries);
                tokio::spawn(programs.watch(embedded.server.clone(), embedded.ended.clone()));
                Ok(embedded)
            }
            Err(error) => {
                embedded.stop().await;
                bail!(
                    "the owner cannot log in to PostgreSQL in {} ({}); if the owner's password was changed, write the new one \
                     to POSTGRES_PASSWORD in embedded.env there, or delete that line",
                    data_dir.display(),
                    describe(&error)
                );
            }
        }
    }

    /// The owner's connection URL of the database `speedcoding`.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// The owner's connection URL by the server's socket, which costs less than loopback. If the directory's path is
    /// too long for a socket, the URL is by loopback.
    #[must_use]
    pub fn socket_url(&self) -> &SecretString {
        &self.socket_url
    }

    /// The secret that signs access tokens: generated at the first start, kept in `embedded.env`.
    #[must_use]
    pub fn jwt_secret(&self) -> &SecretString {
        &self.jwt_secret
    }

    /// Resolves when PostgreSQL ends without having been asked to.
    pub async fn ended(&self) {
        // An error means that the watching thread has ended, and the server with it.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Ends all connections, stops PostgreSQL and waits until it is gone.
    pub async fn stop(self) {
        for (signal, patience) in [
            (Signal::SIGINT, STOPPED_WITHIN),
            (Signal::SIGQUIT, REMAINS_WITHIN),
        ] {
            self.server.stop(signal);
            if timeout(patience, self.ended()).await.is_ok() {
                return;
            }
            warn!(
                "PostgreSQL has not stopped {} s after {signal}",
                patience.as_secs()
            );
        }
    }

    /// Whether a private PostgreSQL has ever been started on `data_dir`.
    #[must_use]
    pub fn is_in(data_dir: &Path) -> bool {
        DataDir::open(data_dir).is_ok_and(|files| files.cluster().exists())
    }

    /// The connection URL of the private PostgreSQL that runs now on `data_dir`, for commands in another process.
    pub fn running_url(data_dir: &Path) -> Result<SecretString> {
        Ok(Self::running(data_dir)?.0)
    }

    /// The connection URL as in `running_url`, and the secret that signs access tokens there.
    pub fn running(data_dir: &Path) -> Result<(SecretString, Option<SecretString>)> {
        let not_running = || {
            format!(
                "no private PostgreSQL serves {}; start `speedcoding` with this DATA_DIR first",
                data_dir.display()
            )
        };
        let files = match DataDir::open(data_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(not_running()),
            files => files?,
        };
        let env = EnvFile::load(&files.env_file())?;
        let password = env.get("POSTGRES_PASSWORD");
        let ready = files.living_postmaster()?.filter(|it| it.status == "ready");
        let (password, postmaster) = password.zip(ready).with_context(not_running)?;
        let url = connection_url(&password, None, postmaster.port);
        Ok((url, env.get("JWT_SECRET")))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.server.stop(Signal::SIGINT);
    }
}

/// Starts the private PostgreSQL. If a signal asks to stop meanwhile, this still finishes the start, stops the server
/// and returns nothing. So nothing of the start is left behind.
pub async fn start_unless_stopped(
    config: &Config,
    stop: &mut impl AsyncFnMut(),
) -> anyhow::Result<Option<Embedded>> {
    let mut starting = pin!(Embedded::start_from(
        &config.binaries,
        &config.data_dir,
        &[]
    ));
    tokio::select! {
        started = &mut starting => return started.map(Some),
        () = stop() => {}
    }
    tracing::info!("stopping as soon as PostgreSQL has started; a second Ctrl-C ends it at once");
    tokio::select! {
        // A failure need not be reported now: Ctrl-C in a terminal also reaches initdb.
        started = starting => if let Ok(embedded) = started {
            embedded.stop().await;
        },
        () = stop() => {}
    }
    Ok(None)
}

/// Runs in the embedded server's thread. It starts the server, reports that, and waits for the server's end. If the
/// server is to be restarted, it starts the server again.
fn keep(prepared: Result<Cluster>, tell: oneshot::Sender<Result<Embedded>>) {
    let started = prepared.and_then(|mut cluster| Ok((cluster.launch()?, cluster)));
    let (mut child, mut cluster) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let (say_ended, ended) = watch::channel(false);
    let server = Arc::new(Server {
        bin: cluster.bin.clone(),
        state: Mutex::new(State {
            pid: Some(cluster::pid_of(&child)),
            wish: Wish::Serve,
        }),
    });
    let embedded = Embedded {
        url: connection_url(&cluster.password, None, cluster.port),
        socket_url: connection_url(
            &cluster.password,
            cluster.socket_dir().as_deref(),
            cluster.port,
        ),
        jwt_secret: cluster.jwt_secret.clone(),
        server: server.clone(),
        ended,
    };
    // If the receiver has gone, `send` returns the value. Dropping the value stops the server.
    drop(tell.send(Ok(embedded)));
    loop {
        match child.wait() {
            Ok(status) => info!("PostgreSQL has ended ({status})"),
            Err(error) => warn!("cannot wait for the end of PostgreSQL: {error}"),
        }
        if !server.is_to_restart() {
            break;
        }
        match relaunch(&mut cluster) {
            Ok(again) => child = again,
            Err(error) => {
                warn!("PostgreSQL cannot be started again: {error:#}");
                break;
            }
        }
        server.has_started(cluster::pid_of(&child));
    }
    // The lock is released first, so that a new start can follow the end at once.
    drop(cluster);
    say_ended.send_replace(true);
}

/// Starts the server again on the same port, because its clients know that port.
fn relaunch(cluster: &mut Cluster) -> Result<Child> {
    let port = cluster.port;
    let mut child = cluster.launch()?;
    if cluster.port != port {
        account::send(Signal::SIGINT, cluster::pid_of(&child));
        child.wait()?;
        bail!("its port {port} has been taken");
    }
    Ok(child)
}

/// Creates the database at the first start, and again if the owner has dropped it to begin anew. Returns the directory
/// of the server's libraries.
async fn create_database(url: &SecretString) -> Result<String, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.expose_secret().parse()?;
    let (client, is_there) = match config.connect(NoTls).await {
        Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {
            let (client, connection) = config.dbname("postgres").connect(NoTls).await?;
            tokio::spawn(connection);
            (client, false)
        }
        outcome => {
            let (client, connection) = outcome?;
            tokio::spawn(connection);
            (client, true)
        }
    };
    if !is_there {
        client.batch_execute("create database speedcoding").await?;
    }
    let libraries = "select setting from pg_catalog.pg_config where name = 'PKGLIBDIR'";
    Ok(client.query_typed_one(libraries, &[]).await?.get(0))
}
