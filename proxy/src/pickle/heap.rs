//! What the machine builds: values, and containers and objects as nodes of one arena.
//!
//! A node is named by its index, so shared and even circular values are nothing special: nothing is cloned, and nothing
//! is walked or dropped recursively. The items of all nodes lie in one pool, in runs that each node chains; what
//! nobody asks for (the payload that DRF stores a second time) costs a few stores an item and no allocation.

use bytes::Bytes;

use super::cursor::Span;

/// The most nodes of a value: a page of a mebibyte whose payload is a list of the smallest objects has half as many.
const MAX_NODES: usize = 1 << 18;

/// The longest text that is looked at: longer than any head. Texts can be shared, so what many refer to must be short.
const MAX_TEXT: usize = 256 << 10;

/// A value of Python.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number that no page is made of: a float, or an integer of more than 64 bits.
    Number,
    /// A part of the input, in UTF-8 unless somebody lied: checked when it is looked at.
    Text(Span),
    /// A text that protocol 0 wrote with escapes, in `Heap::unescaped`.
    Unescaped(Span),
    /// A part of the input.
    Bytes(Span),
    Node(NodeId),
}

/// The index of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NodeId(u32);

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    List,
    Tuple,
    /// Its items are keys and values in turn.
    Dict,
    Set,
    /// A class or function, named only. Its items are module and name.
    Class,
    /// What would be made of a class: by its constructor with `args` if it is `called`, else bare. Nothing is run.
    Object {
        class: NodeId,
        args: NodeId,
        called: bool,
    },
}

struct Node {
    kind: Kind,
    items: Chain,
    /// What BUILD gave an object, in turn.
    states: Chain,
}

/// A list of runs of items; empty if `length` is 0.
#[derive(Clone, Copy, Default)]
struct Chain {
    first: u32,
    last: u32,
    length: u32,
}

#[derive(Clone, Copy)]
struct Run {
    start: u32,
    length: u32,
    /// The index of the next run, or 0: no run follows itself, and the first one follows none.
    next: u32,
}

/// The arena of one value.
pub(super) struct Heap<'a> {
    input: &'a Bytes,
    nodes: Vec<Node>,
    runs: Vec<Run>,
    items: Vec<Value>,
    pub(super) unescaped: String,
}

impl<'a> Heap<'a> {
    pub(super) fn new(input: &'a Bytes) -> Self {
        Self {
            input,
            nodes: Vec::with_capacity(32),
            runs: Vec::with_capacity(32),
            items: Vec::with_capacity(128),
            unescaped: String::new(),
        }
    }

    /// A new node; `None` if there are too many.
    pub(super) fn add(&mut self, kind: Kind, items: &[Value]) -> Option<Value> {
        if self.nodes.len() == MAX_NODES {
            return None;
        }
        let id = NodeId(self.nodes.len() as u32);
        let items = self.chain(Chain::default(), items);
        self.nodes.push(Node { kind, items, states: Chain::default() });
        Some(Value::Node(id))
    }

    /// Adds items to a container, or to an object that behaves as one.
    pub(super) fn extend(&mut self, id: NodeId, items: &[Value]) {
        self.node_mut(id).items = self.chain(self.node(id).items, items);
    }

    /// Sets attributes of an object.
    pub(super) fn build(&mut self, id: NodeId, state: Value) {
        self.node_mut(id).states = self.chain(self.node(id).states, &[state]);
    }

    fn chain(&mut self, mut chain: Chain, items: &[Value]) -> Chain {
        if items.is_empty() {
            return chain;
        }
        let (start, length) = (self.items.len() as u32, items.len() as u32);
        self.items.extend_from_slice(items);
        let follows = chain.length > 0 && {
            let last = self.runs[chain.last as usize];
            last.start + last.length == start
        };
        if follows {
            self.runs[chain.last as usize].length += length;
        } else {
            let run = self.runs.len() as u32;
            self.runs.push(Run { start, length, next: 0 });
            match chain.length {
                0 => chain.first = run,
                _ => self.runs[chain.last as usize].next = run,
            }
            chain.last = run;
        }
        chain.length += length;
        chain
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    pub(super) fn kind(&self, id: NodeId) -> Kind {
        self.node(id).kind
    }

    pub(super) fn len(&self, id: NodeId) -> usize {
        self.node(id).items.length as usize
    }

    pub(super) fn items(&self, id: NodeId) -> impl Iterator<Item = Value> {
        self.walk(self.node(id).items)
    }

    /// Keys and values of a dict, or of an object that behaves as one.
    pub(super) fn entries(&self, id: NodeId) -> impl Iterator<Item = (Value, Value)> {
        let mut items = self.items(id);
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }

    /// How often an object was built, and with what.
    pub(super) fn states(&self, id: NodeId) -> (usize, impl Iterator<Item = Value>) {
        let states = self.node(id).states;
        (states.length as usize, self.walk(states))
    }

    fn walk(&self, chain: Chain) -> impl Iterator<Item = Value> {
        let first = (chain.length > 0).then_some(chain.first);
        std::iter::successors(first, |run| Some(self.runs[*run as usize].next).filter(|next| *next > 0))
            .flat_map(|run| {
                let Run { start, length, .. } = self.runs[run as usize];
                self.items[start as usize..(start + length) as usize].iter().copied()
            })
    }

    /// The bytes of a text, not yet known to be UTF-8: enough to compare it with a name.
    pub(super) fn raw(&self, value: Value) -> Option<&[u8]> {
        match value {
            Value::Text(span) => Some(&self.input[span.range()]),
            Value::Unescaped(span) => Some(self.unescaped[span.range()].as_bytes()),
            _ => None,
        }
    }

    /// A text; `None` if it is longer than all that a page needs as one.
    pub(super) fn text(&self, value: Value) -> Option<&str> {
        let text = self.raw(value).filter(|text| text.len() <= MAX_TEXT)?;
        std::str::from_utf8(text).ok()
    }

    /// Bytes as they were stored, without a copy.
    pub(super) fn bytes(&self, value: Value) -> Option<Bytes> {
        match value {
            Value::Bytes(span) => Some(self.input.slice(span.range())),
            _ => None,
        }
    }
}
