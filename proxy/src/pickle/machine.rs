//! The machine that pickles are programs of: a stack, a memo, and a heap of plain data. Nothing is ever imported,
//! called or run: a class is its name, and an object is its class, its arguments and the states it was built with.
//!
//! Time and memory are linear in the input, and bounded: no opcode does more than its own length in bytes or the
//! number of values it takes from the stack, and there are at most `MAX_OPCODES` of them.

use bytes::Bytes;

use super::cursor::{Cursor, Span};
use super::heap::{Heap, Kind, Value};
use super::literal;
use super::opcode::*;

/// The longest value that is read, so that spans fit in 32 bits; pages are far shorter.
const MAX_VALUE: usize = 64 << 20;

/// A page of a mebibyte whose payload is a list of small numbers, which DRF stores a second time, has half as many.
/// Each costs at most some 30 bytes of memory.
const MAX_OPCODES: usize = 1 << 20;

/// The newest protocol that Python knows.
const MAX_PROTOCOL: u8 = 5;

struct Machine<'a> {
    input: Cursor<'a>,
    heap: Heap<'a>,
    stack: Vec<Value>,
    /// The heights of the stack at each mark that is still open.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// How many places of the memo are taken: the place of the next MEMOIZE.
    memoized: usize,
}

/// Reads a pickle; `None` for all that Python would not load either, and for what passes the bounds. What follows its
/// STOP is ignored.
pub(super) fn load(input: &Bytes) -> Option<(Heap<'_>, Value)> {
    if input.len() > MAX_VALUE {
        return None;
    }
    let mut machine = Machine {
        input: Cursor::new(input),
        heap: Heap::new(input),
        stack: Vec::with_capacity(64),
        marks: Vec::with_capacity(8),
        memo: Vec::with_capacity(128),
        memoized: 0,
    };
    for _ in 0..MAX_OPCODES {
        match machine.input.byte()? {
            STOP => {
                let value = machine.pop()?;
                return Some((machine.heap, value));
            }
            opcode => machine.step(opcode)?,
        }
    }
    None
}

impl Machine<'_> {
    /// The opcodes by what they work on, those that are most frequent first.
    fn step(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            MEMOIZE => self.memoize(self.memoized),
            BINGET => self.number::<1>().and_then(|at| self.recall(at)),
            LONG_BINGET => self.number::<4>().and_then(|at| self.recall(at)),
            GET => self.decimal().and_then(|at| self.recall(at)),
            BINPUT => self.number::<1>().and_then(|at| self.memoize(at)),
            LONG_BINPUT => self.number::<4>().and_then(|at| self.memoize(at)),
            PUT => self.decimal().and_then(|at| self.memoize(at)),
            MARK => self.mark(),
            POP => self.discard(),
            POP_MARK => self.marked().map(|start| self.stack.truncate(start)),
            DUP => self.top().and_then(|value| self.put(value)),
            PROTO => self.input.byte().filter(|protocol| *protocol <= MAX_PROTOCOL).map(drop),
            FRAME => self.number::<8>().filter(|length| *length <= self.input.remaining()).map(drop),
            _ => self.contain(opcode),
        }
    }

    /// Lists, tuples, dicts and sets.
    fn contain(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            EMPTY_LIST => self.push(Kind::List),
            EMPTY_TUPLE => self.push(Kind::Tuple),
            EMPTY_DICT => self.push(Kind::Dict),
            EMPTY_SET => self.push(Kind::Set),
            TUPLE1 => self.last(1).and_then(|start| self.gather(Kind::Tuple, start)),
            TUPLE2 => self.last(2).and_then(|start| self.gather(Kind::Tuple, start)),
            TUPLE3 => self.last(3).and_then(|start| self.gather(Kind::Tuple, start)),
            TUPLE => self.marked().and_then(|start| self.gather(Kind::Tuple, start)),
            LIST => self.marked().and_then(|start| self.gather(Kind::List, start)),
            FROZENSET => self.marked().and_then(|start| self.gather(Kind::Set, start)),
            DICT => self.marked().and_then(|start| self.gather(Kind::Dict, start)),
            APPEND => self.last(1).and_then(|start| self.extend(Kind::List, start)),
            APPENDS => self.marked().and_then(|start| self.extend(Kind::List, start)),
            SETITEM => self.last(2).and_then(|start| self.extend(Kind::Dict, start)),
            SETITEMS => self.marked().and_then(|start| self.extend(Kind::Dict, start)),
            ADDITEMS => self.marked().and_then(|start| self.extend(Kind::Set, start)),
            _ => self.instantiate(opcode),
        }
    }

    /// Classes and objects.
    fn instantiate(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.class(module, name)
            }
            GLOBAL => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.class(Value::Text(module), Value::Text(name))
            }
            NEWOBJ | REDUCE => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.object(class, args, opcode == REDUCE)
            }
            NEWOBJ_EX => {
                let (_named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(class, args, false)
            }
            INST => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let start = self.marked()?;
                self.class(Value::Text(module), Value::Text(name))?;
                let class = self.pop()?;
                self.call(class, start)
            }
            OBJ => {
                let start = self.marked()?;
                let class = *self.stack.get(start)?;
                self.call(class, start + 1)?;
                let object = self.pop()?;
                self.stack.truncate(start);
                self.put(object)
            }
            BUILD => {
                let (state, Value::Node(object)) = (self.pop()?, self.top()?) else { return None };
                matches!(self.heap.kind(object), Kind::Object { .. }).then(|| self.heap.build(object, state))
            }
            _ => {
                let value = literal::read(opcode, &mut self.input, &mut self.heap.unescaped)?;
                self.put(value)
            }
        }
    }

    fn class(&mut self, module: Value, name: Value) -> Option<()> {
        self.heap.raw(module).and(self.heap.raw(name))?;
        let class = self.heap.add(Kind::Class, &[module, name])?;
        self.put(class)
    }

    fn object(&mut self, class: Value, args: Value, called: bool) -> Option<()> {
        let (Value::Node(class), Value::Node(args)) = (class, args) else { return None };
        let callable = matches!(self.heap.kind(class), Kind::Class | Kind::Object { .. });
        if !callable || self.heap.kind(args) != Kind::Tuple {
            return None;
        }
        self.push(Kind::Object { class, args, called })
    }

    /// What protocol 0 does: a class without arguments is not called.
    fn call(&mut self, class: Value, start: usize) -> Option<()> {
        let called = self.stack.len() > start;
        self.gather(Kind::Tuple, start)?;
        let args = self.pop()?;
        self.object(class, args, called)
    }

    fn mark(&mut self) -> Option<()> {
        self.marks.push(self.stack.len());
        Some(())
    }

    fn put(&mut self, value: Value) -> Option<()> {
        self.stack.push(value);
        Some(())
    }

    fn push(&mut self, kind: Kind) -> Option<()> {
        let node = self.heap.add(kind, &[])?;
        self.put(node)
    }

    /// Makes one node of the values from `start` on.
    fn gather(&mut self, kind: Kind, start: usize) -> Option<()> {
        let values = &self.stack[start..];
        if kind == Kind::Dict && !values.len().is_multiple_of(2) {
            return None;
        }
        let node = self.heap.add(kind, values)?;
        self.stack.truncate(start);
        self.put(node)
    }

    /// Adds the values from `start` on to the container, or the object that behaves as one, below them.
    fn extend(&mut self, kind: Kind, start: usize) -> Option<()> {
        let below = start.checked_sub(1).filter(|below| *below >= self.floor())?;
        let Value::Node(id) = self.stack[below] else { return None };
        let values = &self.stack[start..];
        let fits = self.heap.kind(id) == kind || matches!(self.heap.kind(id), Kind::Object { .. });
        if !fits || (kind == Kind::Dict && !values.len().is_multiple_of(2)) {
            return None;
        }
        self.heap.extend(id, values);
        self.stack.truncate(start);
        Some(())
    }

    /// What lies below the last mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Option<Value> {
        self.stack[self.floor()..].last().copied()
    }

    fn pop(&mut self) -> Option<Value> {
        let value = self.top()?;
        self.stack.pop();
        Some(value)
    }

    /// POP takes a value, or a mark if there is none above it.
    fn discard(&mut self) -> Option<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            return self.marks.pop().map(drop);
        }
        self.pop().map(drop)
    }

    fn last(&self, count: usize) -> Option<usize> {
        self.stack.len().checked_sub(count).filter(|start| *start >= self.floor())
    }

    fn marked(&mut self) -> Option<usize> {
        self.marks.pop()
    }

    /// Picklers number in turn. A place beyond the length of the input is a trick to make the memo long.
    fn memoize(&mut self, at: usize) -> Option<()> {
        let value = self.top()?;
        if at >= self.memo.len() {
            if at > self.input.len() {
                return None;
            }
            self.memo.resize(at + 1, None);
        }
        self.memoized += usize::from(self.memo[at].replace(value).is_none());
        Some(())
    }

    fn recall(&mut self, at: usize) -> Option<()> {
        let value = (*self.memo.get(at)?)?;
        self.put(value)
    }

    fn number<const N: usize>(&mut self) -> Option<usize> {
        usize::try_from(self.input.number::<N>()?).ok()
    }

    fn decimal(&mut self) -> Option<usize> {
        let line: Span = self.input.line()?;
        std::str::from_utf8(self.input.get(line)).ok()?.parse().ok()
    }
}
