//! Django's `cache_page`, taken out of Django: a reverse caching proxy in front of any HTTP origin.
//!
//! [`server::serve`] accepts connections and gives each request to a [`Proxy`]:
//!
//! 1. `request` makes a question of it: everything that decisions depend on, borrowed from where the request was read.
//! 2. `way/decide.rs` decides on the question. `policy` decides whether the cache is asked at all, `key` names the page,
//!    `near` or the [`Store`] is looked up, and `policy` judges the page that was found. `proxy explain` ends here.
//! 3. A page that may be served is the answer (`page/stored.rs`).
//! 4. Otherwise a flight (`way/flight.rs`) fetches the page from the `origin`. Requests for the page that arrive meanwhile
//!    share the flight (`share`).
//! 5. `policy` decides whether the answer may be stored. `way/fill.rs` relays it to the client as it arrives, captures it,
//!    and puts it into the store.
//! 6. `way/answered.rs` records the outcome, and logs it (`access_log`).
//!
//! `request`, `policy`, `key`, `page`, `pickle` and `status` are pure: no clock, no log, no I/O. `store` and `origin` wait
//! for other programs, with deadlines. `tests/architecture.rs` checks which of these modules may use which.
//!
//! Not supported: CONNECT, HTTP/3.

mod access_log;
mod acme;
mod admin;
mod args;
mod client;
mod config;
mod counts;
mod error;
mod follow;
mod forecast;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head_cache;
mod histogram;
mod init;
mod key;
mod near;
mod origin;
mod page;
mod pattern;
pub mod pickle;
mod policy;
mod probe;
mod purge;
mod reload;
mod request;
mod share;
mod status;
mod store;
mod systemd;
mod text;
mod tls;
mod traffic;
mod variants;
mod visitor;
mod warm;
mod way;
mod weight;

pub use access_log::AccessLog;
pub use acme::{Acme, Renewals};
pub use admin::{AdminPort, AdminServer, RunningAdmin, post as post_to_admin};
pub use args::{Args, Check, Command, Explain, Forecast, Init, PurgePages, Warm};
pub use config::{
    Admin, AdminAddress, Config, Deadlines, Faults, Leaves, Limits, LogFormat, LogSettings, LogTarget,
    PurgeSettings, StoreUrl, Summary, Token,
};
pub use follow::{Follow, OnLoss};
pub use forecast::{Outlook, forecast};
pub use init::Drafted;
pub use key::{Django, Generation, Key, Keys, Language, Locale, Placement};
pub use origin::{Origin, OriginDeadlines, OriginLimits, OriginUrl, Origins};
pub use page::format::{Format, Pickled};
pub use policy::{Authorization, CachePolicy, Coalesce, HttpRules, Rule};
pub use probe::wrong_scheme;
pub use purge::{LoggedPurge, Purge, PurgeId, Target, TargetKind};
pub use reload::{Service, find_faults};
pub use request::site::Site;
pub use store::{
    Feed, Listener, Locks, LogCopy, MemoryStore, NodeNumber, NodeState, PurgeLog, PurgeLogSettings,
    RedisKind, RedisOptions, RedisSettings, RedisStore, Store, StoreError, Values, Write,
};
pub use systemd::{keep_watchdog, ready, stopping};
pub use warm::{Unwarmed, Warmed};
pub use way::{Explanation, InForce, Proxy};
