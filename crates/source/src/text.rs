//! Small text files out of a package: size cap, byte order marks, UTF-16.

use image::FileRange;

use crate::error::{Error, ErrorKind, Result};

/// Largest descriptor or manifest that is read, in bytes. The largest real ones are about 4 MiB.
pub(crate) const MAX_TEXT_SIZE: u64 = 16 << 20;

/// Reads the whole of a small file.
pub(crate) fn read_small(range: &FileRange) -> Result<Vec<u8>> {
    if range.len() > MAX_TEXT_SIZE {
        let message = format!(
            "expected a text file of at most {MAX_TEXT_SIZE} bytes, found {} bytes",
            range.len()
        );
        return Err(Error::new(ErrorKind::Limit, message).in_file(range.label()));
    }
    let len = usize::try_from(range.len())
        .map_err(|_| Error::new(ErrorKind::Limit, "too large for this machine"))?;
    Ok(range.read_vec(0, len)?)
}

/// UTF-8 with or without a byte order mark, or UTF-16 with one.
pub(crate) fn decode(bytes: &[u8]) -> Result<String> {
    let bad = || Error::corrupt("expected UTF-8 or UTF-16 text, found other bytes");
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        if !rest.len().is_multiple_of(2) {
            return Err(bad());
        }
        let units = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map_err(|_| bad())
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).map_err(|_| bad()),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes.to_vec()).map_err(|_| bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_order_mark_decides_the_encoding() {
        assert_eq!(decode(b"\xef\xbb\xbfab").unwrap(), "ab");
        assert_eq!(decode(b"\xff\xfea\0b\0").unwrap(), "ab");
        assert_eq!(decode(b"\xfe\xff\0a\0b").unwrap(), "ab");
        assert_eq!(decode("aé".as_bytes()).unwrap(), "aé");
        assert!(decode(b"\xff\xfea").is_err());
        assert!(decode(b"caf\xe9").is_err());
    }
}
