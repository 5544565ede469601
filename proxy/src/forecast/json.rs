//! Lines of JSON: this proxy's, and lines in which nginx, Apache and gunicorn use the usual names.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::combined::is_personal;
use super::logged::{Logged, path_and_query, without_usual_port};

/// The fields that are known, each with its usual names.
#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(
        borrow,
        alias = "time_iso8601",
        alias = "@timestamp",
        alias = "timestamp",
        alias = "msec",
        alias = "ts"
    )]
    time: Value<'a>,
    #[serde(borrow, default, alias = "remote_addr", alias = "remote_ip", alias = "ip")]
    client: Cow<'a, str>,
    #[serde(borrow, default, alias = "remote_user")]
    user: Cow<'a, str>,
    #[serde(borrow, default, alias = "request_method", alias = "verb")]
    method: Cow<'a, str>,
    #[serde(borrow, default, alias = "http_host", alias = "server_name")]
    host: Cow<'a, str>,
    /// Path and query.
    #[serde(borrow, default, alias = "target", alias = "url")]
    request_uri: Cow<'a, str>,
    /// The request line.
    #[serde(borrow, default)]
    request: Cow<'a, str>,
    #[serde(borrow, default, alias = "uri")]
    path: Cow<'a, str>,
    #[serde(borrow, default, alias = "args", alias = "query_string")]
    query: Cow<'a, str>,
    status: Value<'a>,
    #[serde(borrow, default, alias = "body_bytes_sent", alias = "bytes_sent", alias = "size")]
    bytes: Value<'a>,
    #[serde(borrow, default)]
    duration_us: Value<'a>,
    /// The duration in seconds.
    #[serde(borrow, default)]
    request_time: Value<'a>,
    #[serde(borrow, default)]
    outcome: Cow<'a, str>,
    #[serde(borrow, default)]
    detail: Cow<'a, str>,
}

/// A number or a text: some logs write every field as a text.
#[derive(Default)]
enum Value<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    #[default]
    Nothing,
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Reads a value in one pass. serde's own untagged enums copy each value, and fail once for each variant.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a number or a text")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.to_owned().into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }
}

impl Value<'_> {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Nothing => None,
        }
    }

    /// A date, or seconds since 1970.
    fn time(&self) -> Option<Timestamp> {
        match (self, self.number()) {
            (_, Some(seconds)) => Timestamp::from_microsecond((seconds * 1e6) as i64).ok(),
            (Self::Text(text), None) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Reads a line.
pub(super) fn logged(line: &str) -> Option<Logged<'_>> {
    let line: JsonLine<'_> = serde_json::from_str(line).ok()?;
    let (method, target) = line.method_and_target()?;
    let was_cached = matches!(&*line.outcome, "hit" | "stale" | "collapsed");
    let seconds = line.duration_us.number().map(|us| us / 1e6).or(line.request_time.number());
    let cost = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(Logged {
        time: line.time.time()?,
        status: line.status.number()? as u16,
        bytes: line.bytes.number().unwrap_or(0.0) as u64,
        cost: cost.filter(|_| !was_cached),
        is_personal: !matches!(&*line.user, "" | "-") || is_personal(&line.detail),
        host: without_usual_port(&line.host).to_owned().into(),
        client: line.client,
        method,
        target,
    })
}

impl<'a> JsonLine<'a> {
    /// Method and target: from the request line, from the target, or from path and query.
    fn method_and_target(&self) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        let mut words = self.request.split(' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let method = if self.method.is_empty() { first.to_owned().into() } else { self.method.clone() };
        let sent = [&*self.request_uri, second].into_iter().find(|text| !text.is_empty());
        let target = match sent {
            Some(sent) => path_and_query(sent)?.to_owned(),
            None if !self.path.starts_with('/') => return None,
            None if self.query.is_empty() => self.path.to_string(),
            None => format!("{}?{}", self.path, self.query),
        };
        (!method.is_empty()).then(|| (method, target.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_own_lines_are_read() {
        let line = r#"{"time":"2026-11-27T01:02:03.000004Z","client":"10.0.0.1","method":"GET","host":"localhost:8000","path":"/a","query":"b=c","status":200,"bytes":512,"duration_us":1500,"outcome":"miss"}"#;
        let found = logged(line).unwrap();
        assert_eq!(found.time.to_string(), "2026-11-27T01:02:03.000004Z");
        assert_eq!((&*found.target, &*found.host, &*found.client), ("/a?b=c", "localhost:8000", "10.0.0.1"));
        assert_eq!((found.cost, found.bytes), (Some(Duration::from_micros(1500)), 512));
        let hit = line.replace("miss", "hit");
        assert_eq!(logged(&hit).unwrap().cost, None);
        let declined = line.replace("\"outcome\"", "\"detail\":\"private\",\"outcome\"");
        assert!(logged(&declined).unwrap().is_personal && !found.is_personal);
    }

    #[test]
    fn the_usual_names_of_nginx_are_read_also_as_texts() {
        let line = r#"{"time_iso8601":"2026-11-27T02:02:03+01:00","remote_addr":"::1","remote_user":"","request":"GET /a?b HTTP/1.1","status":"304","body_bytes_sent":"0","request_time":"0.250","http_host":"a.example:443"}"#;
        let found = logged(line).unwrap();
        assert_eq!((found.time.to_string().as_str(), &*found.method), ("2026-11-27T01:02:03Z", "GET"));
        assert_eq!((&*found.target, &*found.host, found.status), ("/a?b", "a.example", 304));
        assert_eq!((found.cost, found.is_personal), (Some(Duration::from_millis(250)), false));
        let line = r#"{"msec":1795741323.5,"request_method":"HEAD","request_uri":"/x","status":200,"remote_user":"anna"}"#;
        let found = logged(line).unwrap();
        assert_eq!((found.time.to_string().as_str(), found.is_personal), ("2026-11-27T01:02:03.5Z", true));
    }

    #[test]
    fn what_lacks_a_time_a_status_or_a_target_is_none() {
        for line in [
            "{",
            "{}",
            r#"{"time":"2026-11-27T01:02:03Z","method":"GET","status":200}"#,
            r#"{"time":"2026-11-27T01:02:03Z","method":"GET","path":"a","status":200}"#,
            r#"{"time":"yesterday","method":"GET","path":"/","status":200}"#,
            r#"{"time":"2026-11-27T01:02:03Z","method":"GET","path":"/"}"#,
            r#"{"time":"2026-11-27T01:02:03Z","path":"/","status":200}"#,
            r#"{"time":1e300,"method":"GET","path":"/","status":200}"#,
        ] {
            assert_eq!(logged(line), None, "{line}");
        }
    }
}
