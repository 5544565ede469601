//! The program `proxy`: settings, listener, server, exit status.

mod init_command;
mod purge_command;
mod reload_command;
mod warm_command;

use std::env;
use std::fmt::Display;
use std::fs;
use std::future::pending;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use mimalloc::MiMalloc;
use proxy::{
    Admin, AdminPort, AdminServer, Args, Check, Command, Config, Explain, Explanation, Forecast, MemoryStore,
    Proxy, RedisStore, RunningAdmin, Service, Site, Store, StoreUrl, Summary, Warm, find_faults,
};
use serde::Serialize;
use server::{BoundListener, ListenAddress, ListenSettings, LogFilter, Offer, Predecessor, Workers, refuse};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A request that the proxy answers by itself: it may not be forwarded (RFC 9110 §7.6.2).
const HEALTH: &str = "OPTIONS / HTTP/1.1\r\nMax-Forwards: 0\r\n";

/// The time for the last lines of the access log, which a slow pipe may not take.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    server::run(Builder::new_current_thread(), start())
}

async fn start() -> ExitCode {
    let args = Args::read();
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    let log = server::start_log();
    match &args.command {
        Some(Command::Explain(asked)) => return explain(&config, asked).await,
        Some(Command::Check(asked)) => return check(&config, asked),
        Some(Command::Forecast(asked)) => return forecast(&config, asked),
        Some(Command::Purge(asked)) => return purge_command::purge(&config, asked).await,
        Some(Command::Reload) => return reload_command::reload(&config).await,
        Some(Command::Health) => return health(&config).await,
        Some(Command::Init(asked)) => return init_command::init(&args, asked, &config).await,
        Some(Command::Warm(asked)) => return warm(&config, asked).await,
        None => {}
    }
    give_memory_back_soon();
    match &config.store {
        StoreUrl::Memory => {
            let store = MemoryStore::of_values(config.memory_limit, config.max_entry);
            run(args, config, store, log).await
        }
        StoreUrl::Redis(redis) => match RedisStore::open(redis, config.deadlines.store, config.max_entry) {
            Ok(store) => run(args, config, store, log).await,
            Err(error) => refuse(&format!("cannot start the store: {error}")),
        },
    }
}

/// Starts the program anew, in this process, so that the allocator gives free memory back after 100 ms and not after a
/// second. Otherwise large pages that are replaced would take two thirds more memory. With a shorter time, the next fill
/// would pay for page faults. mimalloc reads this setting from the environment, before `main`. If the variable is set
/// already, it stays. If the program cannot be started again, it goes on without it.
fn give_memory_back_soon() {
    const DELAY: &str = "MIMALLOC_PURGE_DELAY";
    if env::var_os(DELAY).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut words = env::args_os();
    let name = words.next().unwrap_or_else(|| program.clone().into());
    let error = process::Command::new(program).arg0(name).args(words).env(DELAY, "100").exec();
    warn!(%error, "{DELAY}=100 is not set: the memory of large pages may exceed its limit");
}

async fn run<S: Store>(args: Args, config: Config, store: S, log: LogFilter) -> ExitCode {
    let Ports { listeners, predecessor, admin } = match ports(&config).await {
        Ok(ports) => ports,
        Err(fault) => return refuse(&fault),
    };
    let hangups = Arc::new(Notify::new());
    let stop = match server::stop_signal(on_hangup(hangups.clone())) {
        Ok(stop) => stop,
        Err(error) => return refuse(&format!("cannot install the signal handlers: {error}")),
    };
    let workers = match Workers::one_a_core() {
        Ok(workers) => Arc::new(workers),
        Err(error) => return refuse(&format!("cannot start the workers: {error}")),
    };
    // The last step that may fail: until `relieve`, the predecessor keeps serving.
    let offer = match config.takeover.as_ref().map(|path| Offer::at(path, &listeners)).transpose() {
        Ok(offer) => offer,
        Err(error) => return refuse(&format!("--takeover (PROXY_TAKEOVER): {error}")),
    };
    let port = listeners.iter().find_map(|listener| listener.address().port()).unwrap_or(80);
    let service = match Service::start(args, config.clone(), port, store.clone()) {
        Ok(service) => Arc::new(service),
        Err(faults) => return refuse(&faults),
    };
    log_start(&config, &listeners, service.handler().proxy().site());
    connect(&workers, &store).await;
    warn_of_scheme(&config, &store);
    service.take_certificates().await;
    listeners.iter().for_each(|listener| server::announce("proxy", listener));
    service.handler().proxy().check_store().await;
    if let Some(predecessor) = predecessor {
        predecessor.relieve().await;
    }
    let mut admin = start_admin(&config, admin, &service, &workers, log).await;
    tokio::spawn(reload_at(hangups, service.clone()));
    tokio::spawn(service.handler().clone().follow_databases());
    tokio::spawn(service.handler().clone().refresh_purged());
    tokio::spawn(proxy::keep_watchdog(workers.clone()));
    proxy::ready();
    let renewing = AbortOnDropHandle::new(tokio::spawn(service.clone().renew_certificates()));
    let stop = async {
        let _renewing = renewing;
        tokio::select! {
            () = stop => {
                proxy::stopping();
                drain(admin.as_ref(), service.pre_stop_delay()).await;
            }
            // The next process waits for the address.
            () = taken(offer) => drop(admin.take()),
        }
    };
    let (handler, clients) = (service.handler(), service.clients());
    server::serve_on(&workers, listeners, handler.clone(), clients.clone(), stop).await;
    finish(&handler.proxy(), clients.now().deadlines.shutdown).await;
    ExitCode::SUCCESS
}

/// Connects each worker to the store, so that no first request waits for it.
async fn connect<S: Store>(workers: &Workers, store: &S) {
    let connect = || {
        let store = store.clone();
        async move { store.connect().await }
    };
    workers.each(connect).await;
}

/// Waits for the fills under way, and for the last lines of the access log.
async fn finish<S: Store>(proxy: &Proxy<S>, patience: Duration) {
    if timeout(patience, proxy.finish()).await.is_err() {
        warn!("stopped before all pages were stored: the shutdown deadline has passed");
    }
    if let Some(access_log) = proxy.access_log() {
        access_log.finish(LAST_LINES);
    }
}

/// Logs what is served, and what the settings leave to be desired.
fn log_start(config: &Config, listeners: &[BoundListener], site: &Site) {
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    if config.rules.iter().all(|rule| rule.is_off) {
        warn!("no rule: every request passes through; --cache PATH=SECONDS or [[cache_page]] makes one");
    }
    let (origin, rules) = (&config.origins, config.rules.len());
    let listen: Vec<_> = listeners.iter().map(ToString::to_string).collect();
    info!(listen = listen.join(", "), %origin, store = %config.store, site = site.as_str(), rules, "listening");
}

/// Makes the handler of SIGHUP. A SIGHUP that comes before the program serves is not lost.
fn on_hangup(hangups: Arc<Notify>) -> impl FnMut() {
    move || hangups.notify_one()
}

/// Reloads the settings at each SIGHUP, on a thread that may wait for files.
async fn reload_at<S: Store>(hangups: Arc<Notify>, service: Arc<Service<S>>) {
    loop {
        hangups.notified().await;
        let service = service.clone();
        // The log says how the reload has ended.
        let _ = tokio::task::spawn_blocking(move || drop(service.reload())).await;
    }
}

/// Asks the running proxy whether it answers. Asks its admin listener if it has one, which is less busy than the others.
async fn health(config: &Config) -> ExitCode {
    let has_port = |admin: &&Admin| admin.listen.port() != Some(0);
    if let Some(admin) = config.admin.as_ref().filter(has_port) {
        return server::health("proxy", &admin.listen, "GET /healthz HTTP/1.1\r\n").await;
    }
    match plain_listener(config) {
        Some(address) => server::health("proxy", address, HEALTH).await,
        None => refuse(
            &"health asks the admin listener, or one without certificates and proxy_protocol: set --admin (PROXY_ADMIN)",
        ),
    }
}

/// A listener that this machine can ask without TLS.
fn plain_listener(config: &Config) -> Option<&ListenAddress> {
    let is_plain =
        |listener: &&ListenSettings| listener.certificates.is_none() && listener.balancers.is_empty();
    config.listeners.iter().find(is_plain).map(|listener| &listener.address)
}

/// The sockets that the proxy listens on.
struct Ports {
    listeners: Vec<BoundListener>,
    predecessor: Option<Predecessor>,
    /// The admin port; `None` while a predecessor has its address.
    admin: Option<AdminPort>,
}

/// Takes the listening sockets over from a running proxy, which serves until it is relieved, or binds the addresses.
async fn ports(config: &Config) -> Result<Ports, String> {
    if let Some(path) = &config.takeover
        && let Some((taken, predecessor)) = server::take(path, &config.listeners).await
    {
        let listeners = taken.into_iter().zip(&config.listeners);
        let listeners = listeners.map(|(taken, settings)| taken.map_or_else(|| listen(settings), Ok));
        let listeners = listeners.collect::<Result<_, _>>()?;
        return Ok(Ports { listeners, predecessor: Some(predecessor), admin: None });
    }
    let listeners = config.listeners.iter().map(listen).collect::<Result<_, _>>()?;
    let admin = config.admin.as_ref().map(AdminPort::bind).transpose()?;
    Ok(Ports { listeners, predecessor: None, admin })
}

fn listen(settings: &ListenSettings) -> Result<BoundListener, String> {
    BoundListener::bind(settings, "--listen")
}

/// Starts the admin listener, if the settings have one.
async fn start_admin<S: Store>(
    config: &Config,
    port: Option<AdminPort>,
    service: &Arc<Service<S>>,
    workers: &Arc<Workers>,
    log: LogFilter,
) -> Option<RunningAdmin<S>> {
    let settings = config.admin.as_ref()?;
    let port = match port {
        Some(port) => Ok(port),
        None => admin_after_predecessor(settings).await,
    };
    let server = AdminServer::new(service.clone(), workers.clone(), log);
    let started = port.and_then(|port| {
        let at = port.address().clone();
        let running = port.serve(server).map_err(|error| format!("cannot start a thread: {error}"))?;
        server::announce("admin", at);
        Ok(running)
    });
    started.map_err(|fault| warn!("no admin listener: {fault}")).ok()
}

/// Binds the address of the admin listener when the predecessor, which was relieved, has left it.
async fn admin_after_predecessor(settings: &Admin) -> Result<AdminPort, String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(20);
    let until = Instant::now() + PATIENCE;
    loop {
        match AdminPort::bind(settings) {
            Err(_) if Instant::now() < until => sleep(PAUSE).await,
            bound => return bound,
        }
    }
}

/// Lets load balancers take the proxy out before its port closes.
async fn drain<S: Store>(admin: Option<&RunningAdmin<S>>, delay: Duration) {
    if let Some(admin) = admin {
        admin.drain();
    }
    sleep(delay).await;
}

/// Completes when another process has taken the port over; never without an offer.
async fn taken(offer: Option<Offer>) {
    match offer {
        Some(offer) => offer.taken().await,
        None => pending().await,
    }
}

/// Logs a wrong scheme in the store's URL, without delaying the start.
fn warn_of_scheme<S: Store>(config: &Config, store: &S) {
    let (url, store) = (config.store.clone(), store.clone());
    tokio::spawn(async move {
        if let Some(fault) = scheme_fault(&url, &store).await {
            warn!(store = %url, "{fault}");
        }
    });
}

/// Why a store that does not answer never will, if its URL has the wrong scheme.
async fn scheme_fault<S: Store>(url: &StoreUrl, store: &S) -> Option<&'static str> {
    // Only TLS can be the wrong scheme, so another URL costs no command.
    let StoreUrl::Redis(redis) = url else { return None };
    let address = redis.tls_address()?;
    match store.ttl(b"").await {
        Ok(_) => None,
        Err(_) => proxy::wrong_scheme(address).await,
    }
}

/// Prints what the proxy would do with a request.
async fn explain(config: &Config, asked: &Explain) -> ExitCode {
    let StoreUrl::Redis(redis) = &config.store else {
        return refuse(
            &"--store (REDIS_URL): explain needs Redis: a memory store belongs to the process that serves",
        );
    };
    let store = match RedisStore::open(redis, Explanation::PATIENCE, config.max_entry) {
        Ok(store) => store,
        Err(error) => return refuse(&format!("cannot start the store: {error}")),
    };
    let proxy = Proxy::for_explaining(config, config.site_at(config.port()), store.clone());
    let explained = proxy.explain(asked, Ipv4Addr::LOCALHOST.into());
    match tokio::join!(scheme_fault(&config.store, &store), explained) {
        (Some(fault), _) => refuse(&format!("--store (REDIS_URL): {fault}")),
        (None, Ok(explanation)) => print(&explanation, asked.json),
        (None, Err(fault)) => refuse(&fault),
    }
}

/// Says what a cache would bring, by access logs.
fn forecast(config: &Config, asked: &Forecast) -> ExitCode {
    let forecast = match proxy::forecast(config, asked) {
        Ok(forecast) => forecast,
        Err(error) => return server::fail(&error),
    };
    if let Some(file) = &asked.html
        && let Err(error) = fs::write(file, forecast.html())
    {
        return server::fail(&format!("--html {file}: {error}"));
    }
    print(&forecast, asked.json)
}

/// Has the running proxy fetch pages. Exits with 1 if a page did not come, and with 2 if an argument cannot be read.
async fn warm(config: &Config, asked: &Warm) -> ExitCode {
    match warm_command::warm(plain_listener(config), asked).await {
        Ok(warmed) if warmed.is_whole() => print(&warmed, asked.json),
        Ok(warmed) => {
            print(&warmed, asked.json);
            ExitCode::FAILURE
        }
        Err(fault) => refuse(&fault),
    }
}

/// Checks the settings without a proxy.
fn check(config: &Config, asked: &Check) -> ExitCode {
    match find_faults(config) {
        Ok(()) => print(&Summary::new(config), asked.json),
        Err(faults) => refuse(&faults),
    }
}

/// Prints a result as text or as JSON.
fn print(result: &(impl Display + Serialize), as_json: bool) -> ExitCode {
    let text = match as_json {
        true => serde_json::to_string_pretty(result).map_err(io::Error::from),
        false => Ok(result.to_string()),
    };
    match text.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) => ExitCode::SUCCESS,
        // The output is closed, so there is nobody to report this to.
        Err(_) => ExitCode::FAILURE,
    }
}
