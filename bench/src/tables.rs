//! The tables of the listings, which the pages are made from.

use serde::{Deserialize, Serialize};

/// The number of rows in the table of properties, and the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) properties: usize,
    pub(crate) indexes: Indexes,
}

/// The indexes of the tables besides their primary keys.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Indexes {
    #[default]
    None,
    /// Indexes on the foreign keys, as Django makes them.
    Django,
    /// Also an index on `created_at`, which orders the list.
    Optimized,
}

impl Indexes {
    /// The name for the seed's `--indexes`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Django => "django",
            Self::Optimized => "optimized",
        }
    }
}
