//! The opcodes that are values by themselves: numbers, texts and bytes.

use super::cursor::{Cursor, Span};
use super::heap::Value;
use super::opcode::*;

/// Reads the rest of an opcode that stands for a value; `None` for unknown opcodes, and for those that ask the reader for
/// something of its own (persistent ids, extension codes, buffers), as Django's cannot answer them either.
pub(super) fn read(opcode: u8, input: &mut Cursor<'_>, unescaped: &mut String) -> Option<Value> {
    Some(match opcode {
        NONE => Value::None,
        NEWTRUE => Value::Bool(true),
        NEWFALSE => Value::Bool(false),
        BININT1 => Value::Int(i64::from(input.byte()?)),
        BININT2 => Value::Int(input.number::<2>()? as i64),
        BININT => Value::Int(i64::from(input.number::<4>()? as u32 as i32)),
        LONG1 => input.counted::<1>().map(|digits| long(input.get(digits)))?,
        LONG4 => input.counted::<4>().map(|digits| long(input.get(digits)))?,
        INT => input.line().and_then(|line| int(input.get(line)))?,
        LONG => input.line().and_then(|line| decimal(input.get(line).strip_suffix(b"L")?))?,
        BINFLOAT => input.bytes(8).map(|_| Value::Number)?,
        FLOAT => input.line().and_then(|line| float(input.get(line)))?,
        BINUNICODE => Value::Text(input.counted::<4>()?),
        BINUNICODE8 => Value::Text(input.counted::<8>()?),
        UNICODE => input.line().map(|line| unicode(line, input.get(line), unescaped))?,
        SHORT_BINSTRING => {
            input.counted::<1>().filter(|text| input.get(*text).is_ascii()).map(Value::Text)?
        }
        BINSTRING => input.counted::<4>().filter(|text| input.get(*text).is_ascii()).map(Value::Text)?,
        STRING => input.line().and_then(|line| string(line, input.get(line)))?,
        SHORT_BINBYTES => Value::Bytes(input.counted::<1>()?),
        BINBYTES => Value::Bytes(input.counted::<4>()?),
        BINBYTES8 | BYTEARRAY8 => Value::Bytes(input.counted::<8>()?),
        _ => return None,
    })
}

/// Digits of base 256, the lowest first, in two's complement.
fn long(digits: &[u8]) -> Value {
    if digits.len() > 8 {
        return Value::Number;
    }
    let negative = digits.last().is_some_and(|digit| digit & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    Value::Int(i64::from_le_bytes(bytes))
}

/// Protocols 0 and 1 write the booleans so.
fn int(line: &[u8]) -> Option<Value> {
    match line {
        b"00" => Some(Value::Bool(false)),
        b"01" => Some(Value::Bool(true)),
        _ => decimal(line),
    }
}

fn decimal(line: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(Value::Number, Value::Int))
}

fn float(line: &[u8]) -> Option<Value> {
    std::str::from_utf8(line).ok()?.parse::<f64>().ok().map(|_| Value::Number)
}

/// A text of Python 2 in quotes. Django takes ASCII only; nobody has written escapes for a decade.
fn string(line: Span, quoted: &[u8]) -> Option<Value> {
    let [quote @ (b'\'' | b'"'), text @ .., last] = quoted else { return None };
    let plain = quote == last && text.is_ascii() && !text.contains(&b'\\');
    let range = line.range();
    plain.then(|| Value::Text(Span::new(range.start + 1, range.end - 1)))
}

/// A line of protocol 0: Latin-1 with `\uXXXX` and `\UXXXXXXXX` for all else.
fn unicode(line: Span, escaped: &[u8], unescaped: &mut String) -> Value {
    if escaped.is_ascii() && !escaped.contains(&b'\\') {
        return Value::Text(line);
    }
    let start = unescaped.len();
    let mut rest = escaped;
    while let [byte, tail @ ..] = rest {
        let (letter, tail) = escape(rest).unwrap_or((char::from(*byte), tail));
        unescaped.push(letter);
        rest = tail;
    }
    Value::Unescaped(Span::new(start, unescaped.len()))
}

/// The letter that an escape stands for, and what follows it. Half a surrogate pair becomes the replacement character,
/// which, like it, is not allowed in a header.
fn escape(text: &[u8]) -> Option<(char, &[u8])> {
    let digits = match text {
        [b'\\', b'u', ..] => 4,
        [b'\\', b'U', ..] => 8,
        _ => return None,
    };
    let (digits, rest) = text[2..].split_at_checked(digits)?;
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}
