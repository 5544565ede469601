//! Writes digests (in hexadecimal) and header lines, and reads weights (`q=`) in header lines.

use sha2::{Digest as _, Sha256};

/// Writes two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// SHA-256 in hexadecimal. It has no known collisions, unlike md5. The text itself is not stored, since it may hold cookies
/// and passwords.
pub(crate) fn sha256_hex(text: &[u8]) -> [u8; 64] {
    let mut digest = [0; 64];
    hex(&Sha256::digest(text), &mut digest);
    digest
}

/// The name of a header in title case: `Content-Type`.
pub(crate) fn title_case(name: &str) -> impl Iterator<Item = u8> {
    let mut at_word = true;
    name.bytes().map(move |byte| {
        let cased = if at_word { byte.to_ascii_uppercase() } else { byte };
        at_word = byte == b'-';
        cased
    })
}

/// Appends a header line with its name in title case, and CRLF.
pub(crate) fn push_line(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.extend(title_case(name));
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// The value of a `q=` (RFC 9110 §12.4.2): `0`, `0.` to `0.999`, `1`, `1.` to `1.000`.
pub(crate) fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    match (whole, digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}
