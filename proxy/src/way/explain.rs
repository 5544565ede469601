//! `proxy explain`: what the proxy would do with a request, and why. Asks the store, never the origin.

use std::fmt::{self, Display, Formatter};

use bytes::Bytes;
use hyper::Request;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;

use super::{Proxy, now};
use crate::args::Explain;
use crate::key::{Hashed, Keys, Page};
use crate::page::entry::{Entry, Ready};
use crate::page::format::Base;
use crate::policy::{self, Disposition, Rule};
use crate::status::{CacheStatus, Hit, Miss, Source};
use crate::store::Store;

/// All there is to say of a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    request: String,
    host: String,
    rule: Option<String>,
    keys: &'static str,
    /// What is read from the store, in order.
    reads: Vec<Read>,
    page: Option<Found>,
    /// As Cache-Status would say it.
    outcome: String,
    /// Whether an answer of the origin would be stored.
    stored: &'static str,
}

/// One key, and what lies under it.
#[derive(Clone, Debug, Serialize)]
struct Read {
    key: String,
    /// What its digests are made of.
    hashed: Vec<Hashed>,
    holds: String,
    ttl_seconds: Option<u64>,
}

/// A page in the store.
#[derive(Clone, Debug, Serialize)]
struct Found {
    status: u16,
    headers: Vec<(String, String)>,
    body_bytes: usize,
    written_by: &'static str,
}

impl<S: Store> Proxy<S> {
    /// Says what would become of a request.
    pub async fn explain(&self, asked: &Explain) -> Result<Explanation, String> {
        let request = self.request(asked)?;
        let mut explanation = Explanation {
            request: format!("{} {}", request.method, request.uri),
            host: printed(&request.headers[HOST]),
            rule: None,
            keys: match self.keys {
                Keys::Path => "path",
                Keys::Django(_) => "django",
            },
            reads: Vec::new(),
            page: None,
            outcome: String::new(),
            stored: "no: nothing is cached here",
        };
        let rule = match self.policy.disposition(&request) {
            Disposition::Lookup(rule) => rule,
            Disposition::Pass(pass) => {
                explanation.outcome = CacheStatus::Passed(pass).to_string();
                return Ok(explanation);
            }
        };
        explanation.rule = Some(rule.to_string());
        explanation.stored = self.would_be_stored(rule, &request);
        let outcome =
            self.look(Page::of(&request, rule, &self.keys, &self.site), &request, &mut explanation).await;
        explanation.outcome = match outcome {
            Ok(entry) => {
                explanation.page = Some(Found::of(&entry));
                let headers = Ready::from(entry).response(now(), Hit::Fresh, Source::Store);
                headers.headers().get_all("cache-status").iter().next_back().map(printed).unwrap_or_default()
            }
            Err(miss) => format!("cachepage; fwd={}", miss.fwd()),
        };
        Ok(explanation)
    }

    /// The request as it would come from a client.
    fn request(&self, asked: &Explain) -> Result<Parts, String> {
        let mut request =
            Request::get(&asked.url).body(()).map_err(|error| format!("{}: {error}", asked.url))?;
        for line in &asked.headers {
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
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|error| format!("{}: {error}", asked.url))?;
        Ok(request.into_parts().0)
    }

    /// What the request alone tells of the answer's way into the store.
    fn would_be_stored(&self, rule: &Rule, request: &Parts) -> &'static str {
        match () {
            () if !self.writes => "no: [django] write = false, only Django fills the store",
            () if rule.timeout.is_zero() => "no: zero-age, the timeout of the rule is 0",
            () if policy::has_authorization(&request.headers) && !rule.tells_credentials_apart() => {
                "only if the answer is public: the request has Authorization"
            }
            () => "if the answer is a 200 without Set-Cookie, private, no-cache, no-store and Vary: *",
        }
    }

    async fn look(&self, base: Page, request: &Parts, explanation: &mut Explanation) -> Result<Entry, Miss> {
        let value = self.read(&base, base.hashed(None, request), explanation).await?.ok_or(Miss::Uri)?;
        let (page, entry) = match self.format.base(&value) {
            Base::Page(entry) => (base, Some(entry)),
            Base::Unusable => return Err(Miss::Unusable),
            Base::Marker(marker) => {
                let variant = base.variant(&marker, &request.headers);
                let hashed = base.hashed(Some(&marker), request);
                let value = self.read(&variant, hashed, explanation).await?.ok_or(Miss::Vary)?;
                (variant, self.format.decode(&value))
            }
        };
        entry.filter(|entry| page.serves(entry.proved(), request)).ok_or(Miss::Unusable)
    }

    /// Reads a key, and notes what was there.
    async fn read(
        &self,
        page: &Page,
        hashed: Vec<Hashed>,
        explanation: &mut Explanation,
    ) -> Result<Option<Bytes>, Miss> {
        let (value, ttl) = match (self.store.get([&page.key]).await, self.store.ttl(&page.key).await) {
            (Ok([value]), Ok(ttl)) => (value, ttl),
            (Err(error), _) | (_, Err(error)) => {
                let (key, holds) = (page.key.to_string(), error.to_string());
                explanation.reads.push(Read { key, hashed, holds, ttl_seconds: None });
                return Err(if error.is_outage() { Miss::Store } else { Miss::Unusable });
            }
        };
        let holds = value.as_ref().map_or_else(|| "nothing".to_owned(), |value| self.holds(value));
        let ttl_seconds = ttl.map(|ttl| ttl.as_secs());
        explanation.reads.push(Read { key: page.key.to_string(), hashed, holds, ttl_seconds });
        Ok(value)
    }

    fn holds(&self, value: &Bytes) -> String {
        match (self.format.base(value), self.format.decode(value)) {
            (Base::Marker(marker), _) => format!("the names of what the page varies on: {marker}"),
            (_, Some(entry)) => format!("a page of {} bytes", entry.body.len()),
            (_, None) => format!("{} bytes that are no page", value.len()),
        }
    }
}

impl Found {
    fn of(entry: &Entry) -> Self {
        let headers = entry.headers.iter().map(|(name, value)| (name.to_string(), printed(value)));
        Self {
            status: entry.status.as_u16(),
            headers: headers.collect(),
            body_bytes: entry.body.len(),
            written_by: if entry.proof.is_some() { "cachepage" } else { "Django" },
        }
    }
}

fn printed(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "request   {}  Host: {}", self.request, self.host)?;
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
        write!(f, "stored    {}", self.stored)
    }
}
