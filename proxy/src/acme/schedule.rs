//! When a certificate is renewed, and when an order that failed is tried again.

use std::time::{Duration, SystemTime};

use server::Validity;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The longest pause. An authority that asks for a longer one is not believed.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The time to renew: when a third of the certificate's life is left, or up to a thirtieth of its life before that. `chance`
/// (0 to 1) decides, so that certificates of one day are not all renewed at one moment.
pub(super) fn renewal(validity: Validity, chance: f64) -> SystemTime {
    let life = validity.until.duration_since(validity.from).unwrap_or_default();
    validity.until - life.div_f64(3.0) - life.div_f64(30.0).mul_f64(chance)
}

/// The pause after so many failures in a row: from a minute to an hour, or longer if the authority has asked for that.
pub(super) fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = MINUTE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(HOUR);
    doubled.max(asked.unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_a_little_before() {
        let day = |days: u64| UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60);
        let validity = Validity { from: day(100), until: day(190) };
        assert_eq!(renewal(validity, 0.0), day(160));
        assert_eq!(renewal(validity, 1.0), day(157));
        // A certificate that ends before it begins is due.
        assert_eq!(renewal(Validity { from: day(2), until: day(1) }, 0.5), day(1));
    }

    #[test]
    fn pauses_grow_from_a_minute_to_an_hour_and_are_as_long_as_the_authority_asks() {
        let minutes =
            |failures, asked: Option<u64>| pause(failures, asked.map(Duration::from_secs)).as_secs() / 60;
        assert_eq!(
            [1, 2, 3, 6, 7, 8, 9_999].map(|failures| minutes(failures, None)),
            [1, 2, 4, 32, 60, 60, 60]
        );
        assert_eq!(minutes(1, Some(10)), 1);
        assert_eq!(minutes(1, Some(7200)), 120);
        assert_eq!(minutes(1, Some(u64::MAX)), 24 * 60);
    }
}
