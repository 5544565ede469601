//! The kinds of servers that are compared, and how the proxy is set up in a case.

use std::fmt::{self, Display, Formatter};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The proxy, with each hit from Redis.
    Redis,
    /// The proxy, with its near cache.
    Near,
    Nginx,
    Varnish,
    Bloom,
    Django,
    /// hyper alone, to show its cost.
    Hyper,
    /// tokio alone, to show the cost of tokio and the kernel.
    Raw,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Redis,
        Self::Near,
        Self::Nginx,
        Self::Varnish,
        Self::Bloom,
        Self::Django,
        Self::Hyper,
        Self::Raw,
    ];
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Redis => "proxy, Redis",
            Self::Near => "proxy, near",
            Self::Nginx => "nginx",
            Self::Varnish => "Varnish",
            Self::Bloom => "Bloom",
            Self::Django => "Django",
            Self::Hyper => "hyper, in memory",
            Self::Raw => "raw tokio",
        })
    }
}

/// The settings of the proxy that differ between cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    Plain,
    DjangoKeys,
    /// 1,000 rules for single paths and 1,000 for prefixes stand before the one that matches.
    ManyRules,
}

impl Setup {
    /// The kind of keys.
    pub(crate) fn keys(self) -> &'static str {
        if self == Self::DjangoKeys { "django" } else { "path" }
    }

    /// Additional rules, before those of all cases.
    pub(crate) fn rules(self) -> String {
        let rule = |path: String| format!("[[cache_page]]\npath = \"{path}\"\ntimeout = 60\n");
        let pair = |n| rule(format!("/shop/page-{n}")) + &rule(format!("/shop/section-{n}/*"));
        if self == Self::ManyRules { (0..1_000).map(pair).collect() } else { String::new() }
    }
}

/// A server that takes part in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entrant {
    pub(crate) kind: Kind,
    pub(crate) setup: Setup,
}

impl Entrant {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, setup: Setup::Plain }
    }

    pub(crate) const fn with(self, setup: Setup) -> Self {
        Self { setup, ..self }
    }
}

impl Display for Entrant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let setup = match self.setup {
            Setup::Plain => "",
            Setup::DjangoKeys => ", Django's keys",
            Setup::ManyRules => ", 2,000 rules",
        };
        f.pad(&format!("{}{setup}", self.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_rules_come_before_the_one_that_matches() {
        assert_eq!(Setup::ManyRules.rules().matches("[[cache_page]]").count(), 2_000);
        assert_eq!([Setup::Plain.rules(), Setup::DjangoKeys.rules()], ["", ""]);
    }
}
