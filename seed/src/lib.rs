//! The listings for origin, proxy and bench: realistic homes, the same on every machine.
//!
//! 1. [`config`] parses the command line and reports all faults at once.
//! 2. [`generate`] turns a seed into [`row`]s, one by one and without I/O.
//! 3. [`copy`] writes a row in PostgreSQL's COPY format.
//! 4. [`schema`] has the tables, as Django creates them, and their statements.
//! 5. [`load`] does the rest in one transaction: tables, rows, indexes, foreign keys, and the triggers of [`follow`].
//!    [`error`] describes failures.
//!
//! Memory does not grow with the number of rows: one chunk is filled while the connection sends the previous one.

pub mod config;
pub mod copy;
pub mod error;
pub mod follow;
pub mod generate;
pub mod load;
pub mod row;
pub mod schema;

pub use config::{Args, Config};
pub use error::Error;
pub use generate::Rows;
pub use load::{Database, Loaded, Progress};
pub use schema::Indexes;
