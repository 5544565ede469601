//! The listings that origin, proxy and bench are tried on: real-looking homes, the same for everyone.
//!
//! 1. [`config`] parses the command line, all faults at once.
//! 2. [`generate`] turns a number into [`row`]s: pure, row by row, with nothing kept.
//! 3. [`copy`] writes a row as PostgreSQL's COPY wants it.
//! 4. [`schema`] knows the tables, as Django makes them, and the statements for them.
//! 5. [`load`] does the rest in one transaction: tables, rows, indexes, foreign keys. What fails is told by [`error`].
//!
//! Memory does not grow with the number of rows: one chunk is filled while the connection sends the one before.

pub mod config;
pub mod copy;
pub mod error;
pub mod generate;
pub mod load;
pub mod row;
pub mod schema;

pub use config::{Args, Config};
pub use error::Error;
pub use generate::Rows;
pub use load::{Database, Progress};
pub use schema::Indexes;
