//! The service put together, and served.

use std::{future::pending, net::TcpListener, sync::Arc, time::Duration};

use poem::{
    Response, Route, Server,
    endpoint::{BoxEndpoint, make},
    get,
    listener::TcpAcceptor,
};

use crate::{
    api,
    auth::Auth,
    config::{Config, TrustedProxies},
    db::Db,
    http::{connection::Attended, router},
    limits::{Limits, shares::Shares},
    postgrest::Delegate,
    state::State,
    sweep,
    telemetry::Metrics,
};

/// The maximum number of requests at once on one HTTP/2 connection.
const STREAMS: u32 = 200;

/// The service, ready to listen.
pub struct App {
    endpoint: BoxEndpoint<'static>,
    state: Arc<State>,
    sweep_interval: Duration,
    shutdown_timeout: Duration,
    /// A connection on which nothing was sent for this time is closed. It is longer than any request may take.
    patience: Duration,
    connections: Arc<Shares>,
    proxies: TrustedProxies,
}

/// The sockets on which the service listens.
pub struct Listeners {
    pub api: TcpListener,
    /// For Prometheus.
    pub metrics: Option<(TcpListener, Metrics)>,
}

impl App {
    /// Puts the service together on a database that is migrated.
    pub fn build(config: &Config, auth: Auth, db: Db) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            limits: Limits::new(config, &auth)?,
            auth,
            db,
            delegate: Delegate::new(config)?,
            config: config.clone(),
        });
        Ok(App {
            endpoint: router::route(state.clone())?,
            state,
            sweep_interval: Duration::from_secs(config.sweep_interval),
            shutdown_timeout: Duration::from_secs(config.shutdown_timeout),
            patience: Duration::from_secs(config.request_timeout + 30),
            connections: Shares::of_connections(config.max_connections.into()),
            proxies: config.trusted_proxies.clone(),
        })
    }

    /// Serves until `shutdown`, then lets running requests finish.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Listeners { api, metrics } = listeners;
        api.set_nonblocking(true)?;
        let acceptor = Attended::new(
            TcpAcceptor::from_std(api)?,
            self.patience,
            self.connections.clone(),
            self.proxies,
        );
        let serving = Server::new_with_acceptor(acceptor)
            // Without this setting a connection may have any number of requests at once.
            .http2_max_concurrent_streams(STREAMS)
            .run_with_graceful_shutdown(self.endpoint, shutdown, Some(self.shutdown_timeout));
        tokio::select! {
            served = serving => Ok(served?),
            shown = show_metrics(metrics, &self.state, &self.connections) => shown,
            never = sweep::run(&self.state.db, self.sweep_interval) => match never {},
        }
    }
}

/// Shows metrics at `/metrics`, with their values at the moment of the request.
async fn show_metrics(
    metrics: Option<(TcpListener, Metrics)>,
    state: &Arc<State>,
    connections: &Arc<Shares>,
) -> anyhow::Result<()> {
    let Some((listener, metrics)) = metrics else {
        return pending().await;
    };
    listener.set_nonblocking(true)?;
    let acceptor = TcpAcceptor::from_std(listener)?;
    let metrics = Arc::new(metrics);
    let (asked, state, connections) = (metrics.clone(), state.clone(), connections.clone());
    let show = make(move |_| {
        let (metrics, state, connections) = (asked.clone(), state.clone(), connections.clone());
        async move {
            let Limits {
                answers, bodies, ..
            } = &state.limits;
            for shares in [answers, bodies, &connections] {
                shares.observe();
            }
            state.auth.passwords.observe();
            state.db.observe().await;
            Response::builder()
                .content_type("text/plain; version=0.0.4")
                .body(metrics.page())
        }
    });
    let serving = Server::new_with_acceptor(acceptor).run(Route::new().at("/metrics", get(show)));
    tokio::select! {
        served = serving => Ok(served?),
        never = metrics.add_up() => match never {},
    }
}

/// The OpenAPI document as YAML: `openapi/openapi.yaml`.
pub fn openapi() -> anyhow::Result<String> {
    api::contract()?.yaml()
}
