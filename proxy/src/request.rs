//! What a client asks, checked and cleaned: the [`Question`] that everything is decided by.

mod question;
pub(crate) mod receive;
pub(crate) mod site;

pub(crate) use question::{Lines, Question, TrustedProxies};

/// Why a request is refused before anything is decided on it.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be understood, or could be understood in two ways.
    #[error("{0}")]
    BadRequest(&'static str),
    /// CONNECT makes tunnels and TRACE shows headers to scripts: neither is for a cache.
    #[error("this proxy does not speak this method")]
    Method,
}
