//! Why a connection has no place.

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are too many connections in all.
    All,
    /// There are too many connections of this address.
    Address,
}

impl Full {
    pub(crate) const ALL: [Self; 2] = [Self::All, Self::Address];

    /// The setting that sets the limit.
    pub(crate) fn limit(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Address => "connections_per_address",
        }
    }
}
