//! A long, mostly empty file as a short input: pages of 4 KiB, each behind its number.
//!
//! ```text
//! number of the page, 2 bytes little-endian | 4096 bytes | number | 4096 bytes | …
//! ```

/// Bytes of a page, the least unit of a VHDX's log.
pub const PAGE: usize = 4096;
/// Most pages of the file: 16 MiB, enough for header, log, metadata, BAT and some blocks of 1 MiB.
pub const MAX_PAGES: usize = 4096;

/// The file that an input means; it ends with its last page.
pub fn expand(input: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for piece in input.chunks(2 + PAGE) {
        let [low, high, bytes @ ..] = piece else {
            break;
        };
        let start = usize::from(u16::from_le_bytes([*low, *high])) % MAX_PAGES * PAGE;
        if file.len() < start + PAGE {
            file.resize(start + PAGE, 0);
        }
        if let Some(place) = file.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_land_on_their_numbers() {
        let mut input = vec![4, 0];
        input.resize(2 + PAGE, 7);
        input.extend([1, 0, b'a', b'b']);
        let file = expand(&input);
        assert_eq!(file.len(), 5 * PAGE);
        assert!(file[4 * PAGE..].iter().all(|&byte| byte == 7));
        assert_eq!(&file[PAGE..PAGE + 3], b"ab\0");
        assert!(expand(&[1]).is_empty());
    }
}
