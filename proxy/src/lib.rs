//! Django's `cache_page`, taken out of Django: a reverse caching proxy in front of any HTTP origin.
//!
//! [`server::serve`] accepts connections and gives each request to a [`Proxy`]:
//!
//! 1. `request` makes a question of it: all that the request is decided by, borrowed from where it was read.
//! 2. `way/decide.rs` decides on the question. `policy` says whether the cache is asked at all, `key` names the page, `near` or
//!    the [`Store`] has it or not, and `policy` judges what was found. `proxy explain` ends here.
//! 3. A page that may be served is the answer (`page/stored.rs`).
//! 4. Otherwise a flight (`way/flight.rs`) asks the `origin`, one for all requests for the page that come meanwhile (`share`).
//! 5. `policy` says whether the answer may be stored, and `way/fill.rs` hands it to the client as it comes, and captures it on the
//!    way into the store.
//! 6. `way/answered.rs` keeps what became of the request, and writes it into the log.
//!
//! `request`, `policy`, `key`, `page`, `pickle` and `status` are pure: no clock, no log, no I/O. `store` and `origin` wait for other
//! programs, with deadlines. `tests/architecture.rs` holds which of these rooms may name which.
//!
//! Not here: HTTP/2, TLS, WebSockets (an `Upgrade` is not forwarded), compression, load balancing.

mod args;
mod config;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head_cache;
mod key;
mod near;
mod origin;
mod page;
pub mod pickle;
mod policy;
mod request;
mod share;
mod status;
mod store;
mod text;
mod variants;
mod way;
mod weight;

pub use args::{Args, Command, Explain};
pub use config::{Config, Deadlines, Faults, Limits, StoreUrl};
pub use key::{Django, Generation, Key, Keys, Language, Locale};
pub use near::Near;
pub use origin::{Origin, OriginDeadlines, OriginLimits};
pub use page::format::{Format, Pickled};
pub use policy::{Authorization, Coalesce, Rule};
pub use request::site::Site;
pub use store::{Feed, Listener, Locks, MemoryStore, RedisStore, Store, StoreError, Values, Write};
pub use way::{Explanation, Proxy};
