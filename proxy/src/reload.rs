//! The settings of a program that serves, and how they are read anew.
//!
//! A reload reads the file, and the files that it names, as the start does. If it finds a fault, nothing changes. Otherwise
//! new requests get all the new settings; requests that have begun keep theirs.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use server::{Certificates, CurrentClients};
use tracing::{info, warn};

use crate::access_log::AccessLog;
use crate::acme::{NameState, Renewals};
use crate::args::Args;
use crate::config::{Config, Faults};
use crate::store::Store;
use crate::systemd;
use crate::way::{InForce, Proxy, now};

/// A proxy that serves, and the settings that it serves by.
pub struct Service<S> {
    args: Args,
    proxy: Arc<InForce<S>>,
    clients: CurrentClients,
    settings: ArcSwap<LoadedSettings>,
    /// The certificates of the listeners.
    certificates: Vec<Arc<Certificates>>,
    /// The certificates that an authority issues.
    renewals: Option<Renewals<S>>,
    /// The port that it listens on, which is part of the default site.
    port: u16,
    /// Whether the last reload found no fault.
    is_last_good: AtomicBool,
    /// Lines of the access log that could not be written.
    log_lines_dropped: Arc<AtomicU64>,
    /// Only one reload runs at a time.
    turn: Mutex<()>,
}

/// Settings, and when they came into force.
#[derive(Debug)]
pub(crate) struct LoadedSettings {
    pub(crate) config: Config,
    /// 1 at the start; each reload adds one.
    pub(crate) generation: u64,
    pub(crate) loaded_at: SystemTime,
}

impl<S: Store> Service<S> {
    /// Starts a proxy over this store, with the settings that the arguments gave. It listens on `port`. A file that cannot be
    /// opened is an error.
    pub fn start(args: Args, config: Config, port: u16, store: S) -> Result<Self, Faults> {
        let log_lines_dropped = Arc::default();
        let access_log = open_log(&config, &log_lines_dropped)?;
        let renewals = config.acme.clone().map(|acme| Renewals::new(acme, &store, now()));
        let proxy = Proxy::new(&config, config.site_at(port), store).with_access_log(access_log);
        Ok(Self {
            args,
            proxy: Arc::new(InForce::new(proxy)),
            clients: affordable(&config).into(),
            certificates: certificates(&config),
            renewals,
            port,
            settings: ArcSwap::from_pointee(LoadedSettings { config, generation: 1, loaded_at: now() }),
            is_last_good: AtomicBool::new(true),
            log_lines_dropped,
            turn: Mutex::default(),
        })
    }

    /// Reads the settings anew, with the certificates that they name, and returns their generation. The access log is opened
    /// anew in any case. Blocks.
    pub fn reload(&self) -> Result<u64, Faults> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.settings.load_full();
        if let Some(access_log) = self.proxy.proxy().access_log() {
            access_log.reopen();
        }
        if self.args.config.is_none() {
            self.certificates.iter().for_each(|certificates| certificates.refresh());
            info!("access log opened anew; there is no --config (PROXY_CONFIG) to read anew");
            return Ok(running.generation);
        }
        systemd::reloading();
        let loaded = self.load(&running.config).and_then(|config| self.replace(config, &running));
        self.is_last_good.store(loaded.is_ok(), Ordering::Relaxed);
        match &loaded {
            Ok(generation) => info!(generation, "settings reloaded"),
            Err(faults) => faults.0.iter().for_each(|fault| warn!(fault, "settings not reloaded")),
        }
        systemd::reloaded(if loaded.is_ok() { "serving" } else { "serving; the new settings have faults" });
        loaded
    }

    fn load(&self, running: &Config) -> Result<Config, Faults> {
        let config = Config::load(&self.args)?;
        match config.beyond_reload(running) {
            fixed if fixed.is_empty() => Ok(config),
            fixed => Err(Faults(fixed)),
        }
    }

    /// Puts settings that have no fault in force.
    fn replace(&self, config: Config, running: &LoadedSettings) -> Result<u64, Faults> {
        let (generation, running) = (running.generation + 1, &running.config);
        let proxy = self.proxy.proxy();
        let access_log = match proxy.access_log() {
            Some(log) if Some(log.settings()) == config.access_log.as_ref() => Some(log.clone()),
            _ => open_log(&config, &self.log_lines_dropped)?,
        };
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
        let new = proxy
            .with_settings(&config, config.site_at(self.port), config.has_origins_of(running))
            .with_access_log(access_log);
        self.clients.replace(affordable(&config));
        self.proxy.replace(new);
        let read = certificates(&config);
        self.certificates.iter().zip(read).for_each(|(shown, read)| shown.replace(&read));
        self.settings.store(Arc::new(LoadedSettings { config, generation, loaded_at: now() }));
        Ok(generation)
    }

    /// The state of each name whose certificate an authority issues.
    pub(crate) fn issued_names(&self) -> Vec<NameState> {
        self.renewals.as_ref().map(Renewals::states).unwrap_or_default()
    }

    /// Shows the certificates that an authority has issued before.
    pub async fn take_certificates(&self) {
        if let Some(renewals) = &self.renewals {
            renewals.take_stored(now()).await;
        }
    }

    /// Orders and renews the certificates that an authority issues.
    pub async fn renew_certificates(self: Arc<Self>) {
        /// The least pause between two steps, even if the next try is due at once.
        const LEAST: std::time::Duration = std::time::Duration::from_secs(1);
        let Some(renewals) = &self.renewals else { return };
        loop {
            let pause = renewals.step(now()).await;
            tokio::time::sleep(pause.max(LEAST)).await;
        }
    }
}

impl<S> Service<S> {
    /// The handler of requests.
    pub fn handler(&self) -> &Arc<InForce<S>> {
        &self.proxy
    }

    /// The deadlines and limits of clients.
    pub fn clients(&self) -> &CurrentClients {
        &self.clients
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<LoadedSettings> {
        self.settings.load_full()
    }

    /// How long the port stays open after a signal to stop.
    pub fn pre_stop_delay(&self) -> std::time::Duration {
        self.settings.load().config.pre_stop_delay
    }

    /// Whether the last reload found no fault.
    pub(crate) fn is_last_reload_good(&self) -> bool {
        self.is_last_good.load(Ordering::Relaxed)
    }

    /// The file of each certificate of the listeners, or its name if it was issued, and when the certificate expires, in seconds
    /// since 1970.
    pub(crate) fn certificate_expiries(&self) -> Vec<(String, i64)> {
        self.certificates.iter().flat_map(|certificates| certificates.expiries()).collect()
    }

    /// How many lines of the access log could not be written.
    pub(crate) fn log_lines_dropped(&self) -> u64 {
        self.log_lines_dropped.load(Ordering::Relaxed)
    }
}

/// The certificates of all listeners.
fn certificates(config: &Config) -> Vec<Arc<Certificates>> {
    config.listeners.iter().filter_map(|listener| listener.certificates.clone()).collect()
}

/// The deadlines and limits of clients. Each request to the origin takes a file descriptor, too.
fn affordable(config: &Config) -> server::Clients {
    let limits = config.clients.limits.affordable(config.limits.origin.requests);
    server::Clients { limits, ..config.clients }
}

fn open_log(config: &Config, dropped: &Arc<AtomicU64>) -> Result<Option<Arc<AccessLog>>, Faults> {
    let open = |settings| AccessLog::open(settings, dropped.clone()).map(Arc::new);
    config.access_log.as_ref().map(open).transpose().map_err(|error| fault(&error))
}

/// Finds the faults that a start with these settings would find. Addresses that are in use are not checked.
pub fn find_faults(config: &Config) -> Result<(), Faults> {
    config.access_log.as_ref().map_or(Ok(()), AccessLog::check).map_err(|error| fault(&error))
}

fn fault(error: &io::Error) -> Faults {
    Faults(vec![format!("--access-log (PROXY_ACCESS_LOG): {error}")])
}
