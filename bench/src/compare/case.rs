//! The cases of the comparison: a load and the servers that take part.

use std::fmt::{self, Display, Formatter};

use clap::ValueEnum;

use super::entrant::{Entrant, Kind, Setup};
use super::load::Load;

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// One page, with 30,000 heads as browsers send them
    Heads,
    /// 2,000 pages by Zipf's law, with the same heads
    #[value(name = "pages-2000")]
    Pages2000,
    /// 10,000 pages
    #[value(name = "pages-10000")]
    Pages10000,
    /// One page that varies on Accept and Cookie, in 12 variants
    Varies,
    /// 2,000 pages that vary
    #[value(name = "varies-2000")]
    Varies2000,
    /// One page under Django's keys, which take two reads for each hit
    Django,
    /// 2,000 pages under Django's keys
    #[value(name = "django-2000")]
    Django2000,
    /// One page, with 2,000 rules before the one that matches
    Rules,
    /// One page that the browsers have already, so that they get a 304
    NotModified,
    /// The first KiB of one page
    Range,
    /// One page and one short head, repeated: the easiest case, which no site has
    Repeated,
    /// Requests that pass through to the origin
    Pass,
    /// Requests for new pages: each is fetched and stored
    Misses,
}

impl Case {
    /// The cases with only hits, the easiest last.
    pub(crate) const DEFAULT: [Self; 11] = [
        Self::Heads,
        Self::Pages2000,
        Self::Pages10000,
        Self::Varies,
        Self::Varies2000,
        Self::Django,
        Self::Django2000,
        Self::Rules,
        Self::NotModified,
        Self::Range,
        Self::Repeated,
    ];

    /// The load, and the servers that take part.
    pub(crate) fn plan(self) -> (Load, &'static [Entrant]) {
        let site = |pages| Load::Site { pages, varies: false };
        let varying = |pages| Load::Site { pages, varies: true };
        match self {
            Self::Heads => (site(1), ALL),
            Self::Pages2000 => (site(2_000), CACHES),
            Self::Pages10000 => (site(10_000), CACHES),
            Self::Varies => (varying(1), CACHES),
            Self::Varies2000 => (varying(2_000), CACHES),
            Self::Django => (site(1), DJANGO),
            Self::Django2000 => (site(2_000), DJANGO),
            Self::Rules => (site(1), RULES),
            Self::NotModified => (Load::Part(CONDITIONS), CACHES),
            Self::Range => (Load::Part("Range: bytes=0-1023\r\n"), CACHES),
            Self::Repeated => (Load::Repeated, ALL),
            Self::Pass => (Load::Pass, PASSING),
            Self::Misses => (Load::NewPages, FILLING),
        }
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// The conditions that a browser sends to see whether its page is still current.
const CONDITIONS: &str = "If-None-Match: \"page\"\r\nIf-Modified-Since: Sun, 22 Nov 2026 20:09:06 GMT\r\n";

const REDIS: Entrant = Entrant::new(Kind::Redis);
const NEAR: Entrant = Entrant::new(Kind::Near);
const NGINX: Entrant = Entrant::new(Kind::Nginx);
const VARNISH: Entrant = Entrant::new(Kind::Varnish);
const BLOOM: Entrant = Entrant::new(Kind::Bloom);
const GUNICORN: Entrant = Entrant::new(Kind::Django);
const HYPER: Entrant = Entrant::new(Kind::Hyper);
const RAW: Entrant = Entrant::new(Kind::Raw);

const CACHES: &[Entrant] = &[REDIS, NEAR, NGINX, VARNISH];
/// Yardsticks and slow servers take part in cases of one page only, which show their distance well enough.
const ALL: &[Entrant] = &[REDIS, NEAR, NGINX, VARNISH, BLOOM, GUNICORN, HYPER, RAW];
const DJANGO: &[Entrant] = &[REDIS.with(Setup::DjangoKeys), NEAR.with(Setup::DjangoKeys), NGINX, VARNISH];
/// Near hits cost the least, so they show the cost of rules most clearly.
const RULES: &[Entrant] = &[NEAR, NEAR.with(Setup::ManyRules), NGINX];
const PASSING: &[Entrant] = &[REDIS, NGINX, VARNISH];
const FILLING: &[Entrant] = &[REDIS, NEAR, NGINX, VARNISH, BLOOM];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_nginx_to_compare_with() {
        for case in Case::value_variants() {
            assert!(case.plan().1.contains(&NGINX), "{case}");
        }
    }

    #[test]
    fn the_default_is_all_hits_and_the_easiest_comes_last() {
        let hits = Case::value_variants().iter().filter(|case| case.plan().0.has_hits());
        assert!(hits.eq(&Case::DEFAULT));
        assert_eq!(Case::DEFAULT.last(), Some(&Case::Repeated));
    }
}
