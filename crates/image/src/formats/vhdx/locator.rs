//! The parent locator of a differencing disk: keys and values in UTF-16. MS-VHDX 2.6.2.6.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::guid::Guid;
use crate::{Error, Result};

/// The one locator type there is: MS-VHDX 2.6.2.6.3.
const VHDX_LOCATOR: Guid = Guid::of(0xb04aefb7_d19e_4a81_b789_25b8e9445913);
/// Keys of paths in the order in which they are tried: MS-VHDX 2.6.2.6.3.
const PATHS: [&str; 3] = ["relative_path", "volume_path", "absolute_win32_path"];
/// Keys of what the parent's `DataWriteGuid` may be.
const LINKAGES: [&str; 2] = ["parent_linkage", "parent_linkage2"];

/// Parent Locator Header: MS-VHDX 2.6.2.6.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLocator {
    /// Byte 0.
    locator_type: Guid,
    /// Byte 16.
    reserved: U16,
    /// Byte 18.
    key_value_count: U16,
}
const _: () = assert!(size_of::<RawLocator>() == 20);

/// Parent Locator Entry: MS-VHDX 2.6.2.6.2. Offsets from the start of the item, lengths in bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0.
    key_offset: U32,
    /// Byte 4.
    value_offset: U32,
    /// Byte 8.
    key_length: U16,
    /// Byte 10.
    value_length: U16,
}
const _: () = assert!(size_of::<RawEntry>() == 12);

/// Where the parent is, and how it is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Locator {
    /// Windows paths, in the order in which they are tried; at least one.
    pub(super) paths: Vec<String>,
    /// What the parent's `DataWriteGuid` may be; at least one.
    pub(super) linkages: Vec<Guid>,
}

impl Locator {
    /// Reads the item.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let Ok((raw, rest)) = RawLocator::ref_from_prefix(bytes) else {
            return Err(Error::corrupt(format!(
                "expected a parent locator of at least {} bytes, found {}",
                size_of::<RawLocator>(),
                bytes.len()
            )));
        };
        if raw.locator_type != VHDX_LOCATOR {
            return Err(Error::unsupported(format!(
                "parent locator type {} is not known; {VHDX_LOCATOR} is",
                raw.locator_type
            )));
        }
        let count = usize::from(raw.key_value_count.get());
        let entries = rest.chunks_exact(size_of::<RawEntry>());
        if entries.len() < count {
            return Err(Error::corrupt(format!(
                "expected room for {count} entries of the parent locator, found {}",
                entries.len()
            )));
        }
        let mut pairs = Vec::with_capacity(count);
        for entry in entries
            .take(count)
            .filter_map(|entry| RawEntry::ref_from_bytes(entry).ok())
        {
            let key = text(bytes, entry.key_offset, entry.key_length)?;
            let value = text(bytes, entry.value_offset, entry.value_length)?;
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(Error::corrupt(format!(
                    "expected the key {key:?} of the parent locator once"
                )));
            }
            pairs.push((key, value));
        }
        Self::of_pairs(&pairs)
    }

    fn of_pairs(pairs: &[(String, String)]) -> Result<Self> {
        let get = |key: &str| {
            let found = pairs.iter().find(|(other, _)| other == key);
            found.map(|(_, value)| value)
        };
        let paths: Vec<String> = PATHS
            .iter()
            .filter_map(|key| get(key))
            .filter(|path| !path.is_empty())
            .cloned()
            .collect();
        let mut linkages = Vec::new();
        for (key, value) in LINKAGES.iter().filter_map(|key| Some((key, get(key)?))) {
            let guid = Guid::parse(value).ok_or_else(|| {
                Error::corrupt(format!(
                    "expected a GUID as {key} of the parent locator, found {value:?}"
                ))
            })?;
            // Windows fills parent_linkage2 with zeroes: none.
            if guid != Guid::NIL {
                linkages.push(guid);
            }
        }
        if linkages.is_empty() {
            return Err(Error::corrupt(
                "expected parent_linkage in the parent locator, found none",
            ));
        }
        if paths.is_empty() {
            return Err(Error::corrupt(format!(
                "expected one of {} in the parent locator, found none",
                PATHS.join(", ")
            )));
        }
        Ok(Self { paths, linkages })
    }

    /// The linkages for a message.
    pub(super) fn expected(&self) -> String {
        let words: Vec<String> = self.linkages.iter().map(Guid::to_string).collect();
        words.join(" or ")
    }
}

fn text(bytes: &[u8], offset: U32, len: U16) -> Result<String> {
    let (offset, len) = (offset.get() as usize, usize::from(len.get()));
    let units = bytes
        .get(offset..)
        .and_then(|rest| rest.get(..len))
        .filter(|units| units.len().is_multiple_of(2))
        .ok_or_else(|| {
            Error::corrupt(format!(
                "expected a text of whole UTF-16 units within the {} bytes of the parent locator, found {len} bytes at \
                 {offset:#x}",
                bytes.len()
            ))
        })?;
    let units = units
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units)
        .collect::<Result<String, _>>()
        .map_err(|e| Error::corrupt(format!("expected UTF-16 in the parent locator, found {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = VHDX_LOCATOR.as_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(u16::try_from(pairs.len()).unwrap().to_le_bytes());
        let mut texts: Vec<u8> = Vec::new();
        let start = 20 + 12 * pairs.len();
        for (key, value) in pairs {
            let [key, value] = [key, value].map(|text| {
                let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                let at = start + texts.len();
                texts.extend(&text);
                (at, text.len())
            });
            bytes.extend(u32::try_from(key.0).unwrap().to_le_bytes());
            bytes.extend(u32::try_from(value.0).unwrap().to_le_bytes());
            bytes.extend(u16::try_from(key.1).unwrap().to_le_bytes());
            bytes.extend(u16::try_from(value.1).unwrap().to_le_bytes());
        }
        bytes.extend(texts);
        bytes
    }

    const LINK: (&str, &str) = ("parent_linkage", "{00000000-0000-0000-0000-00000000000A}");

    #[test]
    fn paths_come_in_the_order_of_the_specification() {
        let bytes = locator(&[
            ("absolute_win32_path", r"C:\ä.vhdx"),
            LINK,
            ("relative_path", r".\ä.vhdx"),
            ("volume_path", r"\\?\Volume{1}\ä.vhdx"),
            ("parent_linkage2", "{00000000-0000-0000-0000-000000000000}"),
        ]);
        let parsed = Locator::parse(&bytes).unwrap();
        assert_eq!(parsed.linkages, [Guid::of(10)]);
        assert_eq!(
            parsed.paths,
            [r".\ä.vhdx", r"\\?\Volume{1}\ä.vhdx", r"C:\ä.vhdx"]
        );
        for len in 0..bytes.len() {
            assert!(Locator::parse(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        let path = ("relative_path", "a");
        for pairs in [
            &[LINK][..],
            &[path],
            &[path, ("parent_linkage", "a")],
            &[path, LINK, LINK],
            &[LINK, ("relative_path", "")],
        ] {
            assert!(Locator::parse(&locator(pairs)).is_err(), "{pairs:?}");
        }
        let mut other = locator(&[LINK, path]);
        other[0] ^= 1;
        let error = Locator::parse(&other).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    }
}
