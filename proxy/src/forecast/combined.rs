//! Apache's common and combined lines, as nginx, Apache, gunicorn and this proxy write them.
//!
//! `[HOST:PORT] CLIENT IDENT USER [TIME] "METHOD TARGET PROTOCOL" STATUS BYTES ["REFERER" "AGENT" ["CACHE-STATUS"]] [DURATION]`
//!
//! A duration with a decimal point is in seconds (nginx's `$request_time`). Any other duration is in microseconds (Apache's
//! and gunicorn's `%D`, and this proxy).

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::strtime;

use super::logged::{Logged, path_and_query, without_usual_port};

/// Reads a line.
pub(super) fn logged(line: &str) -> Option<Logged<'_>> {
    let (before, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = quoted(rest)?;
    let (host, client, user) = client(before)?;
    let mut numbers = rest.trim_start().splitn(3, ' ');
    let status = numbers.next()?.parse().ok()?;
    let bytes = numbers.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    let mut words = request.split(' ');
    let method = words.next()?;
    let target = words.next().and_then(path_and_query)?;
    let more = More::of(numbers.next().unwrap_or_default());
    Some(Logged {
        time: time_of(time)?,
        client: client.into(),
        method: method.into(),
        host: host.into(),
        target: unescaped(target),
        status,
        bytes,
        cost: more.cost,
        is_personal: more.is_personal || user != "-",
    })
}

/// The host, if the line begins with one, then the client and the user.
fn client(text: &str) -> Option<(&str, &str, &str)> {
    let mut words = text.split(' ');
    let [first, second, third] = [words.next()?, words.next()?, words.next()?];
    Some(match words.next() {
        None => ("", first, third),
        Some(user) => (without_usual_port(first), second, user),
    })
}

/// The fields behind the number of bytes.
#[derive(Default)]
struct More {
    cost: Option<Duration>,
    is_personal: bool,
}

impl More {
    fn of(mut rest: &str) -> Self {
        let mut more = Self::default();
        let mut was_cached = false;
        loop {
            rest = rest.trim_start();
            if let Some((text, after)) = rest.strip_prefix('"').and_then(quoted) {
                if let Some(status) = text.strip_prefix("cachepage; ") {
                    was_cached |= status.starts_with("hit");
                    more.is_personal |=
                        status.rsplit_once("detail=").is_some_and(|(_, name)| is_personal(name));
                }
                rest = after;
            } else if let Some((word, after)) =
                rest.split_once(' ').or((!rest.is_empty()).then_some((rest, "")))
            {
                more.cost = more.cost.or_else(|| duration(word));
                rest = after;
            } else {
                more.cost = more.cost.filter(|_| !was_cached);
                return more;
            }
        }
    }
}

/// Whether this reason for not storing a page shows that the page is for one visitor.
pub(super) fn is_personal(detail: &str) -> bool {
    matches!(detail, "set-cookie" | "private" | "authorization" | "no-store" | "no-cache")
}

fn duration(word: &str) -> Option<Duration> {
    match word.contains('.') {
        true => Duration::try_from_secs_f64(word.parse().ok()?).ok(),
        false => Some(Duration::from_micros(word.parse().ok()?)),
    }
}

/// Parses `27/Nov/2026:01:02:03 +0000`.
fn time_of(text: &str) -> Option<Timestamp> {
    strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

/// The text up to the next quote that is not escaped, and what follows the quote.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// Undoes `\"`, `\\` and `\xHH`.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = || u8::from_str_radix(std::str::from_utf8(after.get(1..3)?).ok()?, 16).ok();
        let (byte, taken) = match (first, after.first()) {
            (b'\\', Some(b'x')) => hex().map_or((first, 1), |byte| (byte, 4)),
            (b'\\', Some(&escaped)) => (escaped, 2),
            _ => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"10.1.2.3 - - [27/Nov/2026:01:02:03 +0000] "GET /a?b=c HTTP/1.1" 200 512"#;

    fn line(end: &str) -> String {
        format!("{START}{end}")
    }

    #[test]
    fn the_lines_of_servers_are_read() {
        for (end, cost, is_personal) in [
            ("", None, false),
            (r#" "-" "curl/7""#, None, false),
            (r#" "https://a/ \" b" "curl" 0.250"#, Some(250_000), false),
            (r#" "-" "curl" 1500"#, Some(1500), false),
            (r#" "-" "curl" "cachepage; fwd=uri-miss; stored" 1500"#, Some(1500), false),
            (r#" "-" "curl" "cachepage; hit; ttl=42" 15"#, None, false),
            (r#" "-" "curl" "cachepage; fwd=uri-miss; detail=set-cookie" 9"#, Some(9), true),
            (r#" "-" "curl" "cachepage; fwd=bypass; detail=no-rule" 9"#, Some(9), false),
        ] {
            let line = line(end);
            let logged = logged(&line).unwrap();
            let time = logged.time.to_string();
            assert_eq!(
                (&*time, &*logged.client, &*logged.method),
                ("2026-11-27T01:02:03Z", "10.1.2.3", "GET")
            );
            assert_eq!((&*logged.target, logged.path(), logged.status), ("/a?b=c", "/a", 200));
            assert_eq!((logged.bytes, logged.cost), (512, cost.map(Duration::from_micros)), "{end}");
            assert_eq!((logged.is_personal, &*logged.host), (is_personal, ""), "{end}");
        }
    }

    #[test]
    fn a_user_a_zone_a_host_and_escapes_count() {
        let line =
            r#"shop.example:443 ::1 - anna [27/Nov/2026:01:02:03 -0230] "GET /\"\xc3\xbc\\ HTTP/2.0" 304 -"#;
        let logged = logged(line).unwrap();
        assert_eq!((&*logged.host, &*logged.client, &*logged.target), ("shop.example", "::1", "/\"\u{fc}\\"));
        assert_eq!((logged.time.to_string().as_str(), logged.bytes), ("2026-11-27T03:32:03Z", 0));
        assert!(logged.is_personal && logged.is_page());
        let line = r#"h - - [27/Nov/2026:01:02:03 +0000] "GET http://a.example HTTP/1.1" 200 1"#;
        assert_eq!(super::logged(line).unwrap().target, "/");
    }

    #[test]
    fn what_is_no_line_is_none_and_never_panics() {
        for line in ["", "{", "a b c", "- - - [] \"\" 200", START.get(..60).unwrap()] {
            assert_eq!(logged(line), None, "{line}");
        }
        assert_eq!(logged(r#"h - - [27/Nov/2026:01:02:03 +0000] "-" 400 0 "-" "-""#), None);
        let whole = line(r#" "\x4" "\\" "cachepage; hit" 1.5"#);
        for end in 0..whole.len() {
            let _ = logged(&whole[..end]);
        }
    }
}
