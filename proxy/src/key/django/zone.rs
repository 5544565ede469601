//! The name of a time zone in Django's keys (`get_current_timezone_name`).

use std::borrow::Cow;

/// The name in a key: the abbreviation of a zone with a single, fixed offset, and the name of any other zone
/// (`ZoneInfo.tzname(None)`).
pub(crate) fn key_name(zone: &str) -> Cow<'_, str> {
    let bare = zone.strip_prefix("Etc/").unwrap_or(zone);
    match bare {
        "UTC" | "UCT" | "Universal" | "Zulu" => Cow::Borrowed("UTC"),
        "GMT" | "GMT0" | "GMT+0" | "GMT-0" | "Greenwich" => Cow::Borrowed("GMT"),
        _ => zone.strip_prefix("Etc/GMT").and_then(offset).map_or(Cow::Borrowed(zone), Cow::Owned),
    }
}

/// The abbreviation of an `Etc/GMT` zone: `+5` is west of Greenwich, so its abbreviation is `-05`.
fn offset(posix: &str) -> Option<String> {
    let (sign, most, hours) = match posix.split_at_checked(1)? {
        ("+", hours) => ('-', 12, hours),
        ("-", hours) => ('+', 14, hours),
        _ => return None,
    };
    let is_plain = hours.bytes().all(|byte| byte.is_ascii_digit()) && !hours.starts_with('0');
    let hours: u8 = hours.parse().ok().filter(|hours| is_plain && *hours <= most)?;
    Some(format!("{sign}{hours:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from CPython 3.11 with the zones of tzdata that have a `tzname(None)`, except EST, HST and MST, whose
    /// names are their abbreviations.
    #[test]
    fn zones_with_a_fixed_offset_are_abbreviated() {
        for (zone, name) in [
            ("UTC", "UTC"),
            ("Etc/UTC", "UTC"),
            ("Zulu", "UTC"),
            ("Etc/Universal", "UTC"),
            ("GMT", "GMT"),
            ("Etc/GMT-0", "GMT"),
            ("Etc/GMT+5", "-05"),
            ("Etc/GMT+12", "-12"),
            ("Etc/GMT-14", "+14"),
            ("Etc/GMT-15", "Etc/GMT-15"),
            ("Etc/GMT+05", "Etc/GMT+05"),
            ("GMT+5", "GMT+5"),
            ("America/New_York", "America/New_York"),
            ("Asia/Tokyo", "Asia/Tokyo"),
        ] {
            assert_eq!(key_name(zone), name, "{zone}");
        }
    }
}
