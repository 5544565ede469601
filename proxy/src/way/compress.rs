//! Compresses pages on threads beside the workers, a bounded number at a time.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use crate::page::forms::Forms;
use crate::request::Coding;

/// How long the end of a page waits for its forms. A page is compressed in milliseconds. If a burst of large pages takes
/// longer, they are stored without forms.
const PATIENCE: Duration = Duration::from_secs(2);

/// The threads that compress pages.
#[derive(Clone, Debug)]
pub(super) struct CompressionPool {
    places: Arc<Semaphore>,
}

impl CompressionPool {
    /// A pool that leaves half of the cores to the workers.
    pub(super) fn new() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self { places: Arc::new(Semaphore::new(cores.div_ceil(2))) }
    }

    /// The forms of a page in these codings, within `limit` bytes together with the page. If they take too long, there are
    /// none.
    pub(super) async fn forms(&self, codings: Vec<Coding>, body: &Bytes, limit: u64) -> Forms {
        if codings.is_empty() {
            return Forms::default();
        }
        let body = body.clone();
        let made = async {
            let place = self.places.clone().acquire_owned().await.ok()?;
            let compress = move || {
                let _place = place;
                Forms::of(&body, &codings, limit)
            };
            spawn_blocking(compress).await.ok()
        };
        timeout(PATIENCE, made).await.ok().flatten().unwrap_or_else(|| {
            debug!("too many pages to compress: one is stored as it came");
            Forms::default()
        })
    }
}
