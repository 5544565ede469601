//! What can go wrong with a listing, and how it is answered.

use std::error::Error as StdError;

use hyper::StatusCode;

/// Why a list could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such page.
    #[error("Invalid page.")]
    InvalidPage,
    /// No connection to the database in time.
    #[error("no connection to the database")]
    NoConnection(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection broke in the middle.
    #[error("the connection to the database broke")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
    /// The database refused a query, or its answer is none of a listing.
    #[error("the database does not hold the listings")]
    Query(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::InvalidPage => StatusCode::NOT_FOUND,
            Self::NoConnection(_) | Self::Broken(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Query(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The error with all its sources, on one line, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        text
    }
}

impl From<bb8_postgres::tokio_postgres::Error> for Error {
    fn from(error: bb8_postgres::tokio_postgres::Error) -> Self {
        // What the server said of a query has a code; all else is a connection that is no more.
        match error.as_db_error().map(|said| said.code().code().starts_with("57P")) {
            Some(false) => Self::Query(error.into()),
            Some(true) | None => Self::Broken(error.into()),
        }
    }
}
