//! The origin of the laboratory: the article's listings, uncached, from PostgreSQL.
//!
//! It answers as the article's Django application does (Django REST Framework with the JSON renderer only), byte for
//! byte, and with Django's queries: 62 for a page of 20 rows in the naive view, 2 in the optimized one.
//!
//! A request goes through `routes` from top to bottom: is the host good, is there a view under this path, can its
//! answer be accepted, which method. A list is made by `page` (which rows, which links) with the rows of `naive` or
//! `optimized`, which `row` turns into values. All queries go through one `database::Session`, which
//! counts, times and logs them.
//!
//! `headers`, `negotiation`, `number`, `link`, `host` and `row` are pure, and tested by tables.

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

pub use config::{Args, Config, Faults};
pub use database::Database;
pub use routes::Origin;
