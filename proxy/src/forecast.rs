//! `proxy forecast`: forecasts the use of a cache from the access logs of a site.
//!
//! A line of a log is a [`Logged`] request. The [`Simulation`] keeps the pages of all requests as the proxy would, under the
//! same keys, for several timeouts at once. Its results are counted for the rule of each request, for its path and for its
//! folder; rules are proposed from the last two. Memory is bounded, however long the logs are.

mod combined;
mod html;
mod json;
mod lines;
mod logged;
mod outlook;
mod propose;
mod simulation;
mod tally;
mod text;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use jiff::Timestamp;
use server::Peer;
use tracing::info;

use lines::LogLines;
use logged::Logged;
pub use outlook::Outlook;
use simulation::Simulation;
use tally::{Groups, Tally};

use crate::args::Forecast;
use crate::config::Config;
use crate::key::{Keys, PageId};
use crate::policy::{Rule, Rules};
use crate::request::Question;
use crate::request::site::Site;

/// The timeouts that are compared, in seconds, besides those of the rules.
const TIMEOUTS: [u64; 4] = [10, 60, 300, 3600];

/// The most paths, and the most folders, that are counted separately.
const MOST_PATHS: usize = 10_000;
const MOST_FOLDERS: usize = 1000;

/// The most hosts that are told apart.
const MOST_HOSTS: usize = 1000;

/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(5);

/// Removes the half of a map whose values have the lowest measure.
fn forget_half<K, V, O: Copy + Ord>(map: &mut HashMap<K, V>, measure: impl Fn(&V) -> O) {
    let mut measures: Vec<O> = map.values().map(&measure).collect();
    let mut surplus = measures.len() / 2;
    let (_, &mut median, _) = measures.select_nth_unstable(surplus);
    map.retain(|_, value| {
        let goes = surplus > 0 && measure(value) <= median;
        surplus -= usize::from(goes);
        !goes
    });
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub struct Unreadable {
    name: String,
    source: io::Error,
}

/// Forecasts the use of a cache from these logs. The rules are those of the settings; if there are
/// none, the forecast proposes some.
pub fn forecast(config: &Config, asked: &Forecast) -> Result<Outlook, Unreadable> {
    let mut reading = Reading::new(config, asked);
    for name in &asked.logs {
        reading.read(name).map_err(|source| Unreadable { name: name.clone(), source })?;
    }
    Ok(Outlook::of(&reading, asked.top))
}

/// The state of the reading.
struct Reading {
    pages: Pages,
    rules: Rules,
    simulation: Simulation,
    lines: u64,
    /// Lines that are no lines of an access log.
    unread: u64,
    requests: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// The first visitor, and whether there is a second one.
    visitor: Option<String>,
    has_several_visitors: bool,
    /// A tally for each rule.
    by_rule: Vec<Tally>,
    by_path: Groups,
    by_folder: Groups,
}

impl Reading {
    fn new(config: &Config, asked: &Forecast) -> Self {
        let by_rule = vec![Tally::default(); config.rules.len()];
        Self {
            pages: Pages::new(config),
            rules: Rules::new(config.rules.clone()),
            simulation: Simulation::new(timeouts(config, asked)),
            lines: 0,
            unread: 0,
            requests: 0,
            first: None,
            last: None,
            visitor: None,
            has_several_visitors: false,
            by_rule,
            by_path: Groups::new(MOST_PATHS),
            by_folder: Groups::new(MOST_FOLDERS),
        }
    }

    fn read(&mut self, name: &str) -> io::Result<()> {
        let mut source = LogLines::open(name)?;
        let mut told = Instant::now();
        while let Some(line) = source.next()? {
            self.lines += 1;
            match Logged::of(line) {
                Some(logged) => self.count(&logged),
                None => self.unread += 1,
            }
            if self.lines.is_multiple_of(4096) && told.elapsed() > PROGRESS {
                told = Instant::now();
                info!(lines = self.lines, log = name, "reading");
            }
        }
        Ok(())
    }

    fn count(&mut self, logged: &Logged<'_>) {
        self.requests += 1;
        self.first = Some(self.first.map_or(logged.time, |first| first.min(logged.time)));
        self.last = Some(self.last.map_or(logged.time, |last| last.max(logged.time)));
        let first = self.visitor.get_or_insert_with(|| logged.client.to_string());
        self.has_several_visitors |= *first != logged.client;
        if !matches!(&*logged.method, "GET" | "HEAD") {
            return;
        }
        let place = self.rules.position(logged.path());
        let rule = place.map(|place| &*self.rules.all()[place]);
        if rule.is_some_and(|rule| rule.is_off) {
            return;
        }
        let key = self.pages.key(logged, rule, &self.rules);
        let played = self.simulation.play(key.key_text(), logged);
        let timeouts = self.simulation.timeouts();
        if let Some(place) = place {
            self.by_rule[place].count(timeouts, logged, &played);
        }
        self.by_path.of(logged.path()).count(timeouts, logged, &played);
        if let Some(folder) = propose::folder(logged.path()) {
            self.by_folder.of(&folder).count(timeouts, logged, &played);
        }
    }
}

/// The timeouts to compare, the shortest first.
fn timeouts(config: &Config, asked: &Forecast) -> Vec<Duration> {
    let of_rules = config.rules.iter().filter(|rule| !rule.is_off).map(|rule| rule.timeout);
    let mut timeouts: Vec<_> = match asked.timeouts[..] {
        [] => TIMEOUTS.map(Duration::from_secs).into_iter().chain(of_rules).collect(),
        ref given => given.iter().copied().map(Duration::from_secs).chain(of_rules).collect(),
    };
    timeouts.retain(|timeout| !timeout.is_zero());
    timeouts.sort();
    timeouts.dedup();
    timeouts
}

/// Names the pages of requests as the proxy does.
struct Pages {
    keys: Keys,
    site: Site,
    /// The lines of a request for each host: a log shows no others.
    lines: HashMap<String, HeaderMap>,
    /// The rule for paths that no rule matches.
    otherwise: Rule,
}

impl Pages {
    fn new(config: &Config) -> Self {
        let site = config.site.clone().unwrap_or_else(|| Site::localhost(config.port()));
        let otherwise = Rule::everything(60);
        Self { keys: config.keys.clone(), site, lines: HashMap::new(), otherwise }
    }

    /// The page of a request. A request without a Host in the log is one for the site.
    fn key(&mut self, logged: &Logged<'_>, rule: Option<&Rule>, rules: &Rules) -> PageId {
        let host = if logged.host.is_empty() { self.site.as_str() } else { &*logged.host };
        if !self.lines.contains_key(host) {
            if self.lines.len() == MOST_HOSTS {
                self.lines.clear();
            }
            let value = HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static("unknown"));
            self.lines.insert(host.to_owned(), HeaderMap::from_iter([(HOST, value)]));
        }
        let question = Question::of(&Method::GET, &logged.target, &self.lines[host], PEER);
        let rule = rule.unwrap_or(&self.otherwise);
        match rules.changes(&question) {
            None => PageId::of(&question, rule, &self.keys, &self.site),
            Some(changes) => {
                let normal = changes.normal_form(&question);
                PageId::of(&Question::of_parts(&normal, PEER), rule, &self.keys, &self.site)
            }
        }
    }
}

/// A peer that nobody trusts.
const PEER: Peer =
    Peer { address: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), is_tls: false };
