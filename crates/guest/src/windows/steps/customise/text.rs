//! Text files as Windows has them: lines that end in CR LF, UTF-16 with a byte order mark or bytes of some code page.

use crate::linux::customise::substitution::Program;
use crate::{Error, Result};

/// How a file's text is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// One byte order mark, then little-endian units.
    Utf16Le,
    /// The same, big-endian.
    Utf16Be,
    /// UTF-8 or a code page: bytes are left as they are.
    Bytes,
}

fn decode(content: &[u8]) -> Result<(Encoding, Vec<u8>)> {
    let (encoding, units): (Encoding, fn([u8; 2]) -> u16) = match content {
        [0xff, 0xfe, ..] => (Encoding::Utf16Le, u16::from_le_bytes),
        [0xfe, 0xff, ..] => (Encoding::Utf16Be, u16::from_be_bytes),
        _ => return Ok((Encoding::Bytes, content.to_vec())),
    };
    let (pairs, rest) = content.get(2..).unwrap_or_default().as_chunks::<2>();
    let text = String::from_utf16(&pairs.iter().map(|pair| units(*pair)).collect::<Vec<_>>());
    match text {
        Ok(text) if rest.is_empty() => Ok((encoding, text.into_bytes())),
        _ => Err(Error::corrupt("expected UTF-16 behind its byte order mark")),
    }
}

fn encode(encoding: Encoding, text: Vec<u8>) -> Result<Vec<u8>> {
    let bytes: fn(u16) -> [u8; 2] = match encoding {
        Encoding::Bytes => return Ok(text),
        Encoding::Utf16Le => u16::to_le_bytes,
        Encoding::Utf16Be => u16::to_be_bytes,
    };
    let text = String::from_utf8(text)
        .map_err(|_| Error::unsupported("the expression makes text that is no UTF-16"))?;
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    Ok(units.flat_map(bytes).collect())
}

/// The content with a line more at its end.
pub(super) fn appended(content: &[u8], line: &str) -> Result<Vec<u8>> {
    let (encoding, mut text) = decode(content)?;
    let unix = text.contains(&b'\n') && !text.windows(2).any(|pair| pair == b"\r\n");
    let end: &[u8] = if unix { b"\n" } else { b"\r\n" };
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.extend_from_slice(end);
    }
    text.extend_from_slice(line.as_bytes());
    text.extend_from_slice(end);
    encode(encoding, text)
}

/// The content with every line edited; the ends of lines are not part of them.
pub(super) fn edited(content: &[u8], program: &Program) -> Result<Vec<u8>> {
    let (encoding, text) = decode(content)?;
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (body, end): (&[u8], &[u8]) = match line {
            [body @ .., b'\r', b'\n'] => (body, b"\r\n"),
            [body @ .., b'\n'] => (body, b"\n"),
            body => (body, b""),
        };
        // An empty line is one only with its end.
        let new = program.apply(&[body, b"\n"].concat());
        out.extend_from_slice(new.strip_suffix(b"\n").unwrap_or(&new));
        out.extend_from_slice(end);
    }
    encode(encoding, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    }

    fn edit(content: &[u8], expression: &str) -> Vec<u8> {
        edited(content, &Program::parse(expression).unwrap()).unwrap()
    }

    #[test]
    fn ends_of_lines_stay_as_they_are() {
        assert_eq!(
            edit(b"a=1\r\n\r\nb=2\nc", "s/\\d$/9/"),
            b"a=9\r\n\r\nb=9\nc"
        );
        assert_eq!(edit(b"a\r\n\r\nb", "s/^$/x/"), b"a\r\nx\r\nb");
        assert_eq!(appended(b"", "x").unwrap(), b"x\r\n");
        assert_eq!(appended(b"a\r\nb", "x").unwrap(), b"a\r\nb\r\nx\r\n");
        assert_eq!(appended(b"a\n", "x").unwrap(), b"a\nx\n");
        assert_eq!(appended(b"a", "x").unwrap(), b"a\r\nx\r\n");
    }

    #[test]
    fn code_pages_and_utf16_come_back_as_they_were() {
        assert_eq!(edit(b"\xfcb=1\r\n", "s/1/2/"), b"\xfcb=2\r\n");
        assert_eq!(edit(&utf16("ü=1\r\nb"), "s/1/€/"), utf16("ü=€\r\nb"));
        assert_eq!(appended(&utf16("a\r\n"), "ü").unwrap(), utf16("a\r\nü\r\n"));
        assert!(appended(b"\xff\xfea", "x").is_err());
    }
}
