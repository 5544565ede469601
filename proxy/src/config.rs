//! The settings of a proxy, parsed once into the types that use them. All faults are reported together, each with its
//! place.

mod acme;
mod address;
mod admin;
mod django;
mod follow;
mod leaves;
mod limits;
mod listen;
mod log;
mod normaliser;
mod origin;
mod parse;
mod purge;
mod redis;
mod rules;
mod settings;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fmt, mem};

use ipnet::IpNet;
use server::ListenSettings;

use crate::acme::Acme;
use crate::args::Args;
use crate::follow::Follow;
use crate::key::{Keys, Placement};
use crate::origin::{Origin, OriginDeadlines, OriginLimits, Origins};
use crate::page::format::Format;
use crate::policy::Rule;
use crate::request::site::Site;
pub use address::StoreUrl;
pub use admin::{Admin, AdminAddress, Token};
pub use leaves::Leaves;
pub use log::{LogFormat, LogSettings, LogTarget};
use parse::Scheme;
pub use purge::PurgeSettings;
use settings::{File, Setting, Settings, Table};
pub use summary::Summary;

/// All settings of a proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the proxy listens; at least one.
    pub listeners: Vec<ListenSettings>,
    /// The certificates that an authority issues; `None` without `[acme]`.
    pub acme: Option<Acme>,
    /// The socket file through which a new process takes the listening socket over.
    pub takeover: Option<PathBuf>,
    /// The services behind the proxy.
    pub origins: Origins,
    /// Where pages are kept.
    pub store: StoreUrl,
    /// How keys are made.
    pub keys: Keys,
    /// The format of stored values.
    pub format: Format,
    /// Whether pages are stored, or only read.
    pub writes: bool,
    /// Whether pages get the `ETag` of Django's `ConditionalGetMiddleware`.
    pub conditional_get: bool,
    /// The Host that is not part of keys; `localhost` and the listening port if none is given.
    pub site: Option<Site>,
    /// The pages to cache; the first rule that matches counts.
    pub rules: Vec<Rule>,
    /// Peers whose X-Forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body that is stored, in bytes.
    pub max_entry: u64,
    /// How many bytes `store = "memory"` may hold.
    pub memory_limit: u64,
    /// The limit of the near cache in bytes; `None` if it is off.
    pub near: Option<u64>,
    /// The deadlines for the origin and the store.
    pub deadlines: Deadlines,
    /// The limits for the origin and the store.
    pub limits: Limits,
    /// The deadlines and limits for clients.
    pub clients: server::Clients,
    /// The listener for operators; `None` if it is off.
    pub admin: Option<Admin>,
    /// How long the port stays open after a signal to stop, while `/readyz` says that the proxy drains.
    pub pre_stop_delay: Duration,
    /// The right to purge on the data port.
    pub purge: PurgeSettings,
    /// The databases to follow.
    pub follows: Vec<Follow>,
    /// The access log; `None` if it is off.
    pub access_log: Option<LogSettings>,
    /// Whether a request without an `X-Request-Id` gets one.
    pub makes_request_ids: bool,
    /// Whether a request without a `traceparent` that can be read gets one.
    pub makes_traces: bool,
    /// Settings that are valid but probably a mistake, to be logged.
    pub warnings: Vec<String>,
    /// All settings with their places, for operators.
    pub leaves: Leaves,
}

/// The deadlines for the origin and the store.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// The deadlines for the origin.
    pub origin: OriginDeadlines,
    /// The time for one operation of the store, including the wait for a connection.
    pub store: Duration,
}

/// The limits for the origin and the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limits for the origin.
    pub origin: OriginLimits,
    /// The most variants of one page that this process stores at a time.
    pub variants: usize,
}

/// The settings and sections that a running program cannot change.
const FIXED: [&str; 12] = [
    "acme",
    "listen",
    "takeover",
    "store",
    "redis",
    "keys",
    "django",
    "admin.listen",
    "near",
    "memory_limit",
    "max_entry",
    "deadlines.store",
];

/// All faults of a configuration.
#[derive(Debug, PartialEq, thiserror::Error)]
pub struct Faults(pub(crate) Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Config {
    /// Parses the arguments and the file that they name, if any.
    pub fn load(args: &Args) -> Result<Self, Faults> {
        let Some(path) = &args.config else { return Self::parse(args, None) };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let mut config = Self::parse(args, Some((path, &text)))?;
                config.warnings.extend(listen::flaws(&config.listeners, now()));
                Ok(config)
            }
            Err(error) => {
                let mut faults = Self::parse(args, None).err().unwrap_or(Faults(Vec::new()));
                faults.0.insert(0, format!("--config (PROXY_CONFIG): {path} cannot be read: {error}"));
                Err(faults)
            }
        }
    }

    /// Whether anybody can purge: on the data port, by the admin listener, or by a database.
    pub fn purges(&self) -> bool {
        self.purge.are_on()
            || self.admin.is_some()
            || !self.follows.is_empty()
            || self.rules.iter().any(Rule::invalidates)
    }

    /// The first port of the listeners; that of http if they have none.
    pub fn port(&self) -> u16 {
        self.listeners.iter().find_map(|listener| listener.address.port()).unwrap_or(80)
    }

    /// The site of a proxy that listens on this port: the one that is configured, or `localhost` and the port.
    pub fn site_at(&self, port: u16) -> Site {
        self.site.clone().unwrap_or_else(|| Site::localhost(port))
    }

    /// Whether other settings have the same origins, which are asked in the same way. Certificates may have changed in their
    /// files.
    pub(crate) fn has_origins_of(&self, other: &Self) -> bool {
        let is_changed = |new: &Leaves, old| !new.changed_since(old, &["origin", "origins"]).is_empty();
        let speaks_tls = self.origins.all.iter().any(|origin| origin.tls.is_some());
        let settings = |config: &Self| (config.deadlines.origin, config.limits.origin);
        !speaks_tls && !is_changed(&self.leaves, &other.leaves) && settings(self) == settings(other)
    }

    /// A fault for each setting that differs from the running program's and that the program cannot change.
    pub(crate) fn beyond_reload(&self, running: &Self) -> Vec<String> {
        let speak_tls = |config: &Self| {
            let certificates = config.listeners.iter().map(|listener| listener.certificates.as_ref());
            certificates.map(|some| some.map(|some| some.are_issued())).collect::<Vec<_>>()
        };
        // Listeners with certificates can take other certificates.
        let takes_others = speak_tls(self) == speak_tls(running);
        let compared = |config: &Self| match takes_others {
            true => config.leaves.without_certificates(),
            false => config.leaves.clone(),
        };
        let changed = compared(self).changed_since(&compared(running), &FIXED);
        let mut faults: Vec<_> =
            changed.iter().map(|place| format!("{place}: needs a restart or a takeover")).collect();
        if let (StoreUrl::Redis(new), StoreUrl::Redis(old)) = (&self.store, &running.store)
            && faults.is_empty()
            && !new.has_passwords_of(old)
        {
            faults.push(
                "redis.password_file: another password needs a restart or a takeover (a file has changed)"
                    .to_owned(),
            );
        }
        faults
    }

    /// Combines the arguments, the file (its name and text) and the defaults.
    pub fn parse(args: &Args, file: Option<(&str, &str)>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let file = file.map_or_else(File::default, |(name, text)| File::parse(name, text, &mut faults));
        let mut warnings = Vec::new();
        let mut leaves = Vec::new();
        let flags = rules::Flag { texts: &args.cache, from: args.source("cache") };
        let rules = rules::rules(&flags, file.rules, &mut faults, &mut warnings, &mut leaves);
        let tables = Tables { listeners: file.listeners, origins: file.origins, follows: file.follows };
        let config = config(args, tables, Settings::new(file.settings, &mut faults));
        if let (Some(Keys::Django(_)), Some(rules)) = (config.as_ref().map(|config| &config.keys), &rules) {
            faults.extend(unknown_to_django(rules).map(str::to_owned));
        }
        match (config, rules) {
            (Some(config), Some(rules)) if faults.is_empty() => {
                warnings.extend(config.warnings);
                leaves.splice(0..0, config.leaves.0);
                Ok(Self { rules, warnings, leaves: Leaves(leaves), ..config })
            }
            _ => Err(Faults(faults)),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "certificates end by this clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The tables that a file may have several times, except the rules.
struct Tables {
    listeners: Vec<Table>,
    origins: Vec<Table>,
    follows: Vec<Table>,
}

/// The settings of rules that Django cannot share.
fn unknown_to_django(rules: &[Rule]) -> impl Iterator<Item = &'static str> {
    let ages = "grace, stale_if_error and early_refresh need keys = \"path\": Django would serve such a page after its end as if it were fresh";
    let content =
        "methods = [\"GET\", \"QUERY\"] needs keys = \"path\": Django has no key for the content of a QUERY";
    [
        rules.iter().any(Rule::looks_at_the_clock).then_some(ages),
        rules.iter().any(|rule| rule.caches_query).then_some(content),
    ]
    .into_iter()
    .flatten()
}

/// The settings that have flags, except the rules, and the certificates that listeners show.
struct Flagged {
    acme: Option<Option<Acme>>,
    listeners: Option<Vec<ListenSettings>>,
    takeover: Option<Option<PathBuf>>,
    origins: Option<Origins>,
    store: Option<StoreUrl>,
    keys: Option<Scheme>,
    site: Option<Option<Site>>,
    trusted_proxies: Option<Vec<IpNet>>,
    admin: Option<Option<Admin>>,
    access_log: Option<Option<LogSettings>>,
}

fn flagged(args: &Args, tables: Tables, settings: &mut Settings<'_>) -> Flagged {
    let flag = |name: &str, place: &str, text: &Option<String>| {
        text.as_ref().map(|text| Setting::of_text(place.to_owned(), text, args.source(name)))
    };
    let listen = flag("listen", "--listen (PROXY_LISTEN)", &args.listen);
    let takeover = flag("takeover", "--takeover (PROXY_TAKEOVER)", &args.takeover);
    let origin = flag("origin", "--origin (PROXY_ORIGIN)", &args.origin);
    let store = flag("store", "--store (REDIS_URL)", &args.store);
    let keys = flag("keys", "--keys (PROXY_KEYS)", &args.keys);
    let site = flag("site", "--site (PROXY_SITE)", &args.site);
    let trusted = flag("trusted_proxies", "--trusted-proxies (PROXY_TRUSTED_PROXIES)", &args.trusted_proxies);
    let admin = flag("admin", "--admin (PROXY_ADMIN)", &args.admin);
    let access_log = flag("access_log", "--access-log (PROXY_ACCESS_LOG)", &args.access_log);
    let acme = acme::acme(settings);
    let flagged = Flagged {
        listeners: listen::listeners(listen, tables.listeners, &acme, settings),
        acme,
        takeover: settings.take("takeover", takeover, "", parse::socket),
        origins: origin::origins(origin, tables.origins, settings),
        store: settings
            .take("store", store, address::DEFAULT_STORE, address::store)
            .and_then(|store| redis::with_options(store, settings)),
        keys: settings.take("keys", keys, "path", parse::keys),
        site: settings.take("site", site, "", address::site),
        trusted_proxies: settings.take_list("trusted_proxies", trusted, "", address::networks),
        admin: admin::admin(admin, settings),
        access_log: log::log(access_log, settings),
    };
    acme::check_listeners(&flagged.acme, &flagged.listeners, settings);
    acme::check_store(&flagged.acme, &flagged.store, settings);
    let listeners = flagged.listeners.iter().flatten();
    if let Some(admin) = flagged.admin.iter().flatten().next()
        && admin.listen.port() != Some(0)
        && listeners.clone().any(|listener| listener.address == admin.listen)
    {
        settings.fault(format!("admin.listen: {} is where the proxy listens for clients", admin.listen));
    }
    let is_here = |origin: &&Origin| listeners.clone().any(|listener| origin.url.is_at(&listener.address));
    if let Some(origin) = flagged.origins.iter().flat_map(|origins| &origins.all).find(is_here) {
        settings.fault(format!(
            "origin: {origin} is where the proxy itself listens: change --origin or --listen"
        ));
    }
    flagged
}

/// A warning of a near cache before a store in memory.
fn unused_near(store: &Option<StoreUrl>, near: Option<Option<u64>>) -> Option<String> {
    let is_unused = matches!((store, near), (Some(StoreUrl::Memory), Some(Some(_))));
    is_unused.then(|| "near has no effect with store = \"memory\"".to_owned())
}

/// Parses everything except the rules; `None` if there is a fault, which is then in the list.
fn config(args: &Args, mut tables: Tables, mut settings: Settings<'_>) -> Option<Config> {
    let follows = follow::follows(mem::take(&mut tables.follows), &mut settings);
    let Flagged { acme, listeners, takeover, origins, store, keys, site, trusted_proxies, admin, access_log } =
        flagged(args, tables, &mut settings);
    let mut warnings: Vec<_> = origins.iter().flat_map(origin::hidden).collect();
    let conditional_get = settings.take("django.conditional_get", None, "false", parse::truth);
    let sharing = match keys {
        Some(Scheme::Django) => {
            django::django(&mut settings, conditional_get.unwrap_or_default(), &mut warnings)
        }
        other => {
            warnings.extend(django::unused(&mut settings));
            let placement = store.as_ref().map_or(Placement::Anywhere, StoreUrl::placement);
            other.map(|_| (Keys::Path(placement), Format::Http, true))
        }
    };
    let max_entry = settings.take("max_entry", None, "1MiB", parse::size);
    let memory_limit = settings.take("memory_limit", None, "64MiB", parse::size);
    let near = settings.take("near", None, "off", parse::near);
    warnings.extend(unused_near(&store, near));
    warnings.extend(admin.iter().flatten().filter_map(Admin::warning));
    let pre_stop_delay = settings.take("admin.pre_stop_delay", None, "0s", parse::duration_if_any);
    let makes_request_ids = settings.take("log.request_id", None, "false", parse::truth);
    let makes_traces = settings.take("log.traceparent", None, "false", parse::truth);
    let purge = purge::purge(&mut settings);
    let (deadlines, limits) = (limits::deadlines(&mut settings), limits::limits(&mut settings));
    let leaves = Leaves(settings.finish());
    let (keys, format, writes) = sharing?;
    let ((deadlines, client_deadlines), (limits, client_limits)) = (deadlines?, limits?);
    Some(Config {
        listeners: listeners?,
        acme: acme?.map(|acme| acme.beside_pages(&keys.prefixes()[0])),
        takeover: takeover?,
        origins: origins?,
        store: store?,
        keys,
        format,
        writes,
        conditional_get: conditional_get?,
        site: site?,
        rules: Vec::new(),
        trusted_proxies: trusted_proxies?,
        max_entry: max_entry?,
        memory_limit: memory_limit?,
        near: near?,
        deadlines,
        limits,
        clients: server::Clients { deadlines: client_deadlines, limits: client_limits },
        admin: admin?,
        pre_stop_delay: pre_stop_delay?.unwrap_or_default(),
        purge: purge?,
        follows: follows?,
        access_log: access_log?,
        makes_request_ids: makes_request_ids?,
        makes_traces: makes_traces?,
        warnings,
        leaves,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::key::Language;
    use crate::pickle::Compressor;
    use crate::policy::Authorization;

    fn parse(flags: &[&str], file: &str) -> Result<Config, Vec<String>> {
        let args = Args::try_parse_from(["proxy"].iter().chain(flags)).unwrap();
        Config::parse(&args, Some(("cachepage.toml", file))).map_err(|faults| faults.0)
    }

    #[test]
    fn nothing_given_is_the_documented_default() {
        let config = parse(&[], "").unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "http://127.0.0.1:8000");
        assert_eq!(config.origins.to_string(), "http://127.0.0.1:8001");
        assert_eq!(config.store.to_string(), "redis://127.0.0.1:6379/1");
        assert_eq!((config.max_entry, config.memory_limit, config.near), (1 << 20, 64 << 20, None));
        assert!(config.takeover.is_none());
        assert!(config.site.is_none() && config.rules.is_empty() && config.trusted_proxies.is_empty());
        assert_eq!(config.deadlines.store, Duration::from_millis(50));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = parse(
            &[],
            r#"
            listen = "127.0.0.1:0"
            takeover = "/run/cachepage.sock"
            origin = "http://app:9000"
            store = "memory"
            keys = "path"
            site = "Shop.example"
            trusted_proxies = ["10.0.0.0/8", "::1"]
            max_entry = "2MiB"
            memory_limit = 1000
            near = "64MiB"

            [deadlines]
            store = "20ms"
            origin_head = 5

            [[cache_page]]
            path = "/a/"
            timeout = 60
            key_prefix = "shop"

            [[cache_page]]
            path = "/b/*"
            authorization = "vary"

            [django]
            version = "5.2.19"
            "#,
        )
        .unwrap();
        assert_eq!(config.takeover, Some(PathBuf::from("/run/cachepage.sock")));
        assert_eq!(config.store.to_string(), "memory");
        assert_eq!(config.site.unwrap().as_str(), "shop.example");
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!((config.max_entry, config.memory_limit, config.near), (2 << 20, 1000, Some(64 << 20)));
        assert_eq!(config.deadlines.store, Duration::from_millis(20));
        assert_eq!(config.deadlines.origin.head, Duration::from_secs(5));
        assert_eq!(config.rules[0].key_prefix, "shop");
        assert_eq!(config.rules[1].timeout, Duration::from_secs(60));
        assert_eq!(config.rules[1].authorization, Authorization::Vary);
        let warnings = [
            "cachepage.toml:27: [django] has no effect with keys = \"path\"",
            "near has no effect with store = \"memory\"",
        ];
        assert_eq!(config.warnings, warnings);
    }

    #[test]
    fn the_file_in_the_docs_has_the_defaults() {
        let docs = include_str!("../../docs/settings.md");
        let file = docs.split_once("```toml\nlisten").unwrap().1.split_once("```").unwrap().0;
        let file = &format!("listen{file}");
        let config = parse(&[], file).unwrap();
        let default = parse(&[], "").unwrap();
        let comparable = |config: &Config| {
            let config = Config { follows: Vec::new(), leaves: Leaves::default(), ..config.clone() };
            let config = Config { rules: Vec::new(), site: None, ..config };
            format!("{config:?}")
        };
        assert_eq!(comparable(&config), comparable(&default));
        assert_eq!(config.rules, [Rule::new("/api/properties/cached/", 60).unwrap()]);
        assert_eq!(config.follows[0].to_string(), "127.0.0.1:5432/shop, channel cachepage");
    }

    #[test]
    fn flags_win_over_the_file_and_their_rules_go_first() {
        let file = "listen = \"127.0.0.1:1\"\n[[cache_page]]\npath = \"/*\"\n";
        let config =
            parse(&["--listen", "127.0.0.1:2", "--cache", "/a=/b/=5", "--cache", "/c/"], file).unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "http://127.0.0.1:2");
        let matches: Vec<_> = ["/a=/b/", "/c/", "/d"]
            .map(|path| config.rules.iter().position(|rule| rule.matches(path)).unwrap())
            .into();
        assert_eq!(matches, [0, 1, 2]);
        assert_eq!(config.rules[0].timeout, Duration::from_secs(5));
    }

    #[test]
    fn all_faults_are_reported_together_each_with_its_place() {
        let faults = parse(
            &["--origin", "nonsense", "--cache", "x=5"],
            "listen = 8000\nsite = \"a b\"\nextra = 1\n[deadlines]\nstore = \"0s\"\n[[cache_page]]\ntimeout = -1\n[[cache_page]]\npath = \"/\"\nauthorization = \"no\"\n",
        )
        .unwrap_err();
        let places = [
            "--cache (PROXY_CACHE) x=5: ",
            "cachepage.toml:6: path: missing: ",
            "cachepage.toml:7: timeout: ",
            "cachepage.toml:10: authorization: ",
            "cachepage.toml:1: listen: ",
            "--origin (PROXY_ORIGIN): ",
            "cachepage.toml:2: site: ",
            "cachepage.toml:5: deadlines.store: ",
            "cachepage.toml:3: extra: ",
        ];
        assert_eq!(faults.len(), places.len(), "{faults:#?}");
        for (fault, place) in faults.iter().zip(places) {
            assert!(fault.starts_with(place), "{fault} | {place}");
        }
    }

    #[test]
    fn broken_toml_is_reported_with_its_lines_and_with_the_faults_of_the_flags() {
        let faults =
            parse(&["--listen", "x"], "listen = \"127.0.0.1:1\"\norigin = \n\nsite = = 1\n").unwrap_err();
        assert!(faults[0].starts_with("cachepage.toml:2: "), "{faults:#?}");
        assert!(faults[1].starts_with("cachepage.toml:4: "), "{faults:#?}");
        assert!(faults.last().unwrap().starts_with("--listen"), "{faults:#?}");
    }

    #[test]
    fn the_django_section_is_read() {
        let config = parse(
            &["--keys", "django"],
            r#"
            [django]
            version = "6.1.3"
            key_prefix = "x"
            key_version = 7
            language = "en-us"
            languages = ["de", "zh-Hant"]
            time_zone = "Etc/GMT+5"
            script_name = "/app"
            compressor = "zlib"
            write = false
            use_x_forwarded_host = true

            [django.hit_headers]
            X-Frame-Options = "SAMEORIGIN"
            Referrer-Policy = ""
            "#,
        )
        .unwrap();
        assert!(!config.writes && config.warnings.is_empty(), "{:?}", config.warnings);
        let (Keys::Django(django), Format::Pickled(pickled)) = (config.keys, config.format) else { panic!() };
        assert_eq!((django.key_prefix.as_str(), django.version), ("x", 7));
        let Some(Language::Negotiated(locale)) = &django.language else { panic!() };
        assert_eq!(
            (locale.languages.clone(), locale.default.as_str()),
            (vec!["de".into(), "zh-hant".into()], "en-us")
        );
        assert_eq!((django.time_zone.as_deref(), django.use_x_forwarded_host), (Some("Etc/GMT+5"), true));
        assert_eq!(pickled.compressor, Compressor::Zlib);
        let headers: Vec<_> = pickled.hit_headers.values().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(headers, ["SAMEORIGIN", "nosniff", "same-origin"]);
    }

    #[test]
    fn a_django_without_language_and_time_zone_is_a_warning() {
        let warnings = parse(&["--keys", "django"], "").unwrap().warnings;
        assert!(warnings[0].starts_with("[django] has neither language nor time_zone"), "{warnings:?}");
    }

    #[test]
    fn grace_and_the_like_are_refused_with_djangos_keys() {
        for option in ["grace = 10", "stale_if_error = 300", "early_refresh = 1.0"] {
            let rule = format!("[[cache_page]]\npath = \"/\"\n{option}\n");
            assert!(parse(&[], &rule).is_ok(), "{option}");
            let faults = parse(&["--keys", "django"], &rule).unwrap_err();
            assert!(faults[0].contains("keys = \"path\""), "{faults:?}");
        }
        let faults =
            parse(&[], "[[cache_page]]\npath = \"/\"\nearly_refresh = -1\ngrace = 0.5\n").unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn faults_of_the_django_section_are_reported_with_their_lines() {
        let file = "keys = \"django\"\n[django]\nversion = \"1.11\"\nkey_version = -1\ncompressor = \"rar\"\nwrite = 1\n\
                    languages = [\"de\"]\ntime_zone = \"a b\"\nhit_headers.\"a b\" = \"x\"\nunknown = 1\n";
        let faults = parse(&[], file).unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        let file_lines = ["6", "5", "9", "3", "4", "8"].map(|line| format!("cachepage.toml:{line}"));
        assert_eq!(lines[..6], file_lines, "{faults:#?}");
        assert_eq!(lines[6..], ["django.languages", "cachepage.toml:10"], "{faults:#?}");
    }

    #[test]
    fn a_proxy_that_is_its_own_origin_is_a_fault() {
        let faults = parse(&["--listen", "127.0.0.1:8001"], "").unwrap_err();
        assert_eq!(
            faults,
            ["origin: http://127.0.0.1:8001 is where the proxy itself listens: change --origin or --listen"]
        );
    }

    #[test]
    fn an_address_that_is_there_twice_is_a_fault() {
        let twice = "[[listen]]\naddress = \"127.0.0.1:80\"\n".repeat(2);
        assert_eq!(parse(&[], &twice).unwrap_err(), ["listen: http://127.0.0.1:80 is there twice"]);
        let faults = parse(&["--admin", "127.0.0.1:8000"], "").unwrap_err();
        assert_eq!(faults, ["admin.listen: http://127.0.0.1:8000 is where the proxy listens for clients"]);
        let free = "[[listen]]\naddress = \"127.0.0.1:0\"\n".repeat(2);
        assert!(parse(&["--admin", "127.0.0.1:0"], &free).is_ok());
    }

    #[test]
    fn numbers_sizes_and_times_are_checked_whole() {
        for (name, faults) in [
            (
                "max_entry",
                &["\"-1\"", "\"1M B\"", "\"1MiBx\"", "\"\"", "true", "0x10", "\"99999999999GiB\""][..],
            ),
            ("near", &["\"on\"", "\"99999999999999999999999\"", "-1"]),
            (
                "deadlines.store",
                &[
                    "0",
                    "\"-1s\"",
                    "\"5 parsecs\"",
                    "\"50msx\"",
                    "1.5",
                    "\"\"",
                    "\"400d\"",
                    "99999999999999999999",
                    "\"99999999999999999999s\"",
                ],
            ),
            ("deadlines.origin_total", &["\"-1s\"", "\"x\""]),
            ("limits.head", &["0", "\"17MiB\""]),
            ("limits.headers", &["0", "10001", "-1"]),
            ("limits.connections", &["0", "-1", "1.5", "\"1k\"", "1000000001", "99999999999999999999"]),
            ("trusted_proxies", &["[\"10.0.0.0/8\", \"\"]", "[\"10.0.0.0/8,,::1\"]", "[[\"::1\"]]"]),
            ("takeover", &["\"/run/\""]),
            ("listen", &["[\"127.0.0.1:0\", \"[::1]:0\"]", "8000"]),
        ] {
            for text in faults {
                let said = parse(&[], &format!("{name} = {text}\n"));
                assert!(said.as_ref().is_err_and(|said| said[0].contains(name)), "{name} = {text}: {said:?}");
            }
        }
        let file = "max_entry = 1_000\ndeadlines.origin_total = \"0ms\"\nlimits.headers = 10000\n";
        let config = parse(&[], file).unwrap();
        assert_eq!((config.max_entry, config.deadlines.origin.total), (1000, None));
    }

    #[test]
    fn a_rule_in_single_brackets_is_a_fault_that_says_so() {
        let faults = parse(&[], "[cache_page]\npath = \"/a/\"\n").unwrap_err();
        assert_eq!(faults, ["cachepage.toml:1: a rule is written [[cache_page]], with two brackets"]);
    }

    #[test]
    fn trusted_proxies_are_named_by_flag_or_file() {
        let file = "trusted_proxies = [\"10.0.0.0/8\"]\n";
        for (flags, expected) in
            [(&["--trusted-proxies", "127.0.0.1,::1"][..], "127.0.0.1/32 ::1/128"), (&[], "10.0.0.0/8")]
        {
            let networks = parse(flags, file).unwrap().trusted_proxies;
            assert_eq!(networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" "), expected);
        }
        let said = parse(&["--trusted-proxies", "localhost"], file).unwrap_err();
        assert!(said[0].starts_with("--trusted-proxies (PROXY_TRUSTED_PROXIES): \"localhost\""), "{said:?}");
    }
}
