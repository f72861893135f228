//! The server: the page and the API, over HTTP, from the published file alone.
//!
//! It is a process of its own that knows neither geth's socket nor its data directory, and writes
//! nothing to the volume: whatever happens to it, the writer does not notice. A request is checked
//! by the `guard`, asked of one of the `readers`, each a DuckDB session on a thread of its own, and
//! written by `encode`. `events` looks for new published files and tells the clients that wait.
//! Everything that a client can use up has a bound: connections, questions in the queue, the time
//! of a query, its share of the processor while the writer builds history, and the time to receive
//! an answer.

mod api;
mod budget;
mod cache;
mod connections;
mod encode;
mod events;
mod guard;
mod metrics;
mod page;
mod readers;
mod reply;
mod sql;
mod status;
pub(crate) mod token;

use crate::error::Refused;
use crate::stop::Stop;
use crate::store;
use crate::watch::{die_first, go_behind};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// The volume.
    pub data: PathBuf,
    /// What requests must send; required if others than this machine can ask.
    pub token: Option<String>,
    /// Names besides the address that requests may use.
    pub hosts: Vec<String>,
    /// Whether requests may bring SQL of their own, which needs the token.
    pub takes_sql: bool,
}

/// What requests share.
struct App {
    root: PathBuf,
    readers: readers::Readers,
    feed: Arc<events::Feed>,
    assets: Vec<page::Asset>,
    cache: cache::Cache,
    metrics: metrics::Metrics,
    /// For SQL of the clients' own, if that is allowed.
    sql: Option<sql::Sql>,
}

/// How long open requests may take to end, and then each thread.
const END_MAX: Duration = Duration::from_secs(1);

/// Serves until a signal.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    if !settings.address.ip().is_loopback() && settings.token.is_none() {
        return Err(Refused::new(
            format!("others than this machine could read the data at {}", settings.address),
            "give --token-file FILE, or a loopback address such as 127.0.0.1:8550",
        )
        .into());
    }
    if settings.takes_sql && settings.token.is_none() {
        return Err(Refused::new(
            "any page in a browser here could run SQL: --sql needs a token",
            "give --token-file FILE; the file is made if there is none",
        )
        .into());
    }
    let root = store::existing(&settings.data)?;
    go_behind();
    die_first();
    let stop = Stop::on_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served: Result<_> = runtime.block_on(async {
        let listener = TcpListener::bind(settings.address).await;
        let listener =
            listener.with_context(|| format!("failed to listen on {}", settings.address))?;
        let bound = listener.local_addr()?;
        let budget = Arc::new(budget::Budget::default());
        let (feed, looking) = events::Feed::start(&root, settings.takes_sql, Arc::clone(&budget))?;
        let app = Arc::new(App {
            readers: readers::Readers::start(&root, &budget)?,
            feed,
            assets: page::assets()?,
            cache: cache::Cache::default(),
            metrics: metrics::Metrics::default(),
            sql: settings.takes_sql.then(|| sql::Sql::start(&root)).transpose()?,
            root,
        });
        let guard = guard::Guard::new(bound, &settings.hosts, settings.token.as_deref());
        let checked = axum::middleware::from_fn_with_state(Arc::new(guard), guard::check);
        let router = api::routes(app).layer(checked);
        tracing::info!("serving http://{bound}/");
        connections::serve(listener, router, &stop).await;
        Ok(looking)
    });
    runtime.shutdown_timeout(END_MAX);
    // DuckDB's threads use what is freed at exit, so it ends first.
    let looking = served?;
    let since = Instant::now();
    while since.elapsed() < END_MAX && !looking.is_finished() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
