//! Django's `cache_page`, taken out of Django: a reverse caching proxy in front of any HTTP origin.
//!
//! [`server::serve`] accepts connections and gives each request to a [`Proxy`], whose way with it is one line,
//! `proxy.rs` from top to bottom:
//!
//! 1. `forward` checks the request and cuts off what is not the client's to say.
//! 2. `policy` says whether the cache is asked at all.
//! 3. `key` names the page, and the [`Store`] is asked for it. A hit ends here: `format` reads the stored value, an
//!    `entry` becomes the answer.
//! 4. `upstream` fetches the page from the origin.
//! 5. `policy` says whether it may be stored, and for how long.
//! 6. `fill` hands it to the client as it comes, and captures it on the way into the store.
//!
//! `policy`, `key`, `entry`, `format` and `status` are pure: no clock, no log, no I/O. `store` and `upstream` wait for
//! others, with deadlines. What goes wrong becomes an answer in `error`, and what the cache did is said by `status`.
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
