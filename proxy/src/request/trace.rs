//! `traceparent` (W3C Trace Context §3.2): the trace that a request belongs to.

use hyper::header::HeaderName;

use super::Lines;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The length of `VERSION-TRACE-PARENT-FLAGS`: 2, 32, 16 and 2 hexadecimal digits, with dashes between them.
const LENGTH: usize = 55;

/// The trace of a request; `None` if it has none, an invalid one, or two.
pub(crate) fn trace_id(lines: Lines<'_>) -> Option<&[u8]> {
    let name = TRACEPARENT;
    let mut all = lines.get_all(&name);
    match (all.next(), all.next()) {
        (Some(only), None) => trace_in(only),
        _ => None,
    }
}

/// The trace in a value.
pub(crate) fn trace_in(value: &[u8]) -> Option<&[u8]> {
    let (known, further) = value.split_at_checked(LENGTH)?;
    let mut fields = known.split(|&byte| byte == b'-');
    let mut field = |length| fields.next().filter(|field| field.len() == length && is_hex(field));
    let [version, trace, parent, _flags] = [field(2)?, field(32)?, field(16)?, field(2)?];
    let is_named = |id: &[u8]| id.iter().any(|&digit| digit != b'0');
    // Only versions after 00 may have more fields, and ff is no version.
    let is_whole = further.is_empty() || (version != b"00" && further[0] == b'-');
    (version != b"ff" && is_named(trace) && is_named(parent) && is_whole).then_some(trace)
}

fn is_hex(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_is_read_by_the_rules_of_its_version() {
        let none = "0".repeat(32);
        for (value, is_trace) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-ff"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-more"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01more"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{none}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-0g"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7"), false),
            (format!("00-{TRACE}-00f067aa0ba902b-701"), false),
            (String::new(), false),
        ] {
            assert_eq!(trace_in(value.as_bytes()).is_some(), is_trace, "{value}");
        }
    }

    #[test]
    fn a_request_that_names_two_traces_has_none() {
        let value = HeaderValue::try_from(format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
        let mut headers = HeaderMap::from_iter([(TRACEPARENT, value.clone())]);
        assert_eq!(trace_id(Lines::Map(&headers)), Some(TRACE.as_bytes()));
        headers.append(TRACEPARENT, value);
        assert_eq!(trace_id(Lines::Map(&headers)), None);
    }
}
