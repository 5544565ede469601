//! The parameters of operators' requests: a request to explain, a level for the log.

use std::time::Duration;

use serde::Deserialize;

use crate::args::Explain;

/// The longest time for another level of the log.
const LONGEST: u64 = 24 * 60 * 60;

/// The level of the log for a time, as JSON.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct LogOrder {
    pub(super) level: String,
    #[serde(default = "a_minute")]
    seconds: u64,
}

fn a_minute() -> u64 {
    60
}

impl LogOrder {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let order: Self = serde_json::from_slice(body)
            .map_err(|error| format!("{error}; write {{\"level\":\"debug\",\"seconds\":60}}"))?;
        match order.seconds {
            1..=LONGEST => Ok(order),
            _ => Err(format!("seconds go from 1 to {LONGEST}")),
        }
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The request in a query like `url=/p/&header=Accept:%20text/html`. With `query=CONTENT` it is a QUERY.
pub(super) fn explain(query: &str) -> Result<Explain, String> {
    const USAGE: &str = "write /explain?url=URL&header=NAME:%20VALUE&query=CONTENT";
    let (mut url, mut headers, mut content) = (None, Vec::new(), None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "url" if url.is_none() => url = Some(value.into_owned()),
            "header" => headers.push(value.into_owned()),
            "query" if content.is_none() => content = Some(value.into_owned()),
            _ => return Err(format!("{name:?} is not known here, or is there twice: {USAGE}")),
        }
    }
    let url = url.filter(|url| !url.is_empty()).ok_or_else(|| format!("no url: {USAGE}"))?;
    Ok(Explain { url, headers, query: content, json: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_explain_is_read_from_the_query() {
        let asked = explain("url=/p/?a=b%26c&header=Accept:%20text/html&header=A:+b&query=a+b").unwrap();
        let headers = vec!["Accept: text/html".to_owned(), "A: b".to_owned()];
        assert_eq!(
            (asked.url.as_str(), asked.headers, asked.query.as_deref()),
            ("/p/?a=b&c", headers, Some("a b"))
        );
        for bad in ["", "url=", "url=/a&url=/b", "url=/a&query=b&query=c", "header=A:%20b", "url=/a&x=1"] {
            assert!(explain(bad).unwrap_err().contains("/explain?url=URL"), "{bad}");
        }
    }

    #[test]
    fn a_level_counts_for_a_time() {
        let order = LogOrder::read(br#"{"level":"debug","seconds":5}"#).unwrap();
        assert_eq!((order.level.as_str(), order.time()), ("debug", Duration::from_secs(5)));
        assert_eq!(LogOrder::read(br#"{"level":"debug"}"#).unwrap().time(), Duration::from_secs(60));
        for bad in [
            "",
            "debug",
            "{}",
            r#"{"level":"debug","seconds":0}"#,
            r#"{"level":1}"#,
            r#"{"level":"debug","for":1}"#,
        ] {
            assert!(LogOrder::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
