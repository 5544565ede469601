//! The data that the machine builds: operands, with containers and objects as nodes of one arena.
//!
//! A node is referred to by its index, so shared and even circular values need no special case: nothing is cloned,
//! and nothing is walked or dropped recursively. The items of all nodes are in one pool, and each node has a chain of
//! runs in it. So values that are never read (the payload that DRF stores a second time) cost little for each item,
//! and no allocation.

use bytes::Bytes;

use super::cursor::Span;

/// The most nodes of a value. A page of 1 MiB whose payload is a list of the smallest objects has half as many.
const MAX_NODES: usize = 1 << 18;

/// The longest text that is read: longer than any head. A bound is needed because many places can share one text.
const MAX_TEXT: usize = 256 << 10;

/// A value on the machine's stack or in a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    None,
    Bool(bool),
    Int(i64),
    /// A number that no page needs: a float, or an integer of more than 64 bits.
    Number,
    /// A part of the input. It is checked to be UTF-8 when it is read.
    Text(Span),
    /// A text that protocol 0 wrote with escapes: a part of `Heap::unescaped`.
    Unescaped(Span),
    /// A part of the input.
    Bytes(Span),
    Node(NodeId),
}

/// The index of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NodeId(u32);

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    List,
    Tuple,
    /// Its items are alternately keys and values.
    Dict,
    Set,
    /// A class or function. Only its name is known: its items are module and name.
    Class,
    /// An object of a class. If `called`, Python would call the class with `args`; otherwise it makes a bare object.
    /// Here nothing is run.
    Object {
        class: NodeId,
        args: NodeId,
        called: bool,
    },
}

struct Node {
    kind: Kind,
    items: Chain,
    /// The states that BUILD gave an object, in order.
    states: Chain,
}

/// A linked list of runs. `length` counts the items; the list is empty if it is 0.
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
    /// The index of the next run, or 0 for none: run 0 is never the next of another.
    next: u32,
}

/// The arena of one pickle.
pub(super) struct Heap<'a> {
    input: &'a Bytes,
    nodes: Vec<Node>,
    runs: Vec<Run>,
    items: Vec<Operand>,
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

    /// Adds a node; `None` if there are too many.
    pub(super) fn add(&mut self, kind: Kind, items: &[Operand]) -> Option<Operand> {
        if self.nodes.len() == MAX_NODES {
            return None;
        }
        let id = NodeId(self.nodes.len() as u32);
        let items = self.chain(Chain::default(), items);
        self.nodes.push(Node { kind, items, states: Chain::default() });
        Some(Operand::Node(id))
    }

    /// Adds items to a container, or to an object that behaves like one.
    pub(super) fn extend(&mut self, id: NodeId, items: &[Operand]) {
        self.node_mut(id).items = self.chain(self.node(id).items, items);
    }

    /// Adds a state to an object.
    pub(super) fn build(&mut self, id: NodeId, state: Operand) {
        self.node_mut(id).states = self.chain(self.node(id).states, &[state]);
    }

    fn chain(&mut self, mut chain: Chain, items: &[Operand]) -> Chain {
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

    pub(super) fn items(&self, id: NodeId) -> impl Iterator<Item = Operand> {
        self.walk(self.node(id).items)
    }

    /// The keys and values of a dict, or of an object that behaves like one.
    pub(super) fn entries(&self, id: NodeId) -> impl Iterator<Item = (Operand, Operand)> {
        let mut items = self.items(id);
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }

    /// The number of states of an object, and the states.
    pub(super) fn states(&self, id: NodeId) -> (usize, impl Iterator<Item = Operand>) {
        let states = self.node(id).states;
        (states.length as usize, self.walk(states))
    }

    fn walk(&self, chain: Chain) -> impl Iterator<Item = Operand> {
        let first = (chain.length > 0).then_some(chain.first);
        std::iter::successors(first, |run| Some(self.runs[*run as usize].next).filter(|next| *next > 0))
            .flat_map(|run| {
                let Run { start, length, .. } = self.runs[run as usize];
                self.items[start as usize..(start + length) as usize].iter().copied()
            })
    }

    /// The bytes of a text, not checked to be UTF-8: enough to compare it with a name.
    pub(super) fn raw(&self, value: Operand) -> Option<&[u8]> {
        match value {
            Operand::Text(span) => Some(&self.input[span.range()]),
            Operand::Unescaped(span) => Some(self.unescaped[span.range()].as_bytes()),
            _ => None,
        }
    }

    /// The text of an operand; `None` if it is longer than any text that a page needs.
    pub(super) fn text(&self, value: Operand) -> Option<&str> {
        let text = self.raw(value).filter(|text| text.len() <= MAX_TEXT)?;
        std::str::from_utf8(text).ok()
    }

    /// The bytes of an operand, without copying them.
    pub(super) fn bytes(&self, value: Operand) -> Option<Bytes> {
        match value {
            Operand::Bytes(span) => Some(self.input.slice(span.range())),
            _ => None,
        }
    }
}
