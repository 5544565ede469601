//! The errors of a listing, and the status that each is answered with.

use std::error::Error as StdError;

use hyper::StatusCode;

/// Why a list could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The page does not exist.
    #[error("Invalid page.")]
    InvalidPage,
    /// No connection to the database was free or could be made in time.
    #[error("no connection to the database")]
    NoConnection(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection broke during a query.
    #[error("the connection to the database broke")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
    /// The database refused a query, or its answer does not fit the listings.
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

    /// The error and all its sources on one line, for the log.
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
        // An error of a query has a code. An error without one means that the connection is lost, as do the
        // codes 57P01 to 57P05, by which the server ends it.
        match error.as_db_error().map(|said| said.code().code().starts_with("57P")) {
            Some(false) => Self::Query(error.into()),
            Some(true) | None => Self::Broken(error.into()),
        }
    }
}
