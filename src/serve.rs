//! `speedcoding serve`: starts the service, with its database if that is private, and stops it.

use std::net::TcpListener;

use anyhow::{Context, anyhow, bail};
use secrecy::SecretString;

use crate::{
    api::BASE,
    app::{App, Listeners},
    auth::Auth,
    config::Config,
    db::{
        Db,
        connect::{PostgresUrl, logs_in_as_service},
        migrate::migrate,
    },
    embedded::{Embedded, postgrest::PostgRest, start_unless_stopped},
    operate::{
        owner::{blame, refuse_another},
        tell,
    },
    postgrest::{self, Delegate},
    signals::stop_signals,
    telemetry::Metrics,
};

/// Serves as the settings say, until it is stopped.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    // This comes before anything is started, so that a signal stops everything that was started.
    let (mut first, second) = (stop_signals()?, stop_signals()?);
    // Wrong settings are reported first.
    Delegate::new(config)?;
    let url = config.database_to_serve()?;
    // With the private PostgreSQL a secret is generated later, of this length.
    let generated = "-".repeat(32).into();
    Auth::new(config, url.is_none().then_some(&generated))?;
    // A taken port is reported next, before anything is started.
    let metrics = match config.metrics_bind {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).map_err(|error| {
                anyhow!(
                    "cannot listen on {address}: {error}; choose another address with METRICS_BIND"
                )
            })?;
            let metrics = Metrics::collect()?;
            tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
            Some((listener, metrics))
        }
    };
    let api = TcpListener::bind(config.bind).map_err(|error| {
        anyhow!(
            "cannot listen on {}: {error}; choose another address with BIND, such as BIND=127.0.0.1:8081",
            config.bind
        )
    })?;
    let listeners = Listeners { api, metrics };
    let Some(url) = url else {
        return serve_embedded(config, listeners, first, second).await;
    };
    let app = tokio::select! {
        app = prepare(config, url) => app?,
        () = first() => return Ok(()),
    };
    announce(
        &listeners.api,
        "as DATABASE_URL says",
        whose_postgrest(config),
    )?;
    serve_until_stopped(app, listeners, config, first, second).await
}

/// The service on an external database, which is migrated if an owner's URL is given.
async fn prepare(config: &Config, url: &SecretString) -> anyhow::Result<App> {
    let auth = Auth::new(config, None)?;
    if !logs_in_as_service(url).context("DATABASE_URL")? {
        PostgresUrl::check_options(url)
            .await
            .context("DATABASE_URL")?;
    }
    if let Some(owner) = config.migration_url()
        && !blame(config, logs_in_as_service(owner))?
    {
        refuse_another(config).await?;
        blame(config, migrate(owner).await)?;
    }
    let db = Db::connect(url, config).await.context("DATABASE_URL")?;
    App::build(config, auth, db)
}

/// Serves until Ctrl-C or SIGTERM. Then requests have their time to finish, unless another signal comes.
async fn serve_until_stopped(
    app: App,
    listeners: Listeners,
    config: &Config,
    mut first: impl AsyncFnMut(),
    mut second: impl AsyncFnMut(),
) -> anyhow::Result<()> {
    let stopped = async {
        first().await;
        tracing::info!(
            "stopping: requests under way have {} s to finish; a second Ctrl-C ends them at once",
            config.shutdown_timeout
        );
    };
    let stopped_twice = async {
        second().await;
        second().await;
    };
    tokio::select! {
        served = app.serve(listeners, stopped) => served,
        () = stopped_twice => Ok(()),
    }
}

async fn serve_embedded(
    config: &Config,
    listeners: Listeners,
    mut first: impl AsyncFnMut(),
    second: impl AsyncFnMut(),
) -> anyhow::Result<()> {
    let Some(embedded) = start_unless_stopped(config, &mut first).await? else {
        return Ok(());
    };
    let mut config = config.clone();
    let mut beside = None;
    let served = async {
        let app = tokio::select! {
            app = prepare_embedded(&mut config, &embedded, &mut beside) => app?,
            () = first() => return Ok(()),
        };
        announce(
            &listeners.api,
            &format!("private, in {}", config.data_dir.display()),
            &match &beside {
                Some(started) => started.program.display().to_string(),
                None => whose_postgrest(&config).to_owned(),
            },
        )?;
        tokio::select! {
            served = serve_until_stopped(app, listeners, &config, first, second) => served,
            () = embedded.ended() => bail!(
                "PostgreSQL has ended by itself; {}/postgres.log says why. Start `speedcoding` again: PostgreSQL recovers by itself",
                config.data_dir.display()
            ),
        }
    };
    let outcome = served.await;
    if let Some(postgrest) = beside {
        postgrest.stop().await;
    }
    embedded.stop().await;
    outcome
}

/// The service on the private PostgreSQL. If no PostgREST is set and one is installed, it is started too.
async fn prepare_embedded(
    config: &mut Config,
    embedded: &Embedded,
    beside: &mut Option<PostgRest>,
) -> anyhow::Result<App> {
    migrate(embedded.url()).await?;
    let auth = Auth::new(config, Some(embedded.jwt_secret()))?;
    if postgrest::upstream(config)?.is_none() {
        let secret = auth.access.postgrest_secret();
        let started = PostgRest::start(&config.data_dir, embedded, secret).await;
        *beside = started.unwrap_or_else(|error| {
            tracing::warn!("PostgREST is not started: {error:#}");
            None
        });
        config.postgrest_url = beside.as_ref().map(|started| started.url.clone());
    }
    let db = Db::connect(embedded.socket_url(), config).await?;
    App::build(config, auth, db)
}

/// Which PostgREST the settings name.
fn whose_postgrest(config: &Config) -> &'static str {
    match (&config.postgrest_url, &config.supabase_url) {
        (Some(_), _) => "as POSTGREST_URL says",
        (None, Some(_)) => "as SUPABASE_URL says",
        (None, None) => "none (/rest/v1 answers 501 and says how to get one)",
    }
}

fn announce(listener: &TcpListener, database: &str, postgrest: &str) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tell(format!(
        "SpeedCoding {}\n  API         http://{address}{}\n  Swagger UI  http://{address}/docs\n  \
         PostgreSQL  {database}\n  PostgREST   {postgrest}\nCtrl-C stops it.",
        env!("CARGO_PKG_VERSION"),
        BASE,
    ))
}
