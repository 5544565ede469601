//! The order to end, and how connections notice it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The right to order the shutdown. Dropping it gives the order.
#[derive(Default)]
pub(crate) struct Order(Arc<Given>);

#[derive(Default)]
struct Given {
    is_now: AtomicBool,
    calls: Arc<Notify>,
}

/// The receiving end of the order, for the one task that serves a connection.
pub(crate) struct Stopping {
    order: Arc<Given>,
    /// Wakes the task at the order; `None` until the task has waited once.
    call: Option<Pin<Box<OwnedNotified>>>,
}

impl Drop for Order {
    fn drop(&mut self) {
        self.0.is_now.store(true, Ordering::Release);
        self.0.calls.notify_waiters();
    }
}

impl Stopping {
    pub(crate) fn new(order: &Order) -> Self {
        Self { order: order.0.clone(), call: None }
    }

    /// Waits for the order.
    pub(crate) async fn ordered(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    /// Ready from the order on. The task registers to be woken once, and not for each request: registering takes a lock that
    /// all connections share.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.call.is_none() {
            let call = self.call.insert(Box::pin(self.order.calls.clone().notified_owned()));
            // The check below sees an order that came before this.
            let _ = call.as_mut().poll(cx);
        }
        if self.order.is_now.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_task_that_has_asked_before_is_woken_by_the_order() {
        let order = Order::default();
        let mut stopping = Stopping::new(&order);
        let waiting = tokio::spawn(async move {
            for _ in 0..2 {
                assert!(poll_fn(|cx| Poll::Ready(stopping.poll(cx))).await.is_pending());
            }
            for _ in 0..2 {
                poll_fn(|cx| stopping.poll(cx)).await;
            }
        });
        tokio::task::yield_now().await;
        let mut late = Stopping::new(&order);
        drop(order);
        waiting.await.unwrap();
        poll_fn(|cx| late.poll(cx)).await;
    }
}
