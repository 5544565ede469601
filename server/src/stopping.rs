//! The order to end, as a connection hears of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// For the one task that has a connection.
pub(crate) struct Stopping {
    order: watch::Receiver<()>,
    /// Wakes the task, once it is to be woken.
    call: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Stopping {
    pub(crate) fn new(order: watch::Receiver<()>) -> Self {
        Self { order, call: None }
    }

    /// Said, or its sender dropped: the end is near in either case.
    pub(crate) fn is_now(&self) -> bool {
        self.order.has_changed().unwrap_or(true)
    }

    /// Ready from the order on. The task asks to be woken once and not for each request: that takes a lock which all
    /// connections share.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_now() {
            return Poll::Ready(());
        }
        if self.call.is_some() {
            return Poll::Pending;
        }
        let mut order = self.order.clone();
        let call = self.call.insert(Box::pin(async move {
            // An error is an order, too.
            let _ = order.changed().await;
        }));
        call.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_task_that_has_asked_before_is_woken_by_the_order_and_by_its_sender_s_end() {
        for says in [true, false] {
            let (stop, order) = watch::channel(());
            let mut stopping = Stopping::new(order);
            let waiting = tokio::spawn(async move {
                for _ in 0..2 {
                    assert!(poll_fn(|cx| Poll::Ready(stopping.poll(cx))).await.is_pending());
                }
                for _ in 0..2 {
                    poll_fn(|cx| stopping.poll(cx)).await;
                }
            });
            tokio::task::yield_now().await;
            if says {
                stop.send_replace(());
            }
            drop(stop);
            waiting.await.unwrap();
        }
    }
}
