//! The settings as the proxy understands them, for people and for scripts.

use std::fmt::{self, Display};

use serde::Serialize;
use server::ListenSettings;

use super::{Config, LogFormat, PurgeSettings};
use crate::acme::Acme;
use crate::follow::{Follow, OnLoss};
use crate::key::Keys;
use crate::origin::Origin;
use crate::policy::Rule;

/// The settings that decide which pages are served, from where and to whom, and the warnings. It holds no secret.
#[derive(Debug, Serialize)]
pub struct Summary {
    listen: String,
    listeners: Vec<ListenerSummary>,
    /// `None` if no authority issues certificates.
    acme: Option<AcmeSummary>,
    origin: String,
    origins: Vec<OriginSummary>,
    store: String,
    keys: &'static str,
    /// `None` is `localhost` and the listening port.
    site: Option<String>,
    /// The limit of the near cache in bytes; `None` if it is off.
    near: Option<u64>,
    trusted_proxies: Vec<String>,
    /// `None` if the listener is off.
    admin: Option<String>,
    /// The further names of the admin listener.
    admin_hosts: Vec<String>,
    purge: PurgeSummary,
    follow: Vec<FollowSummary>,
    /// The target of the log; `None` if it is off.
    access_log: Option<LogSummary>,
    rules: Vec<RuleSummary>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ListenerSummary {
    url: String,
    /// The networks that must speak the PROXY protocol.
    proxy_protocol: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AcmeSummary {
    domains: Vec<String>,
    directory: String,
    challenge: &'static str,
}

#[derive(Debug, Serialize)]
struct OriginSummary {
    url: String,
    hosts: Vec<String>,
    paths: Vec<String>,
    weight: u32,
    backup: bool,
}

#[derive(Debug, Serialize)]
struct PurgeSummary {
    allow: Vec<String>,
    /// Whether a token gives the right.
    token: bool,
}

#[derive(Debug, Serialize)]
struct FollowSummary {
    /// The database with the channel, without the password.
    database: String,
    on_loss: String,
}

#[derive(Debug, Serialize)]
struct LogSummary {
    to: String,
    format: &'static str,
}

#[derive(Debug, Serialize)]
struct RuleSummary {
    path: String,
    /// The timeout in seconds; `None` if the rule is off.
    timeout: Option<u64>,
    #[serde(skip)]
    text: String,
}

impl Summary {
    /// The summary of settings that have no fault.
    pub fn new(config: &Config) -> Self {
        let admin = config.admin.as_ref();
        let listen: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
        Self {
            listen: listen.join(", "),
            listeners: config.listeners.iter().map(ListenerSummary::of).collect(),
            acme: config.acme.as_ref().map(AcmeSummary::of),
            origin: config.origins.to_string(),
            origins: config.origins.all.iter().map(OriginSummary::of).collect(),
            store: config.store.to_string(),
            keys: if matches!(config.keys, Keys::Path(_)) { "path" } else { "django" },
            site: config.site.as_ref().map(|site| site.as_str().to_owned()),
            near: config.near,
            trusted_proxies: texts(&config.trusted_proxies),
            admin: admin.map(|admin| admin.listen.to_string()),
            admin_hosts: admin.map(|admin| admin.hosts.clone()).unwrap_or_default(),
            purge: PurgeSummary::of(&config.purge),
            follow: config.follows.iter().map(FollowSummary::of).collect(),
            access_log: config.access_log.as_ref().map(|log| LogSummary {
                to: log.access.to_string(),
                format: if log.format == LogFormat::Json { "json" } else { "combined" },
            }),
            rules: config.rules.iter().map(RuleSummary::of).collect(),
            warnings: config.warnings.clone(),
        }
    }
}

impl ListenerSummary {
    fn of(listener: &ListenSettings) -> Self {
        Self { url: listener.to_string(), proxy_protocol: texts(&listener.balancers) }
    }
}

impl AcmeSummary {
    fn of(acme: &Acme) -> Self {
        Self {
            domains: acme.issued.names().map(str::to_owned).collect(),
            directory: acme.directory.to_string(),
            challenge: acme.challenge.name(),
        }
    }
}

impl OriginSummary {
    fn of(origin: &Origin) -> Self {
        Self {
            url: origin.to_string(),
            hosts: origin.share.hosts.clone(),
            paths: texts(&origin.share.paths),
            weight: origin.weight,
            backup: origin.is_backup,
        }
    }
}

impl PurgeSummary {
    fn of(purge: &PurgeSettings) -> Self {
        Self { allow: texts(&purge.allow), token: purge.token.is_some() }
    }
}

impl FollowSummary {
    fn of(follow: &Follow) -> Self {
        let on_loss = match follow.on_loss {
            OnLoss::Serve(time) => format!("{} s", time.as_secs_f64()),
            OnLoss::Ignore => "ignore".to_owned(),
        };
        Self { database: follow.to_string(), on_loss }
    }
}

impl RuleSummary {
    fn of(rule: &Rule) -> Self {
        let timeout = (!rule.is_off).then_some(rule.timeout.as_secs());
        Self { path: rule.path.to_string(), timeout, text: rule.to_string() }
    }
}

fn texts(values: &[impl Display]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// The words followed by the values, with commas between them; empty if there is no value.
fn behind(words: &str, values: &[String]) -> String {
    if values.is_empty() { String::new() } else { format!("{words}{}", values.join(", ")) }
}

impl Display for ListenerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.url, behind(", by the PROXY protocol from ", &self.proxy_protocol))
    }
}

impl Display for OriginSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, paths) = (behind(", hosts ", &self.hosts), behind(", paths ", &self.paths));
        write!(f, "{}{hosts}{paths}", self.url)?;
        if self.weight != 1 {
            write!(f, ", weight {}", self.weight)?;
        }
        f.write_str(if self.backup { ", backup" } else { "" })
    }
}

impl Display for PurgeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.allow.join(", "), self.token) {
            (networks, false) if networks.is_empty() => f.write_str("nobody on the data port"),
            (networks, true) if networks.is_empty() => f.write_str("by token"),
            (networks, false) => f.write_str(&networks),
            (networks, true) => write!(f, "{networks}, or by token"),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |given: Option<String>, otherwise: &str| given.unwrap_or_else(|| otherwise.to_owned());
        let listeners = self.listeners.iter().map(|one| ("listen", one.to_string()));
        let acme = self.acme.iter().map(|acme| {
            ("acme", format!("{}, by {} at {}", acme.domains.join(", "), acme.challenge, acme.directory))
        });
        let origins = self.origins.iter().map(|one| ("origin", one.to_string()));
        let trusted = Some(self.trusted_proxies.join(", ")).filter(|networks| !networks.is_empty());
        let admin = self.admin.as_ref().map(|at| format!("{at}{}", behind(", hosts ", &self.admin_hosts)));
        let log = self.access_log.as_ref().map(|log| format!("{}, {}", log.to, log.format));
        let single = [
            ("store", self.store.clone()),
            ("keys", self.keys.to_owned()),
            ("site", or(self.site.clone(), "localhost and the port")),
            ("near", or(self.near.map(|bytes| format!("{bytes} bytes")), "off")),
            ("trusted", or(trusted, "no proxy")),
            ("admin", or(admin, "off")),
            ("purge", self.purge.to_string()),
            ("log", or(log, "off")),
        ];
        let followed =
            self.follow.iter().map(|one| ("follow", format!("{}, on_loss {}", one.database, one.on_loss)));
        let none = self.rules.is_empty().then(|| ("rule", "none: every request passes through".to_owned()));
        let rules = self.rules.iter().map(|rule| ("rule", rule.text.clone())).chain(none);
        let warnings = self.warnings.iter().map(|warning| ("warning", warning.clone()));
        let lines =
            listeners.chain(acme).chain(origins).chain(single).chain(followed).chain(rules).chain(warnings);
        let lines: Vec<_> = lines.map(|(name, value)| format!("{name:9} {value}")).collect();
        f.write_str(&lines.join("\n"))
    }
}
