//! The time as lines have it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;

/// The length of a date and a time to the second, without the `Z` behind it.
const SECONDS: usize = "2026-11-27T01:02:03".len();

/// The last second of the year 9999, the last that RFC 3339 can say.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Writes times. Lines of one second differ in their microseconds alone.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// Date and time to the second, as `2026-11-27T01:02:03`, and the microseconds.
    pub(super) fn read(&mut self, time: SystemTime) -> (&str, u32) {
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
        if self.second != time.as_secs() || self.text.is_empty() {
            self.second = time.as_secs();
            let second = UNIX_EPOCH + Duration::from_secs(self.second);
            self.text = format_rfc3339_seconds(second).to_string();
            self.text.truncate(SECONDS);
        }
        (&self.text, time.subsec_micros())
    }
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
