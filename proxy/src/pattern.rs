//! Patterns of paths and names.

use std::fmt;

/// A text or, with `*` at its end, all texts that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    pub(crate) fn of(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// The text, without the `*`.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    /// The text as settings have it, in two parts.
    pub(crate) fn written(&self) -> [&str; 2] {
        let star = if matches!(self, Self::Prefix(_)) { "*" } else { "" };
        [self.text(), star]
    }

    /// The same kind of pattern with another text.
    pub(crate) fn with(&self, text: String) -> Self {
        match self {
            Self::Exact(_) => Self::Exact(text),
            Self::Prefix(_) => Self::Prefix(text),
        }
    }

    /// Whether it matches a text that consists of these bytes.
    pub(crate) fn matches(&self, mut bytes: impl Iterator<Item = u8>) -> bool {
        match self {
            Self::Exact(text) => bytes.eq(text.bytes()),
            Self::Prefix(text) => text.bytes().all(|byte| bytes.next() == Some(byte)),
        }
    }

    /// Whether it matches every text that the other one matches.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match self {
            Self::Exact(_) => self == other,
            Self::Prefix(prefix) => other.text().starts_with(prefix),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written().iter().try_for_each(|part| f.write_str(part))
    }
}
