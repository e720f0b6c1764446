//! Backslash escapes of three characters, by which fstab and udev write the bytes that are special to them; and what a
//! guest's words become before they are shown.

use std::borrow::Cow;

/// A message holds at most this many bytes of what a guest says.
const SHOWN_MAX: usize = 3 << 10;

/// Text for a terminal: a guest's control characters (a new line, an escape sequence, a reversal of the direction of
/// writing) as escapes, and not without end.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_bad =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.len() <= SHOWN_MAX && !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() > SHOWN_MAX {
            shown.push_str(" […]");
            break;
        }
        if is_bad(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Undoes `\040` and its like (getmntent(3)).
pub(crate) fn octal(text: &str) -> String {
    unescape(text, |digits| u8::from_str_radix(digits, 8).ok())
}

/// Undoes `\x20` and its like, as in the links of udev.
pub(crate) fn hexadecimal(text: &str) -> String {
    unescape(text, |digits| {
        u8::from_str_radix(digits.strip_prefix('x')?, 16).ok()
    })
}

/// Replaces a backslash and three characters by the byte that `value` makes of them; what it makes nothing of stays.
fn unescape(text: &str, value: impl Fn(&str) -> Option<u8>) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail
            .get(..3)
            .filter(|escape| byte == b'\\' && escape.iter().all(u8::is_ascii_alphanumeric))
            .and_then(|escape| value(std::str::from_utf8(escape).ok()?));
        out.push(escape.unwrap_or(byte));
        rest = match escape {
            Some(_) => tail.get(3..).unwrap_or_default(),
            None => tail,
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_fit_for_a_terminal() {
        assert_eq!(printable("café"), "café");
        assert_eq!(
            printable("a\n\u{1b}[2J\u{202e}b"),
            "a\\n\\u{1b}[2J\\u{202e}b"
        );
        assert!(printable(&"x".repeat(1 << 20)).len() < 4 << 10);
    }

    #[test]
    fn each_spelling_is_undone_and_all_else_stays() {
        assert_eq!(octal(r"/my\040dir\134x"), r"/my dir\x");
        assert_eq!(hexadecimal(r"a\x20b\x2fc"), "a b/c");
        for same in [r"\04", r"\x2", r"\+12", r"\999", r"end\", "plain"] {
            assert_eq!(
                (octal(same), hexadecimal(same)),
                (same.to_owned(), same.to_owned())
            );
        }
    }
}
