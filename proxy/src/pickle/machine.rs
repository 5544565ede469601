//! The machine that runs pickles: a stack, a memo, and a heap of plain data. It never imports, calls or runs anything:
//! a class is only its name, and an object is its class, its arguments and the states that BUILD gave it.
//!
//! Time and memory are linear in the input, and bounded: the work of an opcode is proportional to its length in bytes
//! or to the number of values that it takes from the stack, and there are at most `MAX_OPCODES` opcodes.

use bytes::Bytes;

use super::cursor::{Cursor, Span};
use super::heap::{Heap, Kind, Operand};
use super::literal;
use super::opcode::*;

/// The longest value that is read. Pages are far shorter, and spans fit in 32 bits.
const MAX_VALUE: usize = 64 << 20;

/// The most opcodes of a value. A page of 1 MiB whose payload is a list of small numbers, which DRF stores a second
/// time, has half as many. Each opcode costs at most about 30 bytes of memory.
const MAX_OPCODES: usize = 1 << 20;

/// The newest protocol of Python.
const MAX_PROTOCOL: u8 = 5;

struct Machine<'a> {
    input: Cursor<'a>,
    heap: Heap<'a>,
    stack: Vec<Operand>,
    /// The height of the stack at each open mark.
    marks: Vec<usize>,
    memo: Vec<Option<Operand>>,
    /// The number of values in the memo, which is the place of the next MEMOIZE.
    memoized: usize,
}

/// Reads a pickle. `None` if Python would not load it either, or if it exceeds the bounds. Bytes after STOP are
/// ignored.
pub(super) fn load(input: &Bytes) -> Option<(Heap<'_>, Operand)> {
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
    /// Runs one opcode. The most frequent come first: more than half of all are short texts and their MEMOIZE.
    fn step(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            SHORT_BINUNICODE => self.input.counted::<1>().and_then(|text| self.put(Operand::Text(text))),
            MEMOIZE => self.memoize(self.memoized),
            BINGET => self.input.byte().and_then(|at| self.recall(usize::from(at))),
            LONG_BINGET => self.number::<4>().and_then(|at| self.recall(at)),
            GET => self.decimal().and_then(|at| self.recall(at)),
            BINPUT => self.input.byte().and_then(|at| self.memoize(usize::from(at))),
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

    /// Runs the opcodes of lists, tuples, dicts and sets.
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

    /// Runs the opcodes of classes and objects.
    fn instantiate(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.class(module, name).and_then(|class| self.put(class))
            }
            GLOBAL => self.global().and_then(|class| self.put(class)),
            NEWOBJ | REDUCE => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.object(class, args, opcode == REDUCE)
            }
            NEWOBJ_EX => {
                let (_named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(class, args, false)
            }
            INST => {
                let (class, start) = (self.global()?, self.marked()?);
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
                let (state, Operand::Node(object)) = (self.pop()?, self.top()?) else { return None };
                matches!(self.heap.kind(object), Kind::Object { .. }).then(|| self.heap.build(object, state))
            }
            _ => {
                let value = literal::read(opcode, &mut self.input, &mut self.heap.unescaped)?;
                self.put(value)
            }
        }
    }

    fn global(&mut self) -> Option<Operand> {
        let (module, name) = (self.input.line()?, self.input.line()?);
        self.class(Operand::Text(module), Operand::Text(name))
    }

    fn class(&mut self, module: Operand, name: Operand) -> Option<Operand> {
        self.heap.raw(module).and(self.heap.raw(name))?;
        self.heap.add(Kind::Class, &[module, name])
    }

    fn object(&mut self, class: Operand, args: Operand, called: bool) -> Option<()> {
        let (Operand::Node(class), Operand::Node(args)) = (class, args) else { return None };
        let callable = matches!(self.heap.kind(class), Kind::Class | Kind::Object { .. });
        if !callable || self.heap.kind(args) != Kind::Tuple {
            return None;
        }
        self.push(Kind::Object { class, args, called })
    }

    /// Protocol 0 does not call a class without arguments.
    fn call(&mut self, class: Operand, start: usize) -> Option<()> {
        let called = self.stack.len() > start;
        self.gather(Kind::Tuple, start)?;
        let args = self.pop()?;
        self.object(class, args, called)
    }

    fn mark(&mut self) -> Option<()> {
        self.marks.push(self.stack.len());
        Some(())
    }

    fn put(&mut self, value: Operand) -> Option<()> {
        self.stack.push(value);
        Some(())
    }

    fn push(&mut self, kind: Kind) -> Option<()> {
        let node = self.heap.add(kind, &[])?;
        self.put(node)
    }

    /// Replaces the values from `start` on by one node of them.
    fn gather(&mut self, kind: Kind, start: usize) -> Option<()> {
        let values = &self.stack[start..];
        if kind == Kind::Dict && !values.len().is_multiple_of(2) {
            return None;
        }
        let node = self.heap.add(kind, values)?;
        self.stack.truncate(start);
        self.put(node)
    }

    /// Adds the values from `start` on to the container, or the object that behaves like one, below them.
    fn extend(&mut self, kind: Kind, start: usize) -> Option<()> {
        let below = start.checked_sub(1).filter(|below| *below >= self.floor())?;
        let Operand::Node(id) = self.stack[below] else { return None };
        let values = &self.stack[start..];
        let fits = self.heap.kind(id) == kind || matches!(self.heap.kind(id), Kind::Object { .. });
        if !fits || (kind == Kind::Dict && !values.len().is_multiple_of(2)) {
            return None;
        }
        self.heap.extend(id, values);
        self.stack.truncate(start);
        Some(())
    }

    /// The lowest reachable place of the stack: values below the last mark are out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Option<Operand> {
        self.stack[self.floor()..].last().copied()
    }

    fn pop(&mut self) -> Option<Operand> {
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

    /// Picklers use places one after the other. A place beyond the length of the input would only make the memo huge.
    fn memoize(&mut self, at: usize) -> Option<()> {
        let value = self.top()?;
        if at < self.memo.len() {
            self.memoized += usize::from(self.memo[at].replace(value).is_none());
            return Some(());
        }
        if at > self.input.len() {
            return None;
        }
        self.memo.resize(at, None);
        self.memo.push(Some(value));
        self.memoized += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats a value much like Python.
    fn show(heap: &Heap<'_>, value: Operand) -> String {
        let Operand::Node(id) = value else {
            return match value {
                Operand::Text(_) | Operand::Unescaped(_) => format!("'{}'", heap.text(value).unwrap()),
                Operand::Bytes(_) => format!("b'{}'", heap.bytes(value).unwrap().escape_ascii()),
                Operand::Int(number) => number.to_string(),
                other => format!("{other:?}"),
            };
        };
        let items: Vec<String> = heap.items(id).map(|item| show(heap, item)).collect();
        let items = items.join(",");
        match heap.kind(id) {
            Kind::List => format!("[{items}]"),
            Kind::Tuple => format!("({items})"),
            Kind::Dict => format!("{{{items}}}"),
            Kind::Set => format!("set({items})"),
            Kind::Class => items.replace("','", ".").replace('\'', ""),
            Kind::Object { class, args, called } => {
                let states: Vec<String> = heap.states(id).1.map(|state| show(heap, state)).collect();
                let call = if called { "" } else { "new " };
                let (class, args) = (show(heap, Operand::Node(class)), show(heap, Operand::Node(args)));
                format!("{call}{class}{args}[{items}]{}", states.concat())
            }
        }
    }

    fn run(input: &[u8]) -> Option<String> {
        let input = Bytes::copy_from_slice(input);
        load(&input).map(|(heap, value)| show(&heap, value))
    }

    #[test]
    fn opcodes_build_what_python_builds() {
        for (input, expected) in [
            (&b"N."[..], "None"),
            (b"\x88.", "Bool(true)"),
            (b"I01\n.", "Bool(true)"),
            (b"I-42\n.", "-42"),
            (b"L42L\n.", "42"),
            (b"K\xff.", "255"),
            (b"M\xff\xff.", "65535"),
            (b"J\xff\xff\xff\xff.", "-1"),
            (b"\x8a\x00.", "0"),
            (b"\x8a\x02\x00\xff.", "-256"),
            (b"\x8a\x05\xff\xff\xff\xff\x00.", "4294967295"),
            (b"\x8b\x09\x00\x00\x00123456789.", "Number"),
            (b"G\x00\x00\x00\x00\x00\x00\x00\x00.", "Number"),
            (b"F1.5\n.", "Number"),
            (b"X\x02\x00\x00\x00\xc3\xa9.", "'\u{e9}'"),
            (b"\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.", "'a'"),
            (b"Va\xe9\\u6771\\U0001f600\\x\n.", "'a\u{e9}\u{6771}\u{1f600}\\x'"),
            (b"S'a'\n.", "'a'"),
            (b"U\x01a.", "'a'"),
            (b"T\x01\x00\x00\x00a.", "'a'"),
            (b"C\x01\xff.", "b'\\xff'"),
            (b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "b'a'"),
            (b"](K\x01K\x02e.", "[1,2]"),
            (b"]K\x01aK\x02a.", "[1,2]"),
            (b"(K\x01K\x02l.", "[1,2]"),
            (b"N)\x85\x86.", "(None,(()))"),
            (b"K\x01K\x02K\x03\x87.", "(1,2,3)"),
            (b"(K\x01K\x02t.", "(1,2)"),
            (b"}K\x01K\x02s(K\x03K\x04u.", "{1,2,3,4}"),
            (b"(K\x01K\x02d.", "{1,2}"),
            (b"\x8f(K\x01\x90.", "set(1)"),
            (b"(K\x01\x91.", "set(1)"),
            (b"K\x01K\x020.", "1"),
            (b"K\x01(K\x021.", "1"),
            (b"K\x01(0.", "1"),
            (b"K\x012\x86.", "(1,1)"),
            (b"K\x01\x94h\x00\x86.", "(1,1)"),
            (b"K\x01q\x05K\x02\x940h\x05h\x01\x87.", "(1,1,2)"),
            (b"K\x01p5\n0g5\n.", "1"),
            (b"cm\nC\n.", "m.C"),
            (b"\x8c\x01m\x8c\x01C\x93)\x81.", "new m.C()[]"),
            (b"cm\nC\n)}\x92.", "new m.C()[]"),
            (b"cm\nC\nK\x01\x85R}b.", "m.C(1)[]{}"),
            (b"cm\nC\n)\x81(K\x01K\x02u.", "new m.C()[1,2]"),
            (b"(K\x01im\nC\n.", "m.C(1)[]"),
            (b"(im\nC\n.", "new m.C()[]"),
            (b"(cm\nC\nK\x01o.", "m.C(1)[]"),
            (b"(cm\nC\no.", "new m.C()[]"),
            (b"\x80\x05\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "None"),
            (b"N.trailing", "None"),
        ] {
            assert_eq!(run(input).as_deref(), Some(expected), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn values_that_python_cannot_load_are_refused() {
        for (reason, input) in [
            ("no STOP", &b"N"[..]),
            ("nothing to return", b"."),
            ("unknown opcode", b"\xff."),
            ("an unknown protocol", b"\x80\x06N."),
            ("a frame beyond the end", b"\x95\x03\x00\x00\x00\x00\x00\x00\x00N."),
            ("a text beyond the end", b"X\xff\xff\xff\xffa."),
            ("a text longer than memory", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa."),
            ("an integer beyond the end", b"\x8b\xff\xff\xff\x7f."),
            ("no mark", b"K\x01t."),
            ("a list below the mark", b"](K\x01ae."),
            ("a value below the mark", b"K\x01(0R."),
            ("a key without a value", b"}(K\x01u."),
            ("a dict with an odd number of items", b"(K\x01d."),
            ("appending to a dict", b"}K\x01a."),
            ("appending to a number", b"K\x01K\x01a."),
            ("an empty place of the memo", b"h\x00."),
            ("a class whose name is not a text", b"K\x01K\x02\x93."),
            ("an object of something that is not a class", b"K\x01)\x81."),
            ("arguments that are not a tuple", b"cm\nC\n]R."),
            ("building a list", b"]}b."),
            ("an integer of letters", b"Ix\n."),
            ("a text without an end", b"S'a\n."),
            ("a text of Python 2 in some charset", b"U\x01\xe9."),
            ("a persistent id", b"Pid\n."),
            ("an extension", b"\x82\x01."),
            ("an out-of-band buffer", b"\x97."),
        ] {
            assert_eq!(run(input), None, "{reason}");
        }
    }

    #[test]
    fn a_value_may_contain_itself() {
        let input = Bytes::from_static(b"]\x94h\x00a.");
        let (heap, value) = load(&input).unwrap();
        let Operand::Node(id) = value else { panic!("{value:?}") };
        assert!(matches!(heap.items(id).next(), Some(Operand::Node(item)) if item == id));
    }

    #[test]
    fn interleaved_items_keep_their_order() {
        // Two lists that grow alternately, so each has several runs.
        let mut input = b"]\x94]\x94".to_vec();
        for number in 0..5 {
            input.extend([b'h', 0, b'K', number, b'a', b'0', b'h', 1, b'K', number, b'a', b'0']);
        }
        input.extend(*b"\x86.");
        assert_eq!(run(&input).unwrap(), "([0,1,2,3,4],[0,1,2,3,4])");
    }

    #[test]
    fn values_beyond_the_bounds_are_refused() {
        let many = |opcode: &[u8], count: usize, end: &[u8]| [&opcode.repeat(count), end].concat();
        for (name, input, loads) in [
            ("depth", [b"N".to_vec(), many(b"\x85", 200_000, b".")].concat(), true),
            ("nodes", many(b"]", MAX_OPCODES / 2, b"."), false),
            ("opcodes", many(b"N", MAX_OPCODES, b"."), false),
            ("the most opcodes", many(b"N", MAX_OPCODES - 1, b"."), true),
            ("marks", many(b"(", 1 << 19, b"N."), true),
            ("a huge place of the memo", b"Nr\xff\xff\xff\x7f.".to_vec(), false),
            ("a long integer", [&b"\x8b\x00\x00\x10\x00"[..], &vec![1; 1 << 20], b"."].concat(), true),
        ] {
            assert_eq!(load(&Bytes::from(input)).is_some(), loads, "{name}");
        }
    }
}
