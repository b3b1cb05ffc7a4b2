//! The service put together, and served.

use std::{net::TcpListener, time::Duration};

use poem::{
    Response, Route, Server,
    endpoint::{BoxEndpoint, make_sync},
    get,
    listener::TcpAcceptor,
};
use tracing::info;

use crate::{
    api,
    auth::Auth,
    config::{Config, TrustedProxies},
    db::Db,
    http::{connection::Attended, router},
    limits::Limits,
    postgrest::Delegate,
    state::State,
    sweep, telemetry,
};

/// The maximum number of requests at once on one HTTP/2 connection.
const STREAMS: u32 = 200;

/// The service, ready to listen.
pub struct App {
    endpoint: BoxEndpoint<'static>,
    db: Db,
    sweep_interval: Duration,
    shutdown_timeout: Duration,
    /// A connection on which nothing was sent for this time is closed. It is longer than any request may take.
    patience: Duration,
    most_connections: usize,
    proxies: TrustedProxies,
}

impl App {
    /// Puts the service together on a database that is migrated.
    pub fn build(config: &Config, auth: Auth, db: Db) -> anyhow::Result<Self> {
        let state = State {
            limits: Limits::new(config, &auth)?,
            auth,
            db: db.clone(),
            delegate: Delegate::new(config)?,
            config: config.clone(),
        };
        Ok(App {
            endpoint: router::route(state)?,
            db,
            sweep_interval: Duration::from_secs(config.sweep_interval),
            shutdown_timeout: Duration::from_secs(config.shutdown_timeout),
            patience: Duration::from_secs(config.request_timeout + 30),
            most_connections: config.max_connections.into(),
            proxies: config.trusted_proxies.clone(),
        })
    }

    /// Serves until `shutdown`, then lets running requests finish.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        let acceptor = Attended::new(
            TcpAcceptor::from_std(listener)?,
            self.patience,
            self.most_connections,
            self.proxies,
        );
        let serving = Server::new_with_acceptor(acceptor)
            // Without this there is no limit.
            .http2_max_concurrent_streams(STREAMS)
            .run_with_graceful_shutdown(self.endpoint, shutdown, Some(self.shutdown_timeout));
        tokio::select! {
            served = serving => Ok(served?),
            never = sweep::run(&self.db, self.sweep_interval) => match never {},
        }
    }
}

/// Shows metrics at `/metrics`, for as long as the process runs.
pub fn serve_metrics(
    listener: TcpListener,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>>> {
    let metrics = telemetry::collect_metrics()?;
    listener.set_nonblocking(true)?;
    info!("metrics are at http://{}/metrics", listener.local_addr()?);
    let acceptor = TcpAcceptor::from_std(listener)?;
    let show = make_sync(move |_| {
        Response::builder()
            .content_type("text/plain; version=0.0.4")
            .body(metrics.render())
    });
    Ok(Server::new_with_acceptor(acceptor).run(Route::new().at("/metrics", get(show))))
}

/// The OpenAPI document as YAML: `openapi/openapi.yaml`.
pub fn openapi() -> anyhow::Result<String> {
    api::contract()?.yaml()
}
