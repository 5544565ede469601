//! The origin of the laboratory: the article's listings, uncached, from PostgreSQL.
//!
//! It answers like the article's Django application (Django REST Framework with the JSON renderer only), byte for
//! byte, and with Django's queries: 62 for a page of 20 rows in the naive view, 2 in the optimized one.
//!
//! `routes` takes a request through these checks, in order: the host is valid, the path has a view, the client accepts
//! JSON, the method is allowed. `page` then makes a list: it chooses the rows and the links, `naive` or `optimized`
//! runs the queries, and `row` turns the rows into values. All queries go through one `database::Session`, which
//! counts, times and logs them.
//!
//! `headers`, `negotiation`, `number`, `link`, `host` and `row` do no I/O and are tested by tables.

mod config;
mod database;
mod error;
mod headers;
mod host;
mod link;
mod naive;
mod negotiation;
mod number;
mod optimized;
mod page;
mod reply;
mod routes;
mod row;
mod session_cookie;

pub use config::{Args, Command, Config, Faults};
pub use database::Database;
pub use routes::Origin;
