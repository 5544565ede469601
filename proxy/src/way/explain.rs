//! `proxy explain`: shows what the proxy would do with a request, and why. It makes the same decision as for a request,
//! with a store that records the reads; the origin is not asked.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use serde::Serialize;
use server::{Peer, SentTarget, in_time};
use tokio::time::Instant;

use super::Proxy;
use super::decide::{Decision, Serving, WantedPage};
use crate::args::Explain;
use crate::error::Error;
use crate::key::{Hashed, Key, PageId, VaryMarker};
use crate::page::format::Base;
use crate::policy::{self, CachePolicy, Disposition, Rule, SetCookie};
use crate::request::receive::{X_FORWARDED_PROTO, receive};
use crate::request::{Content, Lines, Question, target_of};
use crate::status::{ACME_CHALLENGE, CacheStatus};
use crate::store::{Store, StoreError, Values, Write};

/// The explanation of a request: what the proxy would do with it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    request: String,
    host: String,
    /// The origins that the request is for, if there is more than one origin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
    rule: Option<String>,
    keys: &'static str,
    /// The reads from the store, in order.
    reads: Vec<ExplainedRead>,
    page: Option<ExplainedPage>,
    /// The value of Cache-Status.
    outcome: String,
    /// Whether an answer of the origin would be stored.
    stored: &'static str,
    /// The commands that the store refuses, each with the store's reply.
    store_refuses: Vec<String>,
}

/// One key, and what is stored under it.
#[derive(Clone, Debug, Serialize)]
struct ExplainedRead {
    key: String,
    /// The texts whose digests are in it.
    hashed: Vec<Hashed>,
    holds: String,
    ttl_seconds: Option<u64>,
}

/// A page in the store.
#[derive(Clone, Debug, Serialize)]
struct ExplainedPage {
    status: u16,
    headers: Vec<(String, String)>,
    body_bytes: usize,
    written_by: &'static str,
}

/// A key that was read, and the outcome.
type Note = (Key, Result<Option<Bytes>, StoreError>);

/// A store that is read until a deadline, with a record of each read.
struct NotedValues<'a, S> {
    store: &'a S,
    deadline: Instant,
    notes: Mutex<Vec<Note>>,
}

impl<S: Store> NotedValues<'_, S> {
    async fn until_deadline<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        in_time(self.deadline, read).await.unwrap_or(Err(StoreError::Deadline(Explanation::PATIENCE)))
    }

    /// The reads so far.
    fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Store> Values for NotedValues<'_, S> {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        let values = self.until_deadline(self.store.get(keys)).await;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, key) in keys.into_iter().enumerate() {
            let value = values.as_ref().map(|values| values[index].clone()).map_err(Clone::clone);
            notes.push((Key::new(key), value));
        }
        values
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        self.until_deadline(self.store.ttl(key)).await
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        self.store.put(writes, ttl).await
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.store.replace(key, start, value, ttl).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.store.delete(keys).await
    }
}

impl Explanation {
    /// How long the store is asked, for all that an explanation tells of it. A person at a terminal can wait longer than a
    /// client.
    pub const PATIENCE: Duration = Duration::from_secs(2);
}

impl<S: Store> Proxy<S> {
    /// Explains a request of this peer.
    pub async fn explain(&self, asked: &Explain, peer: IpAddr) -> Result<Explanation, String> {
        let peer = Peer { address: (peer, 0).into(), is_tls: self.gets_tls(&asked.url) };
        let mut request = self.request(&asked.url, &asked.headers)?;
        if let Some(content) = &asked.query {
            request.method = Method::QUERY;
            request.extensions.insert(Content::new(Bytes::copy_from_slice(content.as_bytes())));
        }
        let mut explanation = Explanation {
            request: format!("{} {}", request.method, target_of(&request.uri, &request.extensions)),
            host: request.headers.get(HOST).map(printed).unwrap_or_default(),
            origins: Vec::new(),
            rule: None,
            keys: self.keys.name(),
            reads: Vec::new(),
            page: None,
            outcome: String::new(),
            stored: "no: nothing is cached here",
            store_refuses: Vec::new(),
        };
        // Requests over https come from a trusted proxy with TLS, wherever the command runs.
        let is_forwarded = self.is_behind_tls(&asked.url) && self.trusted.are_some();
        let is_trusted = is_forwarded || self.trusted.contains(peer.ip());
        if let Err(refusal) = receive(&mut request, peer, is_trusted, &self.site) {
            explanation.outcome = CacheStatus::Failed(Error::from(refusal).kind().1).to_string();
            return Ok(explanation);
        }
        self.normalise(&mut request, peer);
        explanation.origins = self.upstreams.named(&request);
        let question = Question::of_parts(&request, peer);
        explanation.rule = self.policy.rules().find(question.path).map(|rule| rule.to_string());
        if let Disposition::Lookup(rule, _) = self.policy.rules().disposition(&question) {
            explanation.stored = self.would_be_stored(rule, &request.headers);
        }
        // This comes before the decision, which avoids commands that the store refuses.
        let deadline = Instant::now() + Explanation::PATIENCE;
        let prefixes = self.keys.prefixes();
        // Half of the time is left for the page: its node may answer even if another one does not.
        let trials = in_time(deadline - Explanation::PATIENCE / 2, self.store.refusals(&prefixes));
        let refusals = trials.await.unwrap_or_default();
        explanation.store_refuses = refusals.iter().map(ToString::to_string).collect();
        let values = NotedValues { store: &self.store, deadline, notes: Mutex::default() };
        let decision = self.decide(&question, Instant::now(), &values).await;
        for (key, value) in values.notes() {
            let ttl = values.ttl(key.as_bytes()).await.ok().flatten();
            explanation.reads.push(self.explain_read(&key, value, ttl, &decision, &question));
        }
        (explanation.outcome, explanation.page) = match &decision {
            Decision::Serve(serving) => (serving.cache().to_string(), Some(ExplainedPage::of(serving))),
            Decision::Fetch(wanted) => (format!("cachepage; {}", wanted.miss), None),
            Decision::Pass(pass) => (CacheStatus::Passed(*pass).to_string(), None),
            Decision::Refuse(refusal) => {
                (CacheStatus::Failed(Error::from(*refusal).kind().1).to_string(), None)
            }
            Decision::Prove(_) => (CacheStatus::Failed(ACME_CHALLENGE).to_string(), None),
        };
        Ok(explanation)
    }

    /// Whether requests for a URL come over TLS to this proxy.
    pub(super) fn gets_tls(&self, url: &str) -> bool {
        self.speaks_tls && is_https(url)
    }

    /// Whether requests for a URL come over TLS to a proxy before this one.
    fn is_behind_tls(&self, url: &str) -> bool {
        !self.speaks_tls && is_https(url)
    }

    /// The request as a client would send it. An https request comes through a trusted proxy with TLS, unless this proxy
    /// speaks TLS.
    pub(super) fn request(&self, url: &str, headers: &[String]) -> Result<Parts, String> {
        let readable = SentTarget::stand_in(url);
        let mut request = Request::get(&readable).body(()).map_err(|error| format!("{}: {error}", url))?;
        for line in headers {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is not NAME: VALUE"))?;
            let fault = |error: &dyn Display| format!("{line:?}: {error}");
            let name: HeaderName = name.trim().parse().map_err(|error| fault(&error))?;
            let value: HeaderValue = value.trim().parse().map_err(|error| fault(&error))?;
            request.headers_mut().append(name, value);
        }
        if !request.headers().contains_key(HOST) {
            let host = request.uri().authority().map_or(self.site.as_str(), |authority| authority.as_str());
            let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
            request.headers_mut().insert(HOST, host);
        }
        if self.is_behind_tls(url) && !request.headers().contains_key(X_FORWARDED_PROTO) {
            request.headers_mut().insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        // Both texts have the same length, and the path is the end of each.
        let sent = url.get(url.len().saturating_sub(path.len())..).filter(|_| readable != url);
        let sent = sent.map(SentTarget::from);
        *request.uri_mut() = path.parse().map_err(|error| format!("{}: {error}", url))?;
        if let Some(sent) = sent {
            request.extensions_mut().insert(sent);
        }
        Ok(request.into_parts().0)
    }

    /// Whether an answer would be stored, as far as the request alone determines it.
    fn would_be_stored(&self, rule: &Rule, request: &HeaderMap) -> &'static str {
        match () {
            () if !self.writes => "no: [django] write = false, only Django fills the store",
            () if rule.timeout.is_zero() => "no: zero-age, the timeout of the rule is 0",
            () if policy::has_authorization(Lines::Map(request)) && !rule.tells_credentials_apart() => {
                "only if the answer is public: the request has Authorization"
            }
            () if rule.policy != CachePolicy::Django => {
                "if the origin allows it and says how long it is fresh or, with keys = \"path\", gives a validator"
            }
            () if rule.set_cookie == SetCookie::Strip => {
                "if the answer is a 200 without private, no-cache, no-store and Vary: *; then without its Set-Cookie"
            }
            () => "if the answer is a 200 without Set-Cookie, private, no-cache, no-store and Vary: *",
        }
    }

    /// Explains the outcome of one read.
    fn explain_read(
        &self,
        key: &Key,
        value: Result<Option<Bytes>, StoreError>,
        ttl: Option<Duration>,
        decision: &Decision,
        question: &Question<'_>,
    ) -> ExplainedRead {
        let hashed = self.hashed(key, decision, question);
        let holds = match value {
            Ok(Some(value)) => self.holds(&value),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        ExplainedRead { key: key.to_string(), hashed, holds, ttl_seconds: ttl.map(|ttl| ttl.as_secs()) }
    }

    /// The texts whose digests are in a key that was read: the page's own, that of its path, or a variant's.
    fn hashed(&self, key: &Key, decision: &Decision, question: &Question<'_>) -> Vec<Hashed> {
        let Disposition::Lookup(rule, _) = self.policy.rules().disposition(question) else {
            return Vec::new();
        };
        let id = PageId::of(question, rule, &self.keys, &self.site);
        let marker: Option<&VaryMarker> = match decision {
            Decision::Serve(Serving { marker, .. }) => marker.as_deref(),
            Decision::Fetch(wanted) => {
                let WantedPage { marker, .. } = &**wanted;
                marker.as_deref()
            }
            Decision::Pass(_) | Decision::Refuse(_) | Decision::Prove(_) => None,
        };
        let variant = marker.map(|marker| (id.variant(marker, question, rule), Some(marker)));
        let of_path = id.of_path(rule).map(|id| (id, None));
        let mut read = [Some((id, None)), of_path, variant].into_iter().flatten();
        let read = read.find(|(id, _)| id.key_text() == key.as_bytes());
        read.map(|(id, marker)| id.hashed(marker, question)).unwrap_or_default()
    }

    fn holds(&self, value: &Bytes) -> String {
        match (self.format.base(value), self.format.decode(value)) {
            (Base::Marker(marker), _) => {
                format!("what the page varies on: {marker}")
            }
            (_, Some(entry)) => {
                let purged = if self.is_purged_entry(&entry) { ", which was purged" } else { "" };
                let forms = match entry.forms.text() {
                    text if text.is_empty() => text,
                    text => format!(", compressed {text}"),
                };
                format!("a page of {} bytes{forms}{purged}", entry.body.len())
            }
            (_, None) => format!("{} bytes that are no page", value.len()),
        }
    }
}

impl ExplainedPage {
    fn of(serving: &Serving) -> Self {
        let page = serving.page.clone().in_form(serving.form).entry(serving.now);
        let headers = page.headers.iter().map(|(name, value)| (name.to_string(), printed(value)));
        Self {
            status: page.status.as_u16(),
            headers: headers.collect(),
            body_bytes: page.body.len(),
            written_by: if page.proof.is_some() { "cachepage" } else { "Django" },
        }
    }
}

/// Whether a URL begins with https. Schemes have no case.
fn is_https(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

fn printed(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "request   {}  Host: {}", self.request, self.host)?;
        if !self.origins.is_empty() {
            writeln!(f, "origin    one of {}", self.origins.join(", "))?;
        }
        writeln!(f, "rule      {}", self.rule.as_deref().unwrap_or("none"))?;
        writeln!(f, "keys      {}", self.keys)?;
        for read in &self.reads {
            writeln!(f, "key       {}", read.key)?;
            for hashed in &read.hashed {
                writeln!(f, "  md5     {} of the {} {:?}", hashed.md5, hashed.of, hashed.text)?;
            }
            let ttl = read.ttl_seconds.map(|ttl| format!(", for {ttl} s more")).unwrap_or_default();
            writeln!(f, "  holds   {}{ttl}", read.holds)?;
        }
        if let Some(page) = &self.page {
            writeln!(
                f,
                "page      {}, {} bytes, written by {}",
                page.status, page.body_bytes, page.written_by
            )?;
            for (name, value) in &page.headers {
                writeln!(f, "  {name}: {value}")?;
            }
        }
        writeln!(f, "outcome   {}", self.outcome)?;
        write!(f, "stored    {}", self.stored)?;
        self.store_refuses.iter().try_for_each(|refusal| write!(f, "\nrefused   {refusal}"))
    }
}
