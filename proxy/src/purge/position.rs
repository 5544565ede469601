//! Places in the purge log.

use std::fmt;
use std::str::FromStr;

/// The id of an entry of the log. Later entries have larger ids, even if the clock of the store steps back.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct PurgeId {
    /// When it was written, in milliseconds since 1970.
    pub milliseconds: u64,
    /// The number among the entries of one millisecond.
    pub number: u64,
}

impl fmt::Display for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.number)
    }
}

impl FromStr for PurgeId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (milliseconds, number) = pair(text, |number| number.parse().ok())?;
        Ok(Self { milliseconds, number })
    }
}

/// A part of the log without a gap. A new epoch begins when the log was lost, and when another Redis has become the primary:
/// there the last entries may be missing, and its clock may be behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Epoch {
    /// The beginning of the replication id of the Redis that the part was written to.
    pub(crate) replication: u32,
    /// Distinguishes the epochs on one Redis.
    pub(crate) nonce: u32,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.replication, self.nonce)
    }
}

impl FromStr for Epoch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (replication, nonce) = pair(text, |number| u32::from_str_radix(number, 16).ok())?;
        Ok(Self { replication, nonce })
    }
}

/// Two numbers with a `-` between them.
fn pair<T>(text: &str, number: impl Fn(&str) -> Option<T>) -> Result<(T, T), ()> {
    let numbers = text.split_once('-').and_then(|(first, second)| Some((number(first)?, number(second)?)));
    numbers.ok_or(())
}

/// A place in the log: the last entry that was read, and its epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) id: PurgeId,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.id)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, id) = text.split_once('/').ok_or(())?;
        Ok(Self { epoch: epoch.parse()?, id: id.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_ids_are_ordered_as_numbers() {
        for text in ["9f3c21aa-00000051/1795714265426-0", "00000000-ffffffff/0-18446744073709551615"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a-b",
            "9f3c21aa-51/7",
            "9f3c21aa/7-0",
            "x-1/7-0",
            "1-1/-1-0",
            "1-1/7-0-0",
            "1-123456789/7-0",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        let id = |text: &str| text.parse::<PurgeId>().unwrap();
        assert!(id("9-9") < id("10-0") && id("10-2") < id("10-10"));
    }
}
