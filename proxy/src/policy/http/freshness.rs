//! How long a response stays fresh (RFC 9111 §4.2.1, §4.2.2), and how old it is when it arrives (§4.2.3).

use hyper::header::{AGE, DATE, EXPIRES, HeaderMap, HeaderName, LAST_MODIFIED};

use super::control::Control;
use super::directives::delta_seconds;
use crate::policy::Received;
use crate::policy::date::{self, seconds};

/// How long the origin says that a response is fresh, in seconds; `None` if it does not say so.
///
/// "If the cache is shared and the s-maxage response directive is present, use its value, or if the max-age response
/// directive is present, use its value, or if the Expires response header field is present, use its value minus the value
/// of the Date response header field" (§4.2.1).
pub(super) fn explicit_lifetime(control: &Control, headers: &HeaderMap, received: Received) -> Option<u64> {
    let expires = || headers.contains_key(EXPIRES).then(|| until_expires(headers, received));
    let expires = || if control.is_targeted { None } else { expires() };
    control.s_maxage.or(control.max_age).or_else(expires)
}

/// An `Expires` that cannot be read is "a time in the past" (§5.3).
fn until_expires(headers: &HeaderMap, received: Received) -> u64 {
    let expires = date_in(headers, EXPIRES);
    let lifetime = expires.map(|expires| expires.saturating_sub(date_of(headers, received)));
    lifetime.and_then(|lifetime| u64::try_from(lifetime).ok()).unwrap_or(0)
}

/// "If the response has a Last-Modified header field, caches are encouraged to use a heuristic expiration value that is no
/// more than some fraction of the interval since that time. A typical setting of this fraction might be 10%" (§4.2.2).
pub(super) fn heuristic_lifetime(headers: &HeaderMap, received: Received) -> Option<u64> {
    let unchanged = date_of(headers, received).saturating_sub(date_in(headers, LAST_MODIFIED)?);
    u64::try_from(unchanged).ok().map(|unchanged| unchanged / 10)
}

/// The age of a response when it arrives (§4.2.3):
///
/// ```text
/// apparent_age = max(0, response_time - date_value);
/// response_delay = response_time - request_time;
/// corrected_age_value = age_value + response_delay;
/// corrected_initial_age = max(apparent_age, corrected_age_value);
/// ```
pub(super) fn age_at_arrival(headers: &HeaderMap, received: Received) -> u64 {
    let apparent = seconds(received.at).saturating_sub(date_of(headers, received));
    let corrected = age_value(headers).unwrap_or(0).saturating_add(received.took.as_secs());
    u64::try_from(apparent).unwrap_or(0).max(corrected)
}

/// The value of `Age`: "If more than one field value is present, use the first; if it is not a non-negative integer, ignore
/// it" (§5.1).
pub(in crate::policy) fn age_value(headers: &HeaderMap) -> Option<u64> {
    let first = headers.get(AGE)?.as_bytes().split(|&byte| byte == b',').next()?;
    delta_seconds(first.trim_ascii())
}

/// The date of a response. Without a `Date` it is the time of arrival (RFC 9110 §6.6.1).
fn date_of(headers: &HeaderMap, received: Received) -> i64 {
    date_in(headers, DATE).unwrap_or_else(|| seconds(received.at))
}

fn date_in(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    date::parse(headers.get(name)?.as_bytes()).map(seconds)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// Sun, 22 Nov 2026 20:09:06 GMT.
    const NOW: u64 = 1_795_378_146;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn received(took: u64) -> Received {
        Received { at: UNIX_EPOCH + Duration::from_secs(NOW), took: Duration::from_secs(took) }
    }

    #[test]
    fn a_lifetime_is_that_of_s_maxage_then_max_age_then_expires() {
        let date = ("date", "Sun, 22 Nov 2026 20:09:06 GMT");
        for (lines, expected) in [
            (&[("cache-control", "max-age=1, s-maxage=2")][..], Some(2)),
            (&[("cache-control", "max-age=1"), ("expires", "Sun, 22 Nov 2026 20:19:06 GMT")], Some(1)),
            (&[date, ("expires", "Sun, 22 Nov 2026 20:19:06 GMT")], Some(600)),
            (
                &[("date", "Sun, 22 Nov 2026 20:08:06 GMT"), ("expires", "Sun, 22 Nov 2026 20:19:06 GMT")],
                Some(660),
            ),
            (&[("expires", "Sun, 22 Nov 2026 20:19:06 GMT")], Some(600)),
            (&[date, ("expires", "Sun, 22 Nov 2026 20:09:00 GMT")], Some(0)),
            (&[date, ("expires", "0")], Some(0)),
            (&[("cdn-cache-control", "public"), ("expires", "Sun, 22 Nov 2026 20:19:06 GMT")], None),
            (&[("cache-control", "public"), date], None),
        ] {
            let headers = headers(lines);
            assert_eq!(
                explicit_lifetime(&Control::of(&headers), &headers, received(0)),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_heuristic_lifetime_is_a_tenth_of_the_time_since_the_last_change() {
        for (modified, expected) in [
            ("Sun, 22 Nov 2026 20:08:06 GMT", Some(6)),
            ("Sun, 22 Nov 2026 20:09:06 GMT", Some(0)),
            ("Sun, 22 Nov 2026 20:09:16 GMT", None),
            ("never", None),
        ] {
            assert_eq!(heuristic_lifetime(&headers(&[("last-modified", modified)]), received(0)), expected);
        }
        assert_eq!(heuristic_lifetime(&HeaderMap::new(), received(0)), None);
    }

    #[test]
    fn the_age_at_arrival_is_that_of_the_rfc() {
        for (lines, took, expected) in [
            (&[][..], 0, 0),
            (&[("age", "30")], 2, 32),
            (&[("age", "30, 7")], 0, 30),
            (&[("age", "30"), ("age", "7")], 0, 30),
            (&[("age", "0, 7200")], 0, 0),
            (&[("age", "7200;foo=1")], 0, 0),
            (&[("age", "-30")], 0, 0),
            (&[("age", "30.0")], 0, 0),
            (&[("age", "99999999999999999999")], 0, 1 << 31),
            // The origin's clock is behind, or an unknown cache has kept the response.
            (&[("date", "Sun, 22 Nov 2026 20:08:06 GMT")], 0, 60),
            (&[("date", "Sun, 22 Nov 2026 20:08:06 GMT"), ("age", "50")], 4, 60),
            (&[("date", "Sun, 22 Nov 2026 20:08:06 GMT"), ("age", "50")], 20, 70),
            (&[("date", "Sun, 22 Nov 2026 20:19:06 GMT")], 1, 1),
        ] {
            assert_eq!(age_at_arrival(&headers(lines), received(took)), expected, "{lines:?} {took}");
        }
    }
}
