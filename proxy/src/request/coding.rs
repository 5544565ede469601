//! Content codings, and which of them a client prefers by its `Accept-Encoding` (RFC 9110 §12.5.3).

use smallvec::SmallVec;

use crate::text::thousandths;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// The codings that browsers accept, the one that compresses best first.
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// The coding that the lines of an `Accept-Encoding` prefer among the offered ones: the one with the highest weight and,
    /// of equal weights, the first offered. `None` is identity.
    pub(crate) fn preferred<'a>(lines: impl Iterator<Item = &'a [u8]>, offered: &[Self]) -> Option<Self> {
        let members = lines.flat_map(|line| line.split(|&byte| byte == b','));
        let members: SmallVec<[_; 8]> = members.filter_map(weighted).collect();
        let weight = |is_it: &dyn Fn(&[u8]) -> bool| {
            members.iter().find(|(name, _)| is_it(name)).map(|(_, weight)| *weight)
        };
        let others = weight(&|name| name == b"*").unwrap_or(0);
        // Without a weight of its own, identity is acceptable, and only better than nothing.
        let identity = weight(&|name| name.eq_ignore_ascii_case(b"identity")).unwrap_or(0);
        let weight_of = |coding: Self| weight(&|name| coding.is_named(name)).unwrap_or(others);
        // `max_by_key` takes the last of equal ones, hence the reverse order.
        let best = offered.iter().rev().copied().max_by_key(|coding| weight_of(*coding))?;
        (weight_of(best) > 0 && weight_of(best) >= identity).then_some(best)
    }

    /// The coding of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }

    /// Its name in header lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// "A recipient SHOULD consider "x-gzip" to be equivalent to "gzip"." (§8.4.1.3)
    fn is_named(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name().as_bytes())
            || self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip")
    }
}

/// The name of a member, and its weight in thousandths. A member whose weight cannot be read is ignored.
pub(crate) fn weighted(text: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = text.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    let weight = weight.map_or(Some(1000), |weight| thousandths(std::str::from_utf8(weight).ok()?))?;
    Some((name, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_weight_counts_and_then_the_order_of_what_is_offered() {
        use Coding::{Br, Gzip, Zstd};
        for (lines, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some(Gzip)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip", "br"], Some(Br)),
            (&["GZIP, BR;Q=0.9"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["br;q=0.5, gzip;q=0.501"], Some(Gzip)),
            (&["br ; q=0.5,\tgzip ;q=0.5"], Some(Br)),
            (&["gzip;level=9;q=0.1"], Some(Gzip)),
            (&["zstd;q=0, br;q=0.0, gzip;q=0.000"], None),
            (&["zstd;q=2, br;q=x, gzip"], Some(Gzip)),
            (&["zstd;q="], None),
            (&["*"], Some(Zstd)),
            (&["*;q=0.5, gzip"], Some(Gzip)),
            (&["*, zstd;q=0"], Some(Br)),
            (&["*;q=0"], None),
            (&["deflate, sdch"], None),
            (&["identity"], None),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip"], Some(Gzip)),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (&["gzippy, br2"], None),
        ] {
            let found = Coding::preferred(lines.iter().map(|line| line.as_bytes()), &Coding::ALL);
            assert_eq!(found, expected, "{lines:?}");
        }
        let all = || [&b"zstd, br, gzip"[..]].into_iter();
        assert_eq!(Coding::preferred(all(), &[Gzip, Br]), Some(Gzip));
        assert_eq!(Coding::preferred(all(), &[]), None);
    }
}
