//! Dates of HTTP (RFC 9110 §5.6.7), and seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// Reads a date in any of its three forms. Names in another case than the standard's are read as well.
pub(crate) fn parse(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.trim();
    parse_any_day(text).or_else(|| parse_any_day(&in_usual_case(text)))
}

/// Reads a date whatever day of the week it names: neither Django nor caches check it.
pub(crate) fn parse_any_day(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let with = |day: &str| httpdate::parse_http_date(&format!("{day}{}", text.get(3..)?)).ok();
    httpdate::parse_http_date(text).ok().or_else(|| DAYS.into_iter().find_map(with))
}

/// Changes `THU, 18 aug 2050 02:01:18 gmt` to `Thu, 18 Aug 2050 02:01:18 GMT`.
fn in_usual_case(text: &str) -> String {
    let mut is_first = true;
    let cased = text.chars().map(|c| {
        let is_letter = c.is_ascii_alphabetic();
        let c = if is_first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        is_first = !is_letter;
        c
    });
    let text: String = cased.collect();
    text.strip_suffix(" Gmt").map(|rest| format!("{rest} GMT")).unwrap_or(text)
}

/// Whole seconds since 1970, negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// Whole seconds since 1970; an earlier time counts as 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    u64::try_from(seconds(time)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_date_are_read_in_any_case_and_nothing_else_is() {
        let expected = 2_544_400_878;
        for text in [
            "Thu, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
            "Mon Aug 18 02:01:18 2050",
            "THU, 18 Aug 2050 02:01:18 GMT",
            "thu, 18 AUG 2050 02:01:18 gMT",
            " Thu, 18 Aug 2050 02:01:18 GMT ",
        ] {
            assert_eq!(parse(text.as_bytes()).map(seconds), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "\u{130}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
