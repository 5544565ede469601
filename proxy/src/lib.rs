//! Django's `cache_page`, taken out of Django: a reverse caching proxy in front of any HTTP origin.
//!
//! The `server` crate accepts connections and gives each request to a [`Proxy`]. The path of a request is in `way`:
//!
//! 1. `request` checks the request and removes the headers that a client may not set.
//! 2. `policy` decides whether the cache is asked at all.
//! 3. `key` names the page, and the [`Store`] is asked for it. `page` decodes the stored value. A hit ends here.
//! 4. `origin` fetches the page.
//! 5. `policy` decides whether the page may be stored, and for how long.
//! 6. The fill relays the page to the client as it arrives, captures it, and puts it into the store.
//!
//! `request`, `policy`, `key`, `page`, `pickle` and `status` are pure: no clock, no log, no I/O. `store` and `origin`
//! wait for other programs, with deadlines. `error` maps a failure to an answer; `status` reports what the cache did.
//!
//! Not supported: HTTP/2, TLS, WebSockets (an `Upgrade` is not forwarded), compression, load balancing.

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
