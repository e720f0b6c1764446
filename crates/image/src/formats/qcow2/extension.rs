//! Header extensions: qcow2 "Header extensions". Unknown ones are passed over, as the specification asks.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::{Error, Result};

use super::to_usize;

/// End of the extension area.
const END: u32 = 0;
/// Name of the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Names of feature bits.
const FEATURE_NAMES: u32 = 0x6803_f857;
/// Name of the external data file; the bytes spell `DATA`.
const DATA_FILE: u32 = 0x4441_5441;
/// Where the bitmaps are.
const BITMAPS: u32 = 0x2385_2875;
/// Type and length before the data of each extension.
const HEAD_BYTES: u64 = 8;
/// Longest name of a format; QEMU's longest is 9 bytes.
const MAX_FORMAT_NAME: usize = 16;
/// One entry of the feature name table: kind, bit, 46 bytes of name.
const FEATURE_ENTRY: usize = 48;
/// Kind of an incompatible feature.
const INCOMPATIBLE: u8 = 0;

/// What the extensions say that matters for reading.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) backing_format: Option<String>,
    pub(super) data_file: Option<OsString>,
    pub(super) bitmaps: Option<BitmapsAt>,
    incompatible_names: Vec<(u8, String)>,
}

/// The bitmap directory: qcow2 "Bitmaps extension". Nothing of it is checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BitmapsAt {
    pub(super) count: u64,
    pub(super) directory_len: u64,
    pub(super) directory_offset: u64,
}

impl Extensions {
    /// The image's own name for a bit of the incompatible features.
    pub(super) fn incompatible_name(&self, bit: u8) -> Option<&str> {
        self.incompatible_names
            .iter()
            .find(|(named, _)| *named == bit)
            .map(|(_, name)| name.as_str())
    }
}

/// Parses the extensions that follow the header in `first_cluster`. They end with the end marker, at the backing
/// file's name, or with the cluster; `end` is the offset of the latter two.
pub(super) fn parse(first_cluster: &[u8], header_length: u64, end: u64) -> Result<Extensions> {
    let mut extensions = Extensions::default();
    let end = end.min(first_cluster.len() as u64);
    let mut at = header_length;
    while end.saturating_sub(at) >= HEAD_BYTES {
        let (kind, len) = (
            u32_at(first_cluster, at),
            u64::from(u32_at(first_cluster, at + 4)),
        );
        if kind == END {
            break;
        }
        let start = at + HEAD_BYTES;
        let stop = start + len;
        if stop > end {
            return Err(Error::corrupt(format!(
                "expected header extension {kind:#010x} to end before {end:#x}, found a length of {len} bytes"
            ))
            .at(at));
        }
        let data = &first_cluster[to_usize(start)..to_usize(stop)];
        match kind {
            BACKING_FORMAT if data.len() > MAX_FORMAT_NAME => {
                return Err(Error::corrupt(format!(
                    "expected a backing format name of at most {MAX_FORMAT_NAME} bytes, found {len}"
                ))
                .at(at));
            }
            BACKING_FORMAT => extensions.backing_format = Some(printable(data)),
            DATA_FILE => extensions.data_file = Some(OsString::from_vec(data.to_vec())),
            // Fields at 0 (count), 8 (length) and 16 (offset).
            BITMAPS if data.len() == 24 => {
                extensions.bitmaps = Some(BitmapsAt {
                    count: u32_at(data, 0).into(),
                    directory_len: u64::from(u32_at(data, 8)) << 32 | u64::from(u32_at(data, 12)),
                    directory_offset: u64::from(u32_at(data, 16)) << 32
                        | u64::from(u32_at(data, 20)),
                });
            }
            FEATURE_NAMES => extensions.incompatible_names = feature_names(data),
            _ => {}
        }
        at = stop.next_multiple_of(8);
    }
    Ok(extensions)
}

/// qcow2 "Feature name table".
fn feature_names(data: &[u8]) -> Vec<(u8, String)> {
    let entries = data
        .chunks_exact(FEATURE_ENTRY)
        .filter(|entry| entry[0] == INCOMPATIBLE && entry[1] < 64);
    entries
        .take(64)
        .map(|entry| (entry[1], printable(&entry[2..])))
        .collect()
}

/// Text up to a NUL, with control characters escaped: it goes into messages.
fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).escape_debug().collect()
}

/// Four bytes that the caller knows to be there.
fn u32_at(bytes: &[u8], at: u64) -> u32 {
    let field = bytes
        .get(to_usize(at)..)
        .and_then(|rest| rest.first_chunk());
    u32::from_be_bytes(field.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u32, data: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).unwrap();
        let mut bytes = [kind.to_be_bytes(), len.to_be_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0xee);
        bytes
    }

    #[test]
    fn known_extensions_are_found_between_unknown_ones() {
        let mut area = vec![0; 104];
        area.extend(extension(0x1234_5678, b"what"));
        area.extend(extension(BACKING_FORMAT, b"raw"));
        let mut names = [0; 96];
        names[0] = 1;
        names[48..].copy_from_slice(&[&[0, 9][..], b"shiny\n", &[0; 40]].concat());
        area.extend(extension(FEATURE_NAMES, &names));
        area.extend(extension(END, b""));
        area.extend(extension(DATA_FILE, b"after the end"));
        let found = parse(&area, 104, area.len() as u64).unwrap();
        assert_eq!(found.backing_format.as_deref(), Some("raw"));
        assert_eq!(found.data_file, None);
        assert_eq!(found.incompatible_name(9), Some("shiny\\n"));
        assert_eq!(found.incompatible_name(0), None);
    }

    #[test]
    fn an_extension_that_passes_the_backing_name_is_refused() {
        let mut area = vec![0; 104];
        area.extend(extension(0x1234_5678, &[1; 100]));
        area.resize(512, 0);
        assert!(parse(&area, 104, 512).is_ok());
        let error = parse(&area, 104, 200).unwrap_err();
        assert_eq!(error.offset(), Some(104));
        assert!(
            error.to_string().contains("found a length of 100 bytes"),
            "{error}"
        );
    }
}
