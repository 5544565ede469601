//! The cache status: what the cache did with a request, for `X-Cache` and `Cache-Status` (RFC 9211).

use std::io::Write as _;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::policy::{Decline, Pass, Wish};
use crate::request::Coding;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The name of the refusal for `only-if-cached`: the client forbids to ask the origin.
pub(crate) const ONLY_IF_CACHED: &str = "only-if-cached";

/// The name of the proxy's own answer to an authority that validates a name.
pub(crate) const ACME_CHALLENGE: &str = "acme-challenge";

/// The cache status of one request. Every answer has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CacheStatus {
    /// Served from the store or the near cache; the seconds that the page stays fresh, if known.
    Hit(Hit, Source, Option<i64>),
    /// Looked up and fetched, and what happens to the page.
    Miss(Miss, Fill),
    /// Looked up and fetched, and not stored, for this reason.
    Declined(Decline),
    /// Neither looked up nor stored.
    Passed(Pass),
    /// A request for a purge, with the name of its end.
    Purge(&'static str),
    /// Answered by the proxy itself: an error of this name, `max-forwards`, or `acme-challenge`.
    Failed(&'static str),
}

/// The outcome of a request, for the figures. Each request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered with a stored page that is fresh.
    Hit,
    /// Answered with a stored page past its end.
    Stale,
    /// Looked up, fetched and admitted to the store.
    Miss,
    /// Answered with the page of a flight that another request led.
    Collapsed,
    /// Answered by the origin without the cache.
    Bypass,
    /// The origin or the proxy failed.
    Error,
    /// Refused for a fault of the client, or at a limit.
    Refused,
}

impl Outcome {
    pub(crate) const ALL: [Self; 7] =
        [Self::Hit, Self::Stale, Self::Miss, Self::Collapsed, Self::Bypass, Self::Error, Self::Refused];

    /// The fixed name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Error => "error",
            Self::Refused => "refused",
        }
    }
}

/// Why a stored page may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Fresh,
    /// It is served in this coding, in which it is also stored.
    Coded(Coding),
    /// Some of its bytes are served.
    Range,
    /// It has ended, and a new one is being fetched.
    Grace,
    /// It has ended, and the origin failed.
    StaleIfError,
    /// It has ended, and the client accepts that.
    MaxStale,
}

/// Where a page was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Store,
    /// In the near cache, without a read from the store.
    Near,
}

/// Why a lookup found nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// Nothing is stored for this URI.
    Uri,
    /// The URI has variants, none of them for this request.
    Vary,
    /// The stored value cannot be decoded, or may not answer this request.
    Unusable,
    /// The store could not be read.
    Store,
    /// The stored page was purged.
    Purged,
    /// The stored page is stale.
    Stale,
    /// The stored page is fresh, but does not meet this wish of the client.
    Request(Wish),
}

/// Whether a page that was admitted is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Its length is known and within the limit: it is stored unless the origin or the store fails.
    Stored,
    /// Its length is unknown: it is stored if it turns out to be within the limit.
    Streamed,
    /// The store cannot be reached, so nothing is stored.
    Skipped,
    /// The store refused the last write.
    Refused,
    /// The proxy only reads the store: Django fills it.
    ReadOnly,
    /// The page came from the leader of a flight.
    Collapsed,
    /// A 304 of the origin has renewed the stored page.
    Renewed,
    /// A 304 of the origin has confirmed the page, which is not stored anew.
    Confirmed,
}

impl CacheStatus {
    /// Sets both headers. `Cache-Status` keeps the members of caches nearer to the origin.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        headers.insert(X_CACHE, HeaderValue::from_static(self.x_cache()));
        self.append(headers);
    }

    /// Sets the `X-Cache` of a hit, so that each hit only appends its `Cache-Status`.
    pub(crate) fn name_hit(headers: &mut HeaderMap) {
        headers.insert(X_CACHE, HeaderValue::from_static("HIT"));
    }

    /// Undoes [`name_hit`](Self::name_hit).
    pub(crate) fn unname(headers: &mut HeaderMap) {
        headers.remove(X_CACHE);
    }

    /// Adds this cache's member to the `Cache-Status` list.
    pub(crate) fn append(self, headers: &mut HeaderMap) {
        // Longer than any status. On the stack, so that only the value is allocated.
        let mut text = [0; 128];
        let mut rest = &mut text[..];
        if write!(rest, "{self}").is_ok() {
            let length = 128 - rest.len();
            if let Ok(value) = HeaderValue::from_bytes(&text[..length]) {
                headers.append(CACHE_STATUS, value);
            }
        }
    }

    /// Writes the line of `Cache-Status`, with its line end.
    pub(crate) fn write(self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"Cache-Status: ");
        match self {
            // The most common status, without the cost of formatting.
            Self::Hit(Hit::Fresh, source, Some(ttl)) => {
                text.extend_from_slice(b"cachepage; hit; ttl=");
                text.extend_from_slice(itoa::Buffer::new().format(ttl.max(0)).as_bytes());
                text.extend_from_slice(source.parameters().as_bytes());
            }
            _ => text.extend_from_slice(self.to_string().as_bytes()),
        }
        text.extend_from_slice(b"\r\n");
    }

    /// Both header lines as text, each with its end, for an answer that the server writes.
    pub(crate) fn lines(self) -> String {
        format!("X-Cache: {}\r\nCache-Status: {self}\r\n", self.x_cache())
    }

    /// The outcome of the request whose answer has this status.
    pub(crate) fn outcome(self, status: StatusCode) -> Outcome {
        match self {
            Self::Hit(Hit::Fresh | Hit::Coded(_) | Hit::Range, ..) => Outcome::Hit,
            Self::Hit(Hit::Grace | Hit::StaleIfError | Hit::MaxStale, ..) => Outcome::Stale,
            Self::Miss(_, Fill::Collapsed) => Outcome::Collapsed,
            Self::Miss(..) => Outcome::Miss,
            Self::Declined(_) | Self::Passed(_) => Outcome::Bypass,
            Self::Failed(ONLY_IF_CACHED) => Outcome::Refused,
            // 503 is the answer at a limit; 500, 502 and 504 are failures.
            Self::Failed(_) | Self::Purge(_) if status == StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
            Self::Failed(_) | Self::Purge(_) if status.is_server_error() => Outcome::Error,
            Self::Failed(_) | Self::Purge(_) if status.is_client_error() => Outcome::Refused,
            Self::Failed(_) | Self::Purge(_) => Outcome::Bypass,
        }
    }

    /// The seconds that the page stays fresh, as the header gives them. The store's clock decides whether a page is there, and
    /// the clock here may be a little ahead of it.
    pub(crate) fn ttl(self) -> Option<i64> {
        match self {
            Self::Hit(Hit::Fresh | Hit::Coded(_) | Hit::Range, _, ttl) => ttl.map(|ttl| ttl.max(0)),
            Self::Hit(_, _, ttl) => ttl,
            _ => None,
        }
    }

    /// The fixed name of the header's `detail`, or of the reason why the cache was left out.
    pub(crate) fn detail(self) -> Option<&'static str> {
        match self {
            Self::Hit(hit, source, _) => hit.detail(source),
            Self::Miss(miss, fill) => fill.parameters().strip_prefix("; detail=").or(miss.detail()),
            Self::Declined(_) | Self::Passed(_) | Self::Failed(_) | Self::Purge(_) => self.bypass(),
        }
    }

    /// The fixed name of the reason why the cache was left out, if it was.
    pub(crate) fn bypass(self) -> Option<&'static str> {
        match self {
            Self::Hit(..) | Self::Miss(..) => None,
            Self::Declined(decline) => Some(decline.name()),
            Self::Passed(pass) => Some(pass.name()),
            Self::Failed(name) | Self::Purge(name) => Some(name),
        }
    }

    /// Whether the page came from the near cache.
    pub(crate) fn is_near(self) -> bool {
        matches!(self, Self::Hit(_, Source::Near, _))
    }

    fn x_cache(self) -> &'static str {
        match self {
            Self::Hit(..) => "HIT",
            Self::Miss(..) => "MISS",
            Self::Declined(_) | Self::Passed(_) | Self::Failed(_) | Self::Purge(_) => "BYPASS",
        }
    }
}

impl std::fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cachepage; ")?;
        match self {
            Self::Hit(hit, source, _) => {
                f.write_str("hit")?;
                self.ttl().map_or(Ok(()), |ttl| write!(f, "; ttl={ttl}"))?;
                hit.detail(*source).map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
            }
            Self::Miss(miss, fill) => {
                write!(f, "fwd={}{}", miss.fwd(), fill.parameters())?;
                let detail = miss.detail().filter(|_| !fill.parameters().contains("detail="));
                detail.map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
            }
            Self::Passed(Pass::Method) => f.write_str("fwd=method"),
            Self::Passed(Pass::NoStore) => f.write_str("fwd=request; detail=no-store"),
            Self::Declined(_) | Self::Passed(_) | Self::Failed(_) | Self::Purge(_) => {
                write!(f, "fwd=bypass; detail={}", self.bypass().unwrap_or_default())
            }
        }
    }
}

impl Hit {
    /// The `detail` in the header.
    fn detail(self, source: Source) -> Option<&'static str> {
        match self {
            Self::Fresh if source == Source::Near => Some("near"),
            Self::Fresh => None,
            Self::Coded(coding) => Some(coding.name()),
            Self::Range => Some("range"),
            Self::Grace => Some("grace"),
            Self::StaleIfError => Some("stale-if-error"),
            Self::MaxStale => Some("max-stale"),
        }
    }
}

impl Source {
    fn parameters(self) -> &'static str {
        match self {
            Self::Store => "",
            Self::Near => "; detail=near",
        }
    }
}

impl Miss {
    /// The value of `fwd`.
    pub(crate) fn fwd(self) -> &'static str {
        match self {
            Self::Uri | Self::Purged => "uri-miss",
            Self::Vary => "vary-miss",
            Self::Unusable | Self::Store => "miss",
            Self::Stale => "stale",
            Self::Request(_) => "request",
        }
    }

    /// The wish of the client that was the reason.
    pub(crate) fn detail(self) -> Option<&'static str> {
        match self {
            Self::Request(wish) => Some(wish.name()),
            _ => None,
        }
    }
}

/// The text for `explain`, which does not know what the origin would answer.
impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fwd={}", self.fwd())?;
        self.detail().map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
    }
}

impl Fill {
    fn parameters(self) -> &'static str {
        match self {
            Self::Stored => "; stored",
            Self::Streamed => "; detail=length-unknown",
            Self::Skipped => "; detail=store-unreachable",
            Self::Refused => "; detail=store-refuses",
            Self::ReadOnly => "; detail=read-only",
            Self::Collapsed => "; collapsed",
            Self::Renewed => "; fwd-status=304; stored",
            Self::Confirmed => "; fwd-status=304",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_two_headers() {
        for (status, x_cache, cache_status) in [
            (CacheStatus::Hit(Hit::Fresh, Source::Store, Some(42)), "HIT", "cachepage; hit; ttl=42"),
            (
                CacheStatus::Hit(Hit::Fresh, Source::Near, Some(42)),
                "HIT",
                "cachepage; hit; ttl=42; detail=near",
            ),
            (CacheStatus::Hit(Hit::Fresh, Source::Store, Some(-1)), "HIT", "cachepage; hit; ttl=0"),
            (CacheStatus::Hit(Hit::Fresh, Source::Store, None), "HIT", "cachepage; hit"),
            (
                CacheStatus::Hit(Hit::Grace, Source::Near, Some(-3)),
                "HIT",
                "cachepage; hit; ttl=-3; detail=grace",
            ),
            (
                CacheStatus::Hit(Hit::StaleIfError, Source::Store, Some(-3)),
                "HIT",
                "cachepage; hit; ttl=-3; detail=stale-if-error",
            ),
            (
                CacheStatus::Hit(Hit::Range, Source::Near, Some(42)),
                "HIT",
                "cachepage; hit; ttl=42; detail=range",
            ),
            (
                CacheStatus::Hit(Hit::Coded(Coding::Br), Source::Near, Some(-1)),
                "HIT",
                "cachepage; hit; ttl=0; detail=br",
            ),
            (CacheStatus::Miss(Miss::Uri, Fill::Stored), "MISS", "cachepage; fwd=uri-miss; stored"),
            (CacheStatus::Miss(Miss::Vary, Fill::Stored), "MISS", "cachepage; fwd=vary-miss; stored"),
            (
                CacheStatus::Miss(Miss::Uri, Fill::Streamed),
                "MISS",
                "cachepage; fwd=uri-miss; detail=length-unknown",
            ),
            (
                CacheStatus::Miss(Miss::Store, Fill::Skipped),
                "MISS",
                "cachepage; fwd=miss; detail=store-unreachable",
            ),
            (
                CacheStatus::Miss(Miss::Uri, Fill::Refused),
                "MISS",
                "cachepage; fwd=uri-miss; detail=store-refuses",
            ),
            (
                CacheStatus::Miss(Miss::Uri, Fill::ReadOnly),
                "MISS",
                "cachepage; fwd=uri-miss; detail=read-only",
            ),
            (CacheStatus::Miss(Miss::Vary, Fill::Collapsed), "MISS", "cachepage; fwd=vary-miss; collapsed"),
            (CacheStatus::Declined(Decline::SetCookie), "BYPASS", "cachepage; fwd=bypass; detail=set-cookie"),
            (CacheStatus::Passed(Pass::Method), "BYPASS", "cachepage; fwd=method"),
            (CacheStatus::Passed(Pass::Rule), "BYPASS", "cachepage; fwd=bypass; detail=no-rule"),
            (CacheStatus::Passed(Pass::Off), "BYPASS", "cachepage; fwd=bypass; detail=rule-off"),
            (CacheStatus::Purge("purge"), "BYPASS", "cachepage; fwd=bypass; detail=purge"),
            (CacheStatus::Miss(Miss::Purged, Fill::Stored), "MISS", "cachepage; fwd=uri-miss; stored"),
            (CacheStatus::Failed("bad-request"), "BYPASS", "cachepage; fwd=bypass; detail=bad-request"),
        ] {
            let mut headers = HeaderMap::new();
            status.apply(&mut headers);
            assert_eq!(
                (&headers[X_CACHE], &headers[CACHE_STATUS]),
                (&x_cache.parse().unwrap(), &cache_status.parse().unwrap())
            );
            let parameter = |name: &str| cache_status.split("; ").find_map(|text| text.strip_prefix(name));
            assert_eq!(status.ttl().map(|ttl| ttl.to_string()).as_deref(), parameter("ttl="));
            // In the header, the reason of a method is the `fwd` itself.
            let detail =
                parameter("detail=").or((status == CacheStatus::Passed(Pass::Method)).then_some("method"));
            assert_eq!(status.detail(), detail);
        }
    }

    #[test]
    fn each_request_has_one_outcome() {
        for (cache, status, outcome) in [
            (CacheStatus::Hit(Hit::Fresh, Source::Near, Some(42)), 200, Outcome::Hit),
            (CacheStatus::Hit(Hit::Fresh, Source::Store, Some(42)), 304, Outcome::Hit),
            (CacheStatus::Hit(Hit::Range, Source::Store, None), 206, Outcome::Hit),
            (CacheStatus::Hit(Hit::Grace, Source::Near, Some(-3)), 200, Outcome::Stale),
            (CacheStatus::Hit(Hit::StaleIfError, Source::Store, Some(-3)), 200, Outcome::Stale),
            (CacheStatus::Miss(Miss::Uri, Fill::Stored), 200, Outcome::Miss),
            (CacheStatus::Miss(Miss::Stale, Fill::Skipped), 200, Outcome::Miss),
            (CacheStatus::Miss(Miss::Vary, Fill::Collapsed), 200, Outcome::Collapsed),
            (CacheStatus::Declined(Decline::Status), 500, Outcome::Bypass),
            (CacheStatus::Passed(Pass::Method), 201, Outcome::Bypass),
            (CacheStatus::Failed("max-forwards"), 200, Outcome::Bypass),
            (CacheStatus::Failed("origin-connect"), 502, Outcome::Error),
            (CacheStatus::Failed("origin-silent"), 504, Outcome::Error),
            (CacheStatus::Failed("broken"), 500, Outcome::Error),
            (CacheStatus::Failed("origin-busy"), 503, Outcome::Refused),
            (CacheStatus::Failed("bad-request"), 400, Outcome::Refused),
            (CacheStatus::Failed("unanswered"), 499, Outcome::Refused),
        ] {
            assert_eq!(cache.outcome(StatusCode::from_u16(status).unwrap()), outcome, "{cache} {status}");
        }
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.name());
        }
    }

    #[test]
    fn the_lines_of_a_status_match_the_written_ones() {
        let status = CacheStatus::Failed("not-http");
        let mut lines = format!("X-Cache: {}\r\n", status.x_cache()).into_bytes();
        status.write(&mut lines);
        assert_eq!(lines, status.lines().as_bytes());
    }

    #[test]
    fn an_inner_cache_keeps_its_member_of_the_list() {
        let mut headers = HeaderMap::from_iter([
            (CACHE_STATUS, HeaderValue::from_static("inner; hit")),
            (X_CACHE, HeaderValue::from_static("HIT")),
        ]);
        CacheStatus::Passed(Pass::Rule).apply(&mut headers);
        let members: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(members, ["inner; hit", "cachepage; fwd=bypass; detail=no-rule"]);
        assert_eq!(headers[X_CACHE], "BYPASS");
    }
}
