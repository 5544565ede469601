//! Purges as the log has them: an entry is a list of fields.

use super::position::{Epoch, PurgeId};
use super::target::{Target, TargetKind};

/// A purge of every page that one of its targets names, wherever the page is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Purge {
    /// The pages.
    pub targets: Vec<Target>,
    /// Whether the pages are only past their time: grace and stale_if_error may still serve them.
    pub is_soft: bool,
    /// The client or the part of the program that asked for it, for operators.
    pub by: String,
}

/// A purge in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggedPurge {
    /// Its place.
    pub id: PurgeId,
    /// The purge.
    pub purge: Purge,
}

/// An entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LogEntry {
    /// A purge and its own number, by which it is recognised in another log.
    Purge(Purge, u64),
    /// The epoch of the entries that follow. It is repeated, so that it is still there when the beginning of the log is gone.
    Epoch(Epoch),
}

const KIND: &[u8] = b"k";
const VALUE: &[u8] = b"v";
const SOFT: &[u8] = b"s";
const BY: &[u8] = b"by";
const NUMBER: &[u8] = b"i";
const EPOCH: &[u8] = b"epoch";

impl LogEntry {
    /// The fields of an entry: a name, its value, the next name, and so on.
    pub(crate) fn fields(&self) -> Vec<Vec<u8>> {
        let mut fields = Vec::new();
        let mut add = |name: &[u8], value: Vec<u8>| fields.extend([name.to_vec(), value]);
        match self {
            Self::Epoch(epoch) => {
                add(KIND, EPOCH.to_vec());
                add(VALUE, epoch.to_string().into());
            }
            Self::Purge(purge, number) => {
                for target in &purge.targets {
                    add(KIND, target.kind.name().into());
                    add(VALUE, target.value.clone());
                }
                if purge.is_soft {
                    add(SOFT, b"1".to_vec());
                }
                add(BY, purge.by.clone().into());
                add(NUMBER, format!("{number:x}").into());
            }
        }
        fields
    }

    /// Reads the fields of an entry. An entry that cannot be read counts as a purge of everything, since nobody knows its
    /// meaning.
    pub(crate) fn of<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::read(fields.into_iter()).unwrap_or_else(|| {
            let by = "an entry that cannot be read".to_owned();
            Self::Purge(Purge { targets: vec![Target::all()], is_soft: false, by }, 0)
        })
    }

    fn read<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut purge = Purge { targets: Vec::new(), is_soft: false, by: String::new() };
        let mut number = 0;
        let mut kind = None;
        while let Some(name) = fields.next() {
            let value = fields.next()?;
            match name {
                KIND => kind = Some(value),
                VALUE if kind == Some(EPOCH) => return Some(Self::Epoch(text(value)?.parse().ok()?)),
                VALUE => {
                    let kind =
                        TargetKind::ALL.into_iter().find(|known| Some(known.name().as_bytes()) == kind)?;
                    purge.targets.push(Target::new(kind, value));
                }
                SOFT => purge.is_soft = value == b"1",
                BY => purge.by = String::from_utf8_lossy(value).into_owned(),
                NUMBER => number = u64::from_str_radix(text(value)?, 16).ok()?,
                _ => {}
            }
        }
        (!purge.targets.is_empty()).then_some(Self::Purge(purge, number))
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(record: &LogEntry) -> LogEntry {
        LogEntry::of(record.fields().iter().map(Vec::as_slice))
    }

    #[test]
    fn records_read_back() {
        let targets = vec![
            Target::tag(&b"caf\xe9"[..]),
            Target::all(),
            Target::new(TargetKind::Url, "//a/?"),
            Target::new(TargetKind::Group, "//a b c"),
        ];
        for is_soft in [true, false] {
            let purge = Purge { targets: targets.clone(), is_soft, by: "10.0.0.5".to_owned() };
            let record = LogEntry::Purge(purge, u64::MAX);
            assert_eq!(back(&record), record);
        }
        let epoch = LogEntry::Epoch(Epoch { replication: 7, nonce: 9 });
        assert_eq!(back(&epoch), epoch);
    }

    #[test]
    fn an_entry_that_cannot_be_read_purges_everything() {
        for fields in
            [&[][..], &["k"], &["k", "tag"], &["k", "new", "v", "a"], &["v", "a"], &["k", "epoch", "v", "x"]]
        {
            let LogEntry::Purge(purge, _) = LogEntry::of(fields.iter().map(|field| field.as_bytes())) else {
                panic!("{fields:?}")
            };
            assert_eq!(purge.targets, [Target::all()], "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_read(fields in proptest::collection::vec("(k|v|s|i|by|tag|epoch|1|[a-z-]{0,8})", 0..8)) {
            let _ = LogEntry::of(fields.iter().map(String::as_bytes));
        }
    }
}
