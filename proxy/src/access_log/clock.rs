//! The time as lines show it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;

/// The length of a date and a time to the second, without the `Z` behind it.
const SECONDS: usize = "2026-11-27T01:02:03".len();

/// The last second of the year 9999, the last that RFC 3339 can say.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Writes times. Lines of one second differ in their microseconds alone.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<(u64, String)>);

impl Clock {
    /// Date and time to the second, as `2026-11-27T01:02:03`, and the microseconds.
    pub(super) fn read(&mut self, time: SystemTime) -> (&str, u32) {
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
        let known = self.0.take_if(|(second, _)| *second == time.as_secs());
        let (_, text) = self.0.insert(known.unwrap_or_else(|| (time.as_secs(), written(time.as_secs()))));
        (text, time.subsec_micros())
    }
}

fn written(second: u64) -> String {
    let mut text = format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
    text.truncate(SECONDS);
    text
}

#[cfg(test)]
mod tests {
    use humantime::format_rfc3339_micros;

    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let mut clock = Clock::default();
        for micros in [0, 1, 999_999, 1_000_000, 1_000_001, 951_782_399_999_999, 253_402_300_799_000_000, 5] {
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            let (seconds, micros) = clock.read(time);
            assert_eq!(format!("{seconds}.{micros:06}Z"), format_rfc3339_micros(time).to_string());
        }
        assert_eq!(clock.read(UNIX_EPOCH + LAST + LAST), ("9999-12-31T23:59:59", 0));
        assert_eq!(clock.read(UNIX_EPOCH - Duration::from_secs(1)), ("1970-01-01T00:00:00", 0));
    }
}
