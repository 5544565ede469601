//! An object as a page needs it: the name of its class, its arguments, attributes and items.

use bytes::Bytes;

use super::heap::{Heap, Kind, NodeId, Operand};

/// The most fields of a response: hyper accepts 100 from an origin. It bounds loops that are quadratic.
pub(super) const MAX_FIELDS: usize = 256;

/// The most states of an object. One restores an object; a hand-made value may add one to a constructed object.
const MAX_STATES: usize = 4;

/// An object of some class.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) heap: &'a Heap<'a>,
    id: NodeId,
    /// The module and name of its class.
    pub(super) class: (&'a [u8], &'a [u8]),
    args: NodeId,
    /// Whether its constructor makes it. Otherwise it is bare.
    pub(super) called: bool,
    /// The dict that protocols 0 and 1 give to a subclass of `dict`.
    contents: Option<NodeId>,
}

impl<'a> Object<'a> {
    pub(super) fn of(heap: &'a Heap<'a>, value: Operand) -> Option<Self> {
        let Operand::Node(id) = value else { return None };
        let Kind::Object { class, args, called } = heap.kind(id) else { return None };
        let object = Self { heap, id, class: class_name(heap, class)?, args, called, contents: None };
        match object.class {
            (b"copyreg" | b"copy_reg", b"_reconstructor") if called => object.reconstructed(),
            _ => Some(object),
        }
    }

    /// Protocols 0 and 1 make a bare object by a call with its class, its builtin base class, and the value of that
    /// base.
    fn reconstructed(self) -> Option<Self> {
        let mut args = self.args();
        let (Operand::Node(class), Some(_base), Some(contents)) = (args.next()?, args.next(), args.next())
        else {
            return None;
        };
        let contents = match contents {
            Operand::Node(id) => (self.heap.kind(id) == Kind::Dict).then_some(id),
            _ => None,
        };
        Some(Self { class: class_name(self.heap, class)?, called: false, contents, ..self })
    }

    pub(super) fn args(&self) -> impl Iterator<Item = Operand> + use<'a> {
        self.heap.items(self.args)
    }

    /// Its items as a dict keeps them: the last of equal keys counts.
    pub(super) fn items(&self) -> Option<Vec<(&'a str, Operand)>> {
        let contents = self.contents.into_iter().flat_map(|id| self.heap.entries(id));
        unique(self.heap, contents.chain(self.heap.entries(self.id)))
    }

    /// Passes each attribute to `set`, in order, so the last of equal names counts. `None` if there are too many, or
    /// if a state is not a dict.
    pub(super) fn attributes(&self, mut set: impl FnMut(&'a [u8], Operand)) -> Option<()> {
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
pub(super) fn dict(heap: &Heap<'_>, value: Operand) -> Option<NodeId> {
    let Operand::Node(id) = value else { return None };
    (heap.kind(id) == Kind::Dict).then_some(id)
}

/// The node of a list or tuple.
pub(super) fn sequence(heap: &Heap<'_>, value: Operand) -> Option<NodeId> {
    let Operand::Node(id) = value else { return None };
    matches!(heap.kind(id), Kind::List | Kind::Tuple).then_some(id)
}

/// The two items of a list or tuple of two.
pub(super) fn pair(heap: &Heap<'_>, value: Operand) -> Option<(Operand, Operand)> {
    let id = sequence(heap, value)?;
    let mut items = heap.items(id);
    (heap.len(id) == 2).then_some((items.next()?, items.next()?))
}

/// Entries as a dict keeps them: a key keeps its first place and gets its last value. `None` if there are too many,
/// or if a key is not a text.
pub(super) fn unique<'a>(
    heap: &'a Heap<'_>,
    entries: impl Iterator<Item = (Operand, Operand)>,
) -> Option<Vec<(&'a str, Operand)>> {
    let mut kept: Vec<(&str, Operand)> = Vec::new();
    for (count, (key, value)) in entries.enumerate() {
        let key = heap.text(key).filter(|_| count < MAX_FIELDS)?;
        match kept.iter_mut().find(|(earlier, _)| *earlier == key) {
            Some(entry) => entry.1 = value,
            None => kept.push((key, value)),
        }
    }
    Some(kept)
}

/// Bytes, or a `bytearray` as protocols before 5 write it.
pub(super) fn bytes(heap: &Heap<'_>, value: Operand) -> Option<Bytes> {
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

/// Bytes, also as protocols 0 to 2 make them: from a Latin-1 text, or without an argument.
fn plain_bytes(heap: &Heap<'_>, value: Operand) -> Option<Bytes> {
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
