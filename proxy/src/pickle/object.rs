//! Objects as a page needs them: the name of a class, its arguments, attributes and items.

use bytes::Bytes;

use super::heap::{Heap, Kind, NodeId, Value};

/// More fields than a response has: an origin behind hyper may send 100. It bounds what is quadratic.
pub(super) const MAX_FIELDS: usize = 256;

/// More states than an object has: one that restores it, one that a hand-made value adds to what a constructor made.
const MAX_STATES: usize = 4;

/// An object of some class.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) heap: &'a Heap<'a>,
    id: NodeId,
    /// Module and name of its class.
    pub(super) class: (&'a [u8], &'a [u8]),
    args: NodeId,
    /// Its constructor makes it; else it is bare.
    pub(super) called: bool,
    /// What protocols 0 and 1 give to a subclass of `dict`.
    contents: Option<NodeId>,
}

impl<'a> Object<'a> {
    pub(super) fn of(heap: &'a Heap<'a>, value: Value) -> Option<Self> {
        let Value::Node(id) = value else { return None };
        let Kind::Object { class, args, called } = heap.kind(id) else { return None };
        let object = Self { heap, id, class: class_name(heap, class)?, args, called, contents: None };
        match object.class {
            (b"copyreg" | b"copy_reg", b"_reconstructor") if called => object.reconstructed(),
            _ => Some(object),
        }
    }

    /// Protocols 0 and 1 make a bare object by a call with its class, its builtin base, and what the base holds.
    fn reconstructed(self) -> Option<Self> {
        let mut args = self.args();
        let (Value::Node(class), Some(_base), Some(contents)) = (args.next()?, args.next(), args.next())
        else {
            return None;
        };
        let contents = match contents {
            Value::Node(id) => (self.heap.kind(id) == Kind::Dict).then_some(id),
            _ => None,
        };
        Some(Self { class: class_name(self.heap, class)?, called: false, contents, ..self })
    }

    pub(super) fn args(&self) -> impl Iterator<Item = Value> + use<'a> {
        self.heap.items(self.args)
    }

    /// Its items as those of a dict, the last of equal keys.
    pub(super) fn items(&self) -> Option<Vec<(&'a str, Value)>> {
        let contents = self.contents.into_iter().flat_map(|id| self.heap.entries(id));
        unique(self.heap, contents.chain(self.heap.entries(self.id)))
    }

    /// Hands each attribute to `set`, in turn: the last of equal names counts. `None` if there are too many, or if they
    /// are not set by a dict.
    pub(super) fn attributes(&self, mut set: impl FnMut(&'a [u8], Value)) -> Option<()> {
        let (count, states) = self.heap.states(self.id);
        if count > MAX_STATES {
            return None;
        }
        for state in states {
            let state = dict(self.heap, state)?;
            if self.heap.len(state) > 2 * MAX_FIELDS {
                return None;
            }
            for (name, value) in self.heap.entries(state) {
                set(self.heap.raw(name)?, value);
            }
        }
        Some(())
    }
}

fn class_name<'a>(heap: &'a Heap<'_>, class: NodeId) -> Option<(&'a [u8], &'a [u8])> {
    if heap.kind(class) != Kind::Class {
        return None;
    }
    let mut names = heap.items(class);
    Some((heap.raw(names.next()?)?, heap.raw(names.next()?)?))
}

/// The node of a plain dict.
pub(super) fn dict(heap: &Heap<'_>, value: Value) -> Option<NodeId> {
    let Value::Node(id) = value else { return None };
    (heap.kind(id) == Kind::Dict).then_some(id)
}

/// The node of a list or tuple.
pub(super) fn sequence(heap: &Heap<'_>, value: Value) -> Option<NodeId> {
    let Value::Node(id) = value else { return None };
    matches!(heap.kind(id), Kind::List | Kind::Tuple).then_some(id)
}

/// The two items of a list or tuple of two.
pub(super) fn pair(heap: &Heap<'_>, value: Value) -> Option<(Value, Value)> {
    let id = sequence(heap, value)?;
    let mut items = heap.items(id);
    (heap.len(id) == 2).then_some((items.next()?, items.next()?))
}

/// Entries as a dict keeps them: a key stays where it was first, and its last value counts. `None` if there are too many,
/// or one whose key is not a text.
pub(super) fn unique<'a>(
    heap: &'a Heap<'_>,
    entries: impl Iterator<Item = (Value, Value)>,
) -> Option<Vec<(&'a str, Value)>> {
    let mut kept: Vec<(&str, Value)> = Vec::new();
    for (count, (key, value)) in entries.enumerate() {
        let key = heap.text(key).filter(|_| count < MAX_FIELDS)?;
        match kept.iter_mut().find(|(earlier, _)| *earlier == key) {
            Some(entry) => entry.1 = value,
            None => kept.push((key, value)),
        }
    }
    Some(kept)
}

/// Bytes, or a `bytearray` of them, as it is written before protocol 5.
pub(super) fn bytes(heap: &Heap<'_>, value: Value) -> Option<Bytes> {
    if let Some(bytes) = plain_bytes(heap, value) {
        return Some(bytes);
    }
    let object = Object::of(heap, value).filter(|object| object.called)?;
    let mut args = object.args();
    match (object.class, args.next(), args.next()) {
        ((b"builtins" | b"__builtin__", b"bytearray"), None, None) => Some(Bytes::new()),
        ((b"builtins" | b"__builtin__", b"bytearray"), Some(bytes), None) => plain_bytes(heap, bytes),
        _ => None,
    }
}

/// Bytes, also as protocols 0 to 2 make them: of a text in Latin-1, or of nothing.
fn plain_bytes(heap: &Heap<'_>, value: Value) -> Option<Bytes> {
    if let Some(bytes) = heap.bytes(value) {
        return Some(bytes);
    }
    let object = Object::of(heap, value).filter(|object| object.called)?;
    let mut args = object.args();
    match (object.class, args.next(), args.next()) {
        ((b"builtins" | b"__builtin__", b"bytes"), None, None) => Some(Bytes::new()),
        ((b"_codecs", b"encode"), Some(text), Some(codec)) if heap.raw(codec)? == b"latin1" => {
            let letters = std::str::from_utf8(heap.raw(text)?).ok()?.chars();
            letters.map(|letter| u8::try_from(letter).ok()).collect::<Option<Vec<u8>>>().map(Bytes::from)
        }
        _ => None,
    }
}
