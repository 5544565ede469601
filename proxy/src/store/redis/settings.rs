//! How to reach Redis: the URL, and further settings.

use std::fmt;
use std::str::FromStr;

use bb8_redis::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, parse_redis_url};

use super::address::NodeAddress;
use super::dialer::Login;
use super::tls::Tls;
use crate::tls::TlsFiles;

/// How to reach Redis: which one, and how to log in.
#[derive(Clone)]
pub struct RedisSettings {
    pub(super) kind: RedisKind,
    /// One Redis, the Sentinels, or the first nodes of a cluster that are asked for the others.
    pub(super) addresses: Vec<NodeAddress>,
    pub(super) login: Login,
    sentinel_password: Option<String>,
    has_tls: bool,
    /// The URL without user, password and query.
    shown: String,
}

/// The kind of service at the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// One Redis, or something that behaves like one.
    Alone,
    /// The Sentinels of the master with this name.
    Sentinel(String),
    /// Some nodes of a cluster.
    Cluster,
}

/// The settings that a URL does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisOptions {
    /// The user, instead of that of the URL.
    pub user: Option<String>,
    /// The password, instead of that of the URL.
    pub password: Option<String>,
    /// The password of the Sentinels.
    pub sentinel_password: Option<String>,
    /// PEM: the authorities to trust, instead of those of the system.
    pub ca_file: Option<String>,
    /// PEM: the certificate to show.
    pub client_certificate: Option<String>,
    /// PEM: its key.
    pub client_key: Option<String>,
    /// The name that the certificate of Redis must have, instead of the host's.
    pub server_name: Option<String>,
}

impl RedisSettings {
    /// The kind of service at the addresses.
    pub fn kind(&self) -> &RedisKind {
        &self.kind
    }

    /// How to log in to the Sentinels.
    pub(super) fn login_of_sentinels(&self) -> Login {
        Login {
            user: None,
            password: self.sentinel_password.clone(),
            database: 0,
            tls: self.login.tls.clone(),
        }
    }

    /// The address where TLS is expected, if the store is a single Redis.
    pub fn tls_address(&self) -> Option<(&str, u16)> {
        match (&self.kind, &self.addresses[..]) {
            (RedisKind::Alone, [NodeAddress::Tcp { host, port }]) if self.has_tls => Some((host, *port)),
            _ => None,
        }
    }

    /// Adds settings that the URL does not hold. Returns all faults, without secrets.
    pub fn with(mut self, mut options: RedisOptions) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        self.login.user = options.user.take().or(self.login.user);
        self.login.password = options.password.take().or(self.login.password);
        if self.login.user.is_some() && self.login.password.is_none() {
            faults.push(
                "a user without a password: add redis.password_file; a password alone is written redis://:PASSWORD@HOST"
                    .to_owned(),
            );
        }
        let has_sentinels = matches!(self.kind, RedisKind::Sentinel(_));
        if options.sentinel_password.is_some() && !has_sentinels {
            faults.push(
                "redis.sentinel_password_file needs store = \"redis-sentinel://HOST:PORT/NAME\"".to_owned(),
            );
        }
        self.sentinel_password = options.sentinel_password.take();
        let files = [&options.ca_file, &options.client_certificate, &options.client_key];
        let wants_tls = files.iter().any(|file| file.is_some()) || options.server_name.is_some();
        match self.has_tls {
            true => match tls(&options) {
                Ok(tls) => self.login.tls = Some(tls),
                Err(fault) => faults.push(fault),
            },
            false if wants_tls => faults.push(
                "redis.ca_file, client_certificate, client_key and server_name need TLS: a URL with rediss"
                    .to_owned(),
            ),
            false => {}
        }
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }
}

fn tls(options: &RedisOptions) -> Result<Tls, String> {
    let files = TlsFiles {
        ca: options.ca_file.as_deref().unwrap_or_default(),
        certificate: options.client_certificate.as_deref().unwrap_or_default(),
        key: options.client_key.as_deref().unwrap_or_default(),
    };
    Tls::new(files, options.server_name.as_deref()).map_err(|fault| {
        format!("ca_file, client_certificate, client_key or server_name in [redis]: {fault}")
    })
}

impl RedisSettings {
    /// Whether other settings have the same passwords.
    pub(crate) fn has_passwords_of(&self, other: &Self) -> bool {
        self.login.password == other.login.password && self.sentinel_password == other.sentinel_password
    }
}

/// The URL may hold a password, so no fault repeats it.
impl FromStr for RedisSettings {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let form = || {
            "neither memory nor a URL like redis://127.0.0.1:6379/1, rediss://HOST:PORT/DATABASE, unix:///FILE?db=DATABASE or \
             redis-sentinel://HOST:PORT,HOST:PORT/NAME/DATABASE, redis-cluster://HOST:PORT,HOST:PORT; ports go from 1 to 65535, and special characters are percent-encoded"
                .to_owned()
        };
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(form());
        }
        let UrlParts { kind, urls } = UrlParts::of(url).ok_or_else(form)?;
        check_authority(url, &kind)?;
        if kind == RedisKind::Cluster
            && urls.iter().any(|url| !url.ends_with('/') || url.matches('/').count() > 3)
        {
            return Err("a cluster has no databases: leave out what follows its hosts".to_owned());
        }
        let infos: Option<Vec<_>> = urls.iter().map(|url| url.as_str().into_connection_info().ok()).collect();
        let infos = infos.ok_or_else(form)?;
        urls.iter().zip(&infos).try_for_each(|(url, info)| check(url, info))?;
        let first = infos.first().ok_or_else(form)?;
        let settings = first.redis_settings();
        let login = Login {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: settings.db(),
            tls: None,
        };
        let has_tls = matches!(first.addr(), ConnectionAddr::TcpTls { .. });
        let addresses =
            infos.iter().map(|info| address(info.addr())).collect::<Option<_>>().ok_or_else(form)?;
        Ok(Self { kind, addresses, login, sentinel_password: None, has_tls, shown: shown(url) })
    }
}

/// Finds hosts and logins at places where the kind of store has none.
fn check_authority(url: &str, kind: &RedisKind) -> Result<(), String> {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    match kind {
        RedisKind::Alone if authority.rsplit('@').next().is_some_and(|host| host.contains(',')) => {
            Err("names several hosts, which redis-sentinel:// and redis-cluster:// take".to_owned())
        }
        RedisKind::Sentinel(_) | RedisKind::Cluster if authority.matches('@').count() > 1 => {
            Err("a login stands once, before the first host; an @ in a password is %40".to_owned())
        }
        _ => Ok(()),
    }
}

/// The parts of a URL that may name several hosts.
struct UrlParts {
    kind: RedisKind,
    urls: Vec<String>,
}

impl UrlParts {
    fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        match scheme.split_once('-') {
            None => Some(Self { kind: RedisKind::Alone, urls: vec![url.to_owned()] }),
            Some((scheme, "sentinel")) => Self::of_sentinels(scheme, rest),
            Some((scheme, "cluster")) => {
                let authority = rest.strip_suffix('/').unwrap_or(rest);
                let urls = each_host(scheme, authority, 6379, "");
                Some(Self { kind: RedisKind::Cluster, urls })
            }
            Some(_) => None,
        }
    }

    fn of_sentinels(scheme: &str, rest: &str) -> Option<Self> {
        let (authority, path) = rest.split_once('/')?;
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_letter) {
            return None;
        }
        let urls = each_host(scheme, authority, 26_379, database);
        Some(Self { kind: RedisKind::Sentinel(name.to_owned()), urls })
    }
}

/// A URL for each of several hosts.
fn each_host(scheme: &str, authority: &str, port: u16, path: &str) -> Vec<String> {
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let with_port = |host: &str| match host.rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => host.to_owned(),
        _ => format!("{host}:{port}"),
    };
    hosts.split(',').map(|host| format!("{scheme}://{user}{at}{}/{path}", with_port(host))).collect()
}

/// Refuses settings that the library would ignore, or would find wrong only at the first connection.
fn check(url: &str, info: &ConnectionInfo) -> Result<(), String> {
    let Some(url) = parse_redis_url(url) else { return Ok(()) };
    let known: &[&str] = match info.addr() {
        ConnectionAddr::Unix(path) if path.to_string_lossy().ends_with('/') => {
            return Err(format!("{} is a folder", path.display()));
        }
        ConnectionAddr::Unix(_) => &["db", "user", "pass", "protocol"],
        ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
            return Err("the port must be a number from 1 to 65535".to_owned());
        }
        _ => &["protocol"],
    };
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
        return Err(format!("{name:?} is not known in the query; these are: {}", known.join(", ")));
    }
    if url.fragment().is_some() {
        return Err(
            "nothing may follow #, which is %23 in a password; certificates are always verified".to_owned()
        );
    }
    if info.redis_settings().db() < 0 {
        return Err("the database must be a number like 1".to_owned());
    }
    Ok(())
}

fn address(address: &ConnectionAddr) -> Option<NodeAddress> {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, insecure: false, .. } => {
            Some(NodeAddress::Tcp { host: host.clone(), port: *port })
        }
        ConnectionAddr::Unix(path) => Some(NodeAddress::Unix(path.clone())),
        _ => None,
    }
}

/// The URL without user, password and query, fit for a log.
fn shown(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, address))) => format!("{scheme}://{address}"),
        _ => url.to_owned(),
    }
}

impl fmt::Display for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
