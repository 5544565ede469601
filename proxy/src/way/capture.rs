//! The capture of a page while it is relayed. A limit bounds all captures of a proxy together.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::page::format::http::LARGE;

/// The room for captures.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    units: u32,
}

/// The part of a page that has arrived, and its share of the room.
#[derive(Debug)]
pub(crate) struct Capture {
    body: Vec<u8>,
    room: Arc<Semaphore>,
    units: u32,
    place: OwnedSemaphorePermit,
}

/// Bytes with their share of the room.
struct PlacedBytes {
    bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for PlacedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The unit of room in bytes: a semaphore cannot count the bytes of a large machine.
const UNIT: u64 = 4096;

/// The room for the head of its value that the buffer of a [`LARGE`] page has, so that the page is in memory only once while it
/// is encoded. A smaller page would waste much of that room.
const HEAD: usize = 4 << 10;

impl Room {
    /// Room for this many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        let units = u32::try_from(limit / UNIT).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// A capture of a page with this length, if there is room for it now. A page of unknown length takes room as it arrives.
    pub(crate) fn capture(&self, length: Option<u64>) -> Option<Capture> {
        let length = length.unwrap_or_default();
        let place = self.free.clone().try_acquire_many_owned(units(length, self.units)).ok()?;
        let length = usize::try_from(length).ok()?;
        let head = if length < LARGE { 0 } else { HEAD };
        let body = Vec::with_capacity(length + head);
        Some(Capture { body, room: self.free.clone(), units: self.units, place })
    }
}

/// The units for a page of this length. A page that is larger than the room takes all of it.
fn units(length: u64, most: u32) -> u32 {
    u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX).min(most)
}

impl Capture {
    /// Adds data. Returns false if there is no room for it.
    pub(crate) fn add(&mut self, data: &Bytes) -> bool {
        let length = (self.body.len() + data.len()) as u64;
        let more = units(length, self.units).saturating_sub(self.place.num_permits() as u32);
        if more > 0 {
            let Ok(more) = self.room.clone().try_acquire_many_owned(more) else { return false };
            self.place.merge(more);
        }
        self.body.extend_from_slice(data);
        true
    }

    /// The bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.body.len() as u64
    }

    /// The bytes so far. They keep their share of the room until they are dropped.
    pub(crate) fn held(self) -> Bytes {
        Bytes::from_owner(PlacedBytes { bytes: self.body, _place: self.place })
    }

    /// The body and its share of the room. Dropping the permit frees the share.
    pub(crate) fn whole(self) -> (Bytes, OwnedSemaphorePermit) {
        (self.body.into(), self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_end_where_the_room_ends() {
        let room = Room::new(4 * UNIT);
        let known = room.capture(Some(2 * UNIT)).unwrap();
        let mut unknown = room.capture(None).unwrap();
        let page = Bytes::from(vec![b'x'; UNIT as usize]);
        assert!(unknown.add(&page) && unknown.add(&page) && !unknown.add(&page));
        assert!(room.capture(Some(1)).is_none());
        drop(known);
        assert!(unknown.add(&page));
        let (body, place) = unknown.whole();
        assert_eq!(body.len() as u64, 3 * UNIT);
        assert!(room.capture(Some(2 * UNIT)).is_none());
        drop(place);
        assert!(room.capture(Some(2 * UNIT)).is_some());
    }

    #[test]
    fn a_page_that_is_larger_than_the_room_is_captured_alone() {
        let room = Room::new(UNIT);
        let large = room.capture(Some(1 << 20)).unwrap();
        assert!(room.capture(Some(1 << 20)).is_none());
        drop(large);
        assert!(room.capture(Some(1 << 20)).is_some());
    }
}
