//! The head of a stored page: the part that all hits of a page share, made once.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{AGE, ETAG, EXPIRES, HeaderMap, LAST_MODIFIED};
use hyper::{Response, StatusCode};

use super::entry::Version;
use super::forms::{Form, Forms, describe};
use crate::policy::{CacheControl, Staleness, parse_any_day, seconds};
use crate::purge::Stamp;
use crate::text::push_line;
use crate::weight;

/// The head of every hit of a page, except the values of `Age` and `Cache-Status`.
#[derive(Debug)]
pub(crate) struct PageHead {
    pub(super) status: StatusCode,
    /// The stored headers in order, then `Age`, then `X-Cache`.
    pub(super) headers: HeaderMap,
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) expires: Option<u64>,
    pub(super) cost: Duration,
    pub(super) proof: Option<Bytes>,
    pub(super) stamp: Option<Box<Stamp>>,
    /// The generation of the purge log at which it was last found valid, or 0.
    pub(super) valid_at: AtomicU64,
    pub(super) aging: Option<Aging>,
    /// The forms in which the page can be sent; `None` without coded ones.
    pub(super) forms: Option<Box<[SentForm]>>,
    /// The text for the page, made on first use.
    pub(super) text: OnceLock<HeadText>,
    /// The text for a client that has the page already, made on first use.
    pub(super) not_modified: OnceLock<Box<HeadText>>,
}

/// A form of a page that has several.
#[derive(Debug)]
pub(super) struct SentForm {
    pub(super) form: Form,
    /// Where its bytes are among those of the coded forms.
    pub(super) range: Range<usize>,
    /// The head that it is sent with, made on first use.
    pub(super) head: OnceLock<Arc<PageHead>>,
}

/// The text of a head, split at the value of `Age`.
#[derive(Debug)]
pub(super) struct HeadText {
    pub(super) before_age: Box<[u8]>,
    pub(super) after_age: Box<[u8]>,
}

/// The facts that the age of a page is computed from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aging {
    Django {
        /// Its `Expires`, in seconds since 1970, and its `max-age`, in seconds, if it has both.
        lifetime: Option<(i64, i64)>,
        /// When it was made, in seconds since 1970, if a cache behind the proxy has said so.
        born: Option<i64>,
    },
    Http {
        /// When it was made, in seconds since 1970.
        born: i64,
        version: Version,
        staleness: Staleness,
    },
}

impl HeadText {
    /// The text of an answer's head. `has_age` says whether its `Age` differs for each client.
    pub(super) fn of<B>(answer: &Response<B>, has_age: bool) -> Self {
        let status = answer.status();
        let reason = answer.extensions().get().map(ReasonPhrase::as_bytes);
        let reason = reason.or_else(|| status.canonical_reason().map(str::as_bytes)).unwrap_or_default();
        let mut text = [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason, b"\r\n"].concat();
        let mut before_age = None;
        for (name, value) in answer.headers() {
            if *name == AGE && has_age {
                text.extend_from_slice(b"Age: ");
                before_age = Some(std::mem::replace(&mut text, b"\r\n".to_vec()));
            } else {
                push_line(&mut text, name.as_str(), value.as_bytes());
            }
        }
        match before_age {
            Some(before_age) => Self { before_age: before_age.into(), after_age: text.into() },
            None => Self { before_age: text.into(), after_age: Box::default() },
        }
    }
}

impl SentForm {
    /// Identity and the coded forms of a page; `None` if it has no coded ones.
    pub(super) fn all(forms: &Forms) -> Option<Box<[Self]>> {
        let coded = forms.ranges().map(|(coding, range)| (Form::Coded(coding), range));
        let all = std::iter::once((Form::Identity, 0..0)).chain(coded);
        let sent = all.map(|(form, range)| Self { form, range, head: OnceLock::new() });
        (!forms.is_empty()).then(|| sent.collect())
    }
}

impl PageHead {
    /// This head for a form of this length.
    pub(super) fn in_form(&self, form: Form, length: usize) -> Self {
        let mut headers = self.headers.clone();
        describe(&mut headers, form, length);
        Self {
            status: self.status,
            headers,
            reason: self.reason.clone(),
            expires: self.expires,
            cost: self.cost,
            proof: self.proof.clone(),
            stamp: None,
            valid_at: AtomicU64::new(0),
            aging: self.aging,
            forms: None,
            text: OnceLock::new(),
            not_modified: OnceLock::new(),
        }
    }

    /// The coded forms, without their bytes.
    pub(super) fn coded_forms(&self) -> Forms {
        let all = self.forms.iter().flatten();
        Forms::of_lengths(all.filter_map(|sent| match sent.form {
            Form::Identity => None,
            Form::Coded(coding) => Some((coding, sent.range.len())),
        }))
    }

    /// The memory that it holds, in bytes: itself, its map, the text that it was read from, and the texts for hits. Names
    /// that are not common have allocations of their own.
    pub(crate) fn size(&self) -> usize {
        let uncommon = self.headers.keys().filter(|name| name.as_str().starts_with("x-"));
        let names = uncommon.map(|name| weight::shared(name.as_str().len())).sum::<usize>();
        let text = self.text_len();
        let has_validator = self.headers.contains_key(ETAG) || self.headers.contains_key(LAST_MODIFIED);
        let texts = weight::shared(text) + weight::block(text) * (1 + usize::from(has_validator));
        let held = |stamp: &Stamp| size_of::<Stamp>() + stamp.held();
        let stamp = self.stamp.as_deref().map_or(0, |stamp| weight::block(held(stamp)));
        let head = weight::counted(size_of::<Self>()) + weight::tables(&self.headers) + names + texts;
        // Each form may get a head of its own.
        let forms = self.forms.as_deref().unwrap_or_default();
        head * (1 + forms.len()) + stamp + weight::block(size_of_val(forms))
    }

    /// About the length of its text, as stored or as sent.
    pub(super) fn text_len(&self) -> usize {
        /// Room for the status line, and for the metadata that is stored besides the headers.
        const REST: usize = 80;
        /// The length of the colon, the blank and the line's end.
        const LINE: usize = 4;
        let lines = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
        const STAMP: usize = 80;
        let stamp = self.stamp.as_deref().map_or(0, |stamp| STAMP + stamp.held());
        REST + stamp + self.proof.as_ref().map_or(0, Bytes::len) + lines.sum::<usize>()
    }
}

impl Aging {
    /// The facts, or `None` if they say nothing about the age.
    pub(super) fn of(headers: &HeaderMap, born: Option<i64>, version: Option<Version>) -> Option<Self> {
        if let Some(version) = version {
            return Some(Self::Http { born: born?, version, staleness: Staleness::of(headers) });
        }
        let lifetime = || {
            let expires = parse_any_day(headers.get(EXPIRES)?.to_str().ok()?)?;
            Some((seconds(expires), CacheControl::of(headers).max_age()?))
        };
        let lifetime = lifetime();
        (lifetime.is_some() || born.is_some()).then_some(Self::Django { lifetime, born })
    }

    /// The age in seconds. Under Django's policy it is `max(0, max-age - (Expires - now))`, as FetchFromCacheMiddleware
    /// computes it, and no less than the time since the page was made. Under HTTP's policy it is just that time: "current_age
    /// = corrected_initial_age + resident_time" (RFC 9111 §4.2.3).
    pub(super) fn age(self, now: SystemTime) -> u64 {
        let now = seconds(now);
        let age = match self {
            Self::Django { lifetime, born } => {
                let of_django =
                    lifetime.map(|(expires, max_age)| max_age.saturating_sub(expires.saturating_sub(now)));
                of_django.max(born.map(|born| now.saturating_sub(born)))
            }
            Self::Http { born, .. } => Some(now.saturating_sub(born)),
        };
        age.and_then(|age| u64::try_from(age).ok()).unwrap_or(0)
    }
}
