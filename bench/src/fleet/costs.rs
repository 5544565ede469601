//! The measured cost of each kind of work, and the means of a fleet.

/// Seconds of CPU for one piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// These are costs of a proxy.
    pub(crate) near_hit: f64,
    pub(crate) store_hit: f64,
    pub(crate) fill: f64,
    pub(crate) heard: f64,
    /// A beat of the feed of one node.
    pub(crate) beat: f64,
    /// These are costs of a node.
    pub(crate) get: f64,
    pub(crate) set: f64,
    /// The cost of telling one proxy of one change.
    pub(crate) told: f64,
    pub(crate) answered_beat: f64,
    pub(crate) purge: f64,
}

const US: f64 = 1e-6;

/// Measured with pages of 14 KB on two shared cores of an AMD EPYC, which need two to three times as long as quiet ones. The
/// costs of a proxy are from `bench compare` (docs/performance.md, `heads` and `misses`), and its beats from an idle proxy;
/// `heard` is an assumption. The costs of a node are from a client that sent 10,000 to 20,000 of each command to a Redis 7.0,
/// with reads in batches of eight, and from 20 clients that track.
pub(crate) const MEASURED: Costs = Costs {
    near_hit: 16.0 * US,
    store_hit: 29.0 * US,
    fill: 145.0 * US,
    heard: 5.0 * US,
    beat: 40.0 * US,
    get: 12.5 * US,
    set: 57.0 * US,
    told: 8.6 * US,
    answered_beat: 41.0 * US,
    purge: 46.0 * US,
};

/// How often a proxy beats on the feed of each node.
pub(crate) const BEATS: f64 = 100.0;

/// The means of a fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// Cores of a proxy. A node has one: Redis carries commands out on one thread.
    pub(crate) cores: f64,
    /// The requests that the origin answers in a second.
    pub(crate) origin: f64,
    /// The memory of a node, in bytes. Pages that do not fit are evicted.
    pub(crate) memory: f64,
    /// The bytes that a page takes there, with its key.
    pub(crate) page: f64,
}
