//! Reads the content of a QUERY before the decision, since it selects the page.

use hyper::Method;
use hyper::http::request::Parts;
use server::Peer;

use super::Proxy;
use super::capture::Room;
use crate::origin::{OriginError, RequestBody};
use crate::request::{Content, Question};

/// The room for contents, in bytes. A content is held from its first byte until its request is answered.
const ROOM: u64 = 16 << 20;

/// The room for the contents of a proxy.
pub(super) fn room() -> Room {
    Room::new(ROOM)
}

impl<S> Proxy<S> {
    /// Reads the content of a request whose rule caches QUERY, and adds it to the request. If the content is too long, or
    /// finds no room, it stays in the returned body, and the request passes.
    pub(super) async fn take_content(
        &self,
        request: &mut Parts,
        mut body: RequestBody,
        peer: Peer,
    ) -> Result<RequestBody, OriginError> {
        // The method is checked first, since most requests have another one.
        let is_query = request.method == Method::QUERY;
        if !is_query || !self.policy.rules().reads_content(&Question::of_parts(request, peer)) {
            return Ok(body);
        }
        let length = body.length();
        if length.lower() > Content::LONGEST {
            return Ok(body);
        }
        let Some(mut capture) = self.contents.capture(length.exact()) else { return Ok(body) };
        while let Some(piece) = self.upstreams.read(&mut body).await? {
            if capture.len() + piece.len() as u64 > Content::LONGEST || !capture.add(&piece) {
                body.unread(piece);
                body.unread(capture.held());
                return Ok(body);
            }
        }
        request.extensions.insert(Content::new(capture.held()));
        Ok(body)
    }
}
