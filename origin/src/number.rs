//! Python's `int(text)`, as far as page numbers need it.

/// CPython refuses to convert more digits (`sys.set_int_max_str_digits`).
const MAX_DIGITS: usize = 4300;

/// The zeros of Unicode's decimal digits (category Nd, Unicode 14 as in Python 3.11): each is followed by 1 to 9.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
    0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6,
    0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The number, if `int()` accepts the text: white space around it, one sign, single underscores between digits,
/// digits of any script. A negative number becomes 0, and one past 64 bits the largest: neither is a page.
pub(crate) fn python_int(text: &str) -> Option<u64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.split('_').any(str::is_empty) {
        return None;
    }
    let values: Option<Vec<_>> = digits.chars().filter(|&c| c != '_').map(digit).collect();
    let values = values.filter(|values| values.len() <= MAX_DIGITS)?;
    let number = values.into_iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(digit));
    Some(if negative { 0 } else { number })
}

fn digit(c: char) -> Option<u64> {
    let code = u32::from(c);
    // The last zero that is not greater than the character.
    let zero = ZEROS[..ZEROS.partition_point(|&zero| zero <= code)].last()?;
    Some(u64::from(code - zero)).filter(|&value| value < 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row was tried with CPython 3.11.
    #[test]
    fn texts_are_numbers_as_in_python() {
        for (text, expected) in [
            ("2", Some(2)),
            ("02", Some(2)),
            ("+2", Some(2)),
            (" 2 ", Some(2)),
            ("\u{a0}\u{2003}2\u{85}\x0b\n", Some(2)),
            ("0_2", Some(2)),
            ("\u{662}", Some(2)),
            ("\u{ff12}\u{1d7d0}\u{1fbf2}", Some(222)),
            ("-2", Some(0)),
            ("-0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("", None),
            (" ", None),
            // White space for str.strip(), not for int().
            ("\x1c2", None),
            ("\u{a0}2\x1f", None),
            ("+", None),
            ("+ 2", None),
            ("+-2", None),
            ("_2", None),
            ("2_", None),
            ("2__0", None),
            ("2.0", None),
            ("2e0", None),
            ("0x2", None),
            ("\u{b2}", None),
            ("\u{2168}", None),
            ("\u{200b}2", None),
            ("2\0", None),
        ] {
            assert_eq!(python_int(text), expected, "{text:?}");
        }
        assert_eq!(python_int(&"0".repeat(4300)), Some(0));
        assert_eq!(python_int(&"0".repeat(4301)), None);
    }
}
