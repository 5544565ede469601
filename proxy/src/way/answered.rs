//! The record of a request: the only place that counts it and writes its log line.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, REFERER, USER_AGENT};
use hyper::{Method, StatusCode, Version};
use server::{Peer, Record, Refused};
use tokio::time::Instant;
use tracing::{Level, debug};

use super::made_names::X_REQUEST_ID;
use super::{Proxy, now};
use crate::access_log::{LineText, LogLine, WorkerLog};
use crate::counts::{Cells, CountedRequest};
use crate::policy::Rule;
use crate::request::{Question, trace_id, trace_in};
use crate::status::{CacheStatus, Outcome};
use crate::store::Store;

/// The status of a request whose client left before its answer began, as in nginx's log.
const CLIENT_GONE: u16 = 499;

/// The record of a request, from its beginning to the last byte of its answer. Dropping it counts the request and writes
/// the lines.
#[derive(Debug)]
pub struct Answered {
    /// The cells of the worker that the request began on, if requests are counted.
    cells: Option<Arc<Cells>>,
    /// The fields for the logs, if one of them wants a line.
    asked: Option<Box<Asked>>,
    /// The index of the rule, if the request has one and requests are counted.
    rule: Option<usize>,
    status: StatusCode,
    cache: CacheStatus,
    /// The bytes of the body that were given to hyper or, by the front, to the kernel.
    bytes: u64,
    pub(super) began: Instant,
}

/// The fields that only the lines of the logs need.
#[derive(Debug)]
struct Asked {
    /// The access log of the worker that the request began on, if there is one.
    log: Option<Arc<WorkerLog>>,
    method: Method,
    texts: Texts,
    client: IpAddr,
    scheme: &'static str,
    /// The version of HTTP; `None` if no request was read.
    version: Option<Version>,
    /// The origin that was asked, and how long it took for the head.
    origin: Option<(Arc<str>, Duration)>,
    looked: Option<Duration>,
}

/// The texts of [`Asked`] in one allocation, so that a hit allocates little.
#[derive(Debug)]
struct Texts {
    /// The texts, one behind the other. The path of the rule is the last.
    all: Vec<u8>,
    ends: [usize; TEXTS],
}

/// Target, Host, Referer, User-Agent, X-Request-Id and the id of the trace.
const TEXTS: usize = 6;

/// The room for the path of a rule. Most rules have shorter paths.
const RULE: usize = 64;

impl<S> Proxy<S> {
    /// Begins the record of a request. The fields for the logs are copied only if a log wants a line.
    pub(super) fn record(
        &self,
        question: &Question<'_>,
        version: Option<Version>,
        began: Instant,
    ) -> Answered {
        let cells = self.counts.as_ref().map(|counts| counts.own().clone());
        let log = self.access_log.as_ref().map(|log| log.own().clone());
        let is_logged = log.is_some() || tracing::enabled!(Level::DEBUG);
        let place = || self.policy.rules().position(question.path);
        let rule = if cells.is_some() || log.is_some() { place() } else { None };
        Answered {
            asked: is_logged.then(|| Box::new(self.asked(question, version, rule, log))),
            rule,
            cells,
            status: StatusCode::from_u16(CLIENT_GONE).unwrap_or_default(),
            cache: CacheStatus::Failed("unanswered"),
            bytes: 0,
            began,
        }
    }

    fn asked(
        &self,
        question: &Question<'_>,
        version: Option<Version>,
        rule: Option<usize>,
        log: Option<Arc<WorkerLog>>,
    ) -> Asked {
        let header = |name: &HeaderName| question.lines.get(name).unwrap_or_default();
        let rule = rule.and_then(|place| self.policy.rules().all().get(place));
        let made = self.new_names(question.lines);
        let made_trace = made.traceparent.as_deref().and_then(|made| trace_in(made.as_bytes()));
        let texts = [
            question.target.as_bytes(),
            question.authority,
            header(&REFERER),
            header(&USER_AGENT),
            made.request_id.as_deref().map_or_else(|| header(&X_REQUEST_ID), str::as_bytes),
            made_trace.or_else(|| trace_id(question.lines)).unwrap_or_default(),
        ];
        Asked {
            log,
            method: question.method.clone(),
            texts: Texts::new(texts, rule.map(|rule| &**rule)),
            client: self.trusted.client(question.peer.ip(), question.lines),
            scheme: question.scheme,
            version,
            origin: None,
            looked: None,
        }
    }
}

impl<S: Store> Proxy<S> {
    /// Records an answer that the server gives by itself. Returns further header lines for it.
    pub(super) fn refused(&self, refused: Refused, bytes: u64, peer: Peer) -> String {
        self.log_refusal(refused.name, refused.reason, peer);
        let method = Method::from_bytes(b"-").unwrap_or_default();
        let status = StatusCode::from_u16(refused.status).unwrap_or_default();
        let cache = CacheStatus::Failed(refused.name);
        let record = self.record(&Question::unread(&method, &HeaderMap::new(), peer), None, Instant::now());
        record.with(status, cache).sent(bytes);
        cache.lines()
    }
}

impl Answered {
    /// Adds the status of the answer.
    pub(super) fn with(mut self, status: StatusCode, cache: CacheStatus) -> Self {
        (self.status, self.cache) = (status, cache);
        self
    }

    /// Adds how long the look into the store took, if that was measured.
    pub(super) fn looked(&mut self, took: Option<Duration>) {
        if let Some(asked) = &mut self.asked {
            asked.looked = took;
        }
    }

    /// Adds the origin that was asked, if one was, and how long its answer took.
    pub(super) fn fetched(&mut self, origin: Option<(Arc<str>, Duration)>) {
        if let (Some(asked), Some(origin)) = (&mut self.asked, origin) {
            asked.origin = Some(origin);
        }
    }

    fn count(&self, cells: &Cells, took: Duration) {
        cells.count(&CountedRequest {
            outcome: self.cache.outcome(self.status),
            status: self.status,
            rule: self.rule,
            detail: self.cache.bypass(),
            bytes: self.bytes,
            took,
            is_near: self.cache.is_near(),
        });
    }

    /// Writes the line of the program's log, at its level.
    fn log(&self, asked: &Asked, took: Duration) {
        debug!(
            method = %asked.method,
            target = &*String::from_utf8_lossy(&asked.texts.all[..asked.texts.ends[0]]),
            status = self.status.as_u16(),
            cache_status = %self.cache,
            bytes = self.bytes,
            microseconds = took.as_micros() as u64,
            "answered"
        );
    }

    /// Writes the line of the access log, unless it belongs to a hit that is sampled out.
    fn log_access(&self, asked: &Asked, log: &WorkerLog, took: Duration) {
        let (settings, outcome) = (log.settings(), self.cache.outcome(self.status));
        if outcome == Outcome::Hit
            && settings.sample_hits < 1.0
            && rand::random::<f64>() >= settings.sample_hits
        {
            return;
        }
        let ([target, host, referer, user_agent, request_id, trace_id], rule) = asked.texts.get();
        // If no request was read, the record has a dash, which is for the program's log only.
        let (method, target, protocol) = match asked.version {
            None => ("", LineText::EMPTY, ""),
            Some(Version::HTTP_2) => (asked.method.as_str(), target, "HTTP/2.0"),
            Some(Version::HTTP_10) => (asked.method.as_str(), target, "HTTP/1.0"),
            Some(_) => (asked.method.as_str(), target, "HTTP/1.1"),
        };
        let (path, query) = target.split_query();
        let (target, query, referer) = match settings.redact_query {
            true => (path, LineText::EMPTY, referer.split_query().0),
            false => (target, query, referer),
        };
        let (origin, origin_us) =
            asked.origin.as_ref().map(|(origin, took)| (&**origin, micros(*took))).unzip();
        log.add(&LogLine {
            time: now() - took,
            client: asked.client,
            method: LineText::new(method.as_bytes()),
            scheme: LineText::fixed(asked.scheme),
            host,
            path,
            query,
            protocol: LineText::fixed(protocol),
            status: self.status.as_u16(),
            bytes: self.bytes,
            duration_us: micros(took),
            outcome: LineText::fixed(outcome.name()),
            detail: LineText::fixed(self.cache.detail().unwrap_or_default()),
            ttl: self.cache.ttl(),
            rule,
            origin: LineText::new(origin.unwrap_or_default().as_bytes()),
            origin_us,
            store_us: asked.looked.map(micros),
            referer,
            user_agent,
            request_id,
            trace_id,
            target,
            cache_status: self.cache,
        });
    }
}

impl Texts {
    fn new(texts: [&[u8]; TEXTS], rule: Option<&Rule>) -> Self {
        let mut all = Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() + RULE);
        let ends = texts.map(|text| {
            all.extend_from_slice(text);
            all.len()
        });
        for part in rule.iter().flat_map(|rule| rule.path.written()) {
            all.extend_from_slice(part.as_bytes());
        }
        Self { all, ends }
    }

    /// The texts, and the path of the rule. Whether they are printable is asked once for all of them.
    fn get(&self) -> ([LineText<'_>; TEXTS], LineText<'_>) {
        let (all, mut start) = (LineText::new(&self.all), 0);
        let texts = self.ends.map(|end| all.part(mem::replace(&mut start, end)..end));
        (texts, all.part(start..))
    }
}

impl Record for Answered {
    fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if self.cells.is_none() && self.asked.is_none() {
            return;
        }
        let took = self.began.elapsed();
        // Purges have counters of their own.
        if let Some(cells) = self.cells.as_ref().filter(|_| !matches!(self.cache, CacheStatus::Purge(_))) {
            self.count(cells, took);
        }
        if let Some(asked) = &self.asked {
            self.log(asked, took);
            if let Some(log) = &asked.log {
                self.log_access(asked, log, took);
            }
        }
    }
}

fn micros(took: Duration) -> u64 {
    took.as_micros() as u64
}
