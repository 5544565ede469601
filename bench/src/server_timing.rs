//! Parses the origin's `Server-Timing: db;dur=12.3;desc="62 queries"`.

use hyper::HeaderMap;

/// The queries of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ServerTiming {
    pub(crate) queries: usize,
    /// The total time of the queries.
    pub(crate) milliseconds: f64,
}

impl ServerTiming {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("server-timing")?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let parameter = |name: &str| {
            text.split(';')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"'))
        };
        let queries = parameter("desc")?.split_once(' ')?.0.parse().ok()?;
        Some(Self { queries, milliseconds: parameter("dur")?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_their_time_are_parsed() {
        let told = ServerTiming { queries: 62, milliseconds: 12.3 };
        assert_eq!(ServerTiming::parse(r#"db;dur=12.3;desc="62 queries""#), Some(told));
        for text in ["", "db", "db;dur=1", r#"db;dur=x;desc="2 queries""#, r#"db;dur=1;desc="queries""#] {
            assert_eq!(ServerTiming::parse(text), None, "{text}");
        }
    }
}
