//! The opcodes that push a single value: numbers, texts and bytes.

use super::cursor::{Cursor, Span};
use super::heap::Operand;
use super::opcode::*;

/// Reads the rest of an opcode that pushes a value. `None` for unknown opcodes, and for those that need something from
/// the reader (persistent ids, extension codes, buffers), which Django cannot provide either.
pub(super) fn read(opcode: u8, input: &mut Cursor<'_>, unescaped: &mut String) -> Option<Operand> {
    Some(match opcode {
        NONE => Operand::None,
        NEWTRUE => Operand::Bool(true),
        NEWFALSE => Operand::Bool(false),
        BININT1 => Operand::Int(i64::from(input.byte()?)),
        BININT2 => Operand::Int(input.number::<2>()? as i64),
        BININT => Operand::Int(i64::from(input.number::<4>()? as u32 as i32)),
        LONG1 => input.counted::<1>().map(|digits| long(input.get(digits)))?,
        LONG4 => input.counted::<4>().map(|digits| long(input.get(digits)))?,
        INT => input.line().and_then(|line| int(input.get(line)))?,
        LONG => input.line().and_then(|line| decimal(input.get(line).strip_suffix(b"L")?))?,
        BINFLOAT => input.bytes(8).map(|_| Operand::Number)?,
        FLOAT => input.line().and_then(|line| float(input.get(line)))?,
        BINUNICODE => Operand::Text(input.counted::<4>()?),
        BINUNICODE8 => Operand::Text(input.counted::<8>()?),
        UNICODE => input.line().map(|line| unicode(line, input.get(line), unescaped))?,
        SHORT_BINSTRING => {
            input.counted::<1>().filter(|text| input.get(*text).is_ascii()).map(Operand::Text)?
        }
        BINSTRING => input.counted::<4>().filter(|text| input.get(*text).is_ascii()).map(Operand::Text)?,
        STRING => input.line().and_then(|line| string(line, input.get(line)))?,
        SHORT_BINBYTES => Operand::Bytes(input.counted::<1>()?),
        BINBYTES => Operand::Bytes(input.counted::<4>()?),
        BINBYTES8 | BYTEARRAY8 => Operand::Bytes(input.counted::<8>()?),
        _ => return None,
    })
}

/// Reads a little-endian number in two's complement.
fn long(digits: &[u8]) -> Operand {
    if digits.len() > 8 {
        return Operand::Number;
    }
    let negative = digits.last().is_some_and(|digit| digit & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    Operand::Int(i64::from_le_bytes(bytes))
}

/// Protocols 0 and 1 write the booleans as `00` and `01`.
fn int(line: &[u8]) -> Option<Operand> {
    match line {
        b"00" => Some(Operand::Bool(false)),
        b"01" => Some(Operand::Bool(true)),
        _ => decimal(line),
    }
}

fn decimal(line: &[u8]) -> Option<Operand> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(Operand::Number, Operand::Int))
}

fn float(line: &[u8]) -> Option<Operand> {
    std::str::from_utf8(line).ok()?.parse::<f64>().ok().map(|_| Operand::Number)
}

/// A quoted text of Python 2. Django accepts only ASCII; escapes are refused too, because only Python 2 writes them.
fn string(line: Span, quoted: &[u8]) -> Option<Operand> {
    let [quote @ (b'\'' | b'"'), text @ .., last] = quoted else { return None };
    let plain = quote == last && text.is_ascii() && !text.contains(&b'\\');
    let range = line.range();
    plain.then(|| Operand::Text(Span::new(range.start + 1, range.end - 1)))
}

/// A line of protocol 0: Latin-1, and `\uXXXX` and `\UXXXXXXXX` for other characters.
fn unicode(line: Span, escaped: &[u8], unescaped: &mut String) -> Operand {
    if escaped.is_ascii() && !escaped.contains(&b'\\') {
        return Operand::Text(line);
    }
    let start = unescaped.len();
    let mut rest = escaped;
    while let [byte, tail @ ..] = rest {
        let (letter, tail) = escape(rest).unwrap_or((char::from(*byte), tail));
        unescaped.push(letter);
        rest = tail;
    }
    Operand::Unescaped(Span::new(start, unescaped.len()))
}

/// The character of an escape, and the rest of the text. Half a surrogate pair becomes the replacement character;
/// neither is allowed in a header.
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
