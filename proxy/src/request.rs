//! A client's request, checked and cleaned: the [`Question`] that every decision is made from.

mod coding;
mod content;
mod normalise;
mod question;
pub(crate) mod receive;
pub(crate) mod site;
mod trace;

pub(crate) use coding::{Coding, weighted};
pub(crate) use content::Content;
pub(crate) use normalise::{Changes, Names, Normaliser};
pub(crate) use question::{Lines, Question, TrustedProxies, is_hop_by_hop, is_host, target_of};
pub(crate) use trace::{TRACEPARENT, trace_id, trace_in};

/// Why a request is refused before any decision is made.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The request is malformed or ambiguous.
    #[error("{0}")]
    BadRequest(&'static str),
    /// CONNECT opens a tunnel, and TRACE shows headers to scripts: a cache serves neither.
    #[error("the proxy does not accept this method")]
    Method,
    /// The client wants a stored page only, and there is none (RFC 9111 §5.2.1.7).
    #[error("no stored page may answer, and only-if-cached forbids to ask the origin")]
    OnlyIfCached,
}
