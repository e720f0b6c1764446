//! Backslash escapes of three characters, by which fstab and udev write the bytes that are special to them.

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
