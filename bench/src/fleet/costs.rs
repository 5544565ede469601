//! What each part of the work costs, as it was measured, and what there is to spend.

/// Seconds of CPU for one piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Of a proxy.
    pub(crate) near_hit: f64,
    pub(crate) store_hit: f64,
    pub(crate) fill: f64,
    pub(crate) heard: f64,
    /// A beat of the feed of one node.
    pub(crate) beat: f64,
    /// Of a node.
    pub(crate) get: f64,
    pub(crate) set: f64,
    /// To tell one proxy of one change.
    pub(crate) told: f64,
    pub(crate) answered_beat: f64,
    pub(crate) purge: f64,
}

const US: f64 = 1e-6;

/// Measured with pages of 14 KB on two shared cores of an AMD EPYC, which need two to three times what quiet ones do. Those
/// of a proxy: `bench compare` (docs/performance.md, `heads` and `misses`), and its beats on an idle proxy; `heard` is an
/// assumption. Those of a node: a client that sent 10,000 to 20,000 of each command to a Redis 7.0, reads in batches of
/// eight, and 20 clients that track.
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

/// What there is to spend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// Cores of a proxy. A node has one: Redis carries commands out on one thread.
    pub(crate) cores: f64,
    /// The requests that the origin answers in a second.
    pub(crate) origin: f64,
    /// The memory of a node, in bytes. What does not fit is evicted.
    pub(crate) memory: f64,
    /// The size of a page in it, with its key.
    pub(crate) page: f64,
}
