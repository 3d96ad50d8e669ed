//! REST and the dashboard: one process that speaks HTTP for those who do not speak Kafka.
//!
//! Enters: calls under `/v1`, and what topics, groups and the registry show. Leaves: requests and events
//! on their topics, answers, and a page that is kept up to date. Never: folds, ranks or decides; what it
//! knows is read from topics, and is gone with the process.

mod actions;
mod answer;
mod auth;
mod connections;
mod events;
mod health;
mod link;
mod live;
mod page;
mod recommendations;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::runtime::Stop;
use auth::Keeper;
use connections::Connections;
use link::Link;
use live::Live;

/// What all calls share.
struct Shared {
    config: Config,
    keeper: Keeper,
    link: Link,
    live: Arc<Live>,
    in_flight: Arc<Semaphore>,
    users: users::Lately,
}

type State = axum::extract::State<Arc<Shared>>;

/// A gateway that serves. Ends when it is dropped.
pub struct Gateway {
    /// Where it listens: the port that was found where port 0 was asked for.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Stop,
    threads: Vec<std::thread::JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Gateway {
    /// Listens, and begins to connect and to read; waits for neither. A broker that is away is
    /// tried again until it is there.
    ///
    /// # Errors
    /// Where the address cannot be bound or a thread not started; says what to change.
    pub fn start(config: Config) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("gateway")
            .enable_all()
            .build()
            .map_err(|e| format!("threads of the gateway: {e}"))?;
        let listen = config.gateway.listen.clone();
        let wrong = |e| format!("gateway.listen {listen}: {e}; choose another port, or 0 for any");
        let listener = runtime.block_on(tokio::net::TcpListener::bind(&listen)).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let stop = Stop::default();
        let live = Arc::new(Live::new());
        let (link, connector) = Link::start(&config, &stop)?;
        let mut threads = live::start(&config, &live, &stop)?;
        threads.push(connector);
        let shared = Arc::new(Shared {
            keeper: Keeper::new(&config.gateway),
            link,
            live,
            in_flight: Arc::new(Semaphore::new(config.gateway.max_in_flight)),
            users: users::Lately::default(),
            config,
        });
        let connections = Connections::new(listener, shared.config.gateway.max_connections);
        let app = app(&shared);
        runtime.spawn(async move {
            if let Err(error) = axum::serve(connections, app).await {
                tracing::error!(%error, "the gateway no longer listens");
            }
        });
        Ok(Self { address, shared, stop, threads, runtime: Some(runtime) })
    }

    /// Whether it can answer, and why not.
    pub fn health(&self) -> crate::telemetry::HealthReport {
        health::report(&self.shared)
    }

    /// Asked at each probe.
    pub fn health_source(&self) -> crate::telemetry::HealthSource {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || health::report(&shared))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(runtime) = self.runtime.take() {
            // Open pages never end by themselves; they come back where something listens again.
            runtime.shutdown_timeout(Duration::from_millis(500));
        }
        for thread in self.threads.drain(..) {
            if let Err(error) = crate::runtime::join(thread) {
                tracing::warn!(error, "the gateway");
            }
        }
    }
}

fn app(shared: &Arc<Shared>) -> Router {
    let limits = DefaultBodyLimit::max(shared.config.gateway.max_body_bytes);
    let calls = Router::new()
        .route("/v1/recommendations", post(recommendations::ask))
        .route("/v1/events/{kind}", post(events::send))
        .route("/api/actions/{name}", post(actions::start))
        .route("/api/users", get(users::list))
        .layer(middleware::from_fn_with_state(Arc::clone(shared), answer::admit));
    Router::new()
        .route("/v1/health", get(health::show))
        .route("/api/live", get(live::stream))
        .merge(page::routes())
        .merge(calls)
        .fallback(answer::nothing_here)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(limits)
        .layer(middleware::from_fn(page::secured))
        .with_state(Arc::clone(shared))
}
