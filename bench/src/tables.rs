//! The tables of the listings, which the pages are made from.

use serde::{Deserialize, Serialize};

/// How many rows the table of properties has, and which indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) properties: usize,
    pub(crate) indexes: Indexes,
}

/// Which indexes the tables have beside their primary keys.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Indexes {
    #[default]
    None,
    /// Of the foreign keys, as Django makes them.
    Django,
    /// Of `created_at`, too, by which the list is ordered.
    Optimized,
}

impl Indexes {
    /// As the seed knows them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Django => "django",
            Self::Optimized => "optimized",
        }
    }
}
