//! Directory records (ECMA-119 9.1) and the names in them: plain, Joliet's, Rock Ridge's.

use crate::{Error, Result};

use super::{BLOCK, BLOCK_BYTES};

/// Bytes of a directory record before its name (9.1).
const HEAD: usize = 33;
const FLAG_FOLDER: u8 = 1 << 1;
const FLAG_MORE: u8 = 1 << 7;
/// Names of the folder itself and of its parent (6.8.2.2).
const SELF: &[u8] = &[0];
const PARENT: &[u8] = &[1];
/// A bound on continuations, which may be in a circle.
const CONTINUATIONS_MAX: usize = 16;
/// Rock Ridge: the name goes on in the next NM (4.1.4).
const NM_CONTINUE: u8 = 1;

/// Which names are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Plain,
    Joliet,
    /// `skip` bytes come before the system use fields (LEN_SKP of SP).
    RockRidge {
        skip: usize,
    },
}

/// What a directory record says besides its name.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Offset and length in bytes.
    pub(super) extent: (u64, u64),
    pub(super) is_folder: bool,
    /// Another record with the rest of this file follows.
    pub(super) more_follow: bool,
    pub(super) is_interleaved: bool,
    name_len: usize,
}

/// The records of a folder: none crosses a block's end, zeroes fill the rest of a block (6.8.1.1).
pub(super) fn split(folder: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
    folder.chunks(BLOCK_BYTES).flat_map(|block| {
        let mut rest = Some(block);
        std::iter::from_fn(move || {
            let bytes = rest?;
            let len = bytes.first().copied().filter(|len| *len > 0)?;
            match bytes.split_at_checked(usize::from(len)) {
                Some((record, after)) => {
                    rest = Some(after);
                    Some(Ok(record))
                }
                None => {
                    rest = None;
                    Some(Err(Error::corrupt(
                        "a directory record of the ISO crosses the end of its block",
                    )))
                }
            }
        })
    })
}

impl Record {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let cut_off = || Error::corrupt("a directory record of the ISO is cut off");
        let head: &[u8; HEAD] = bytes
            .get(..HEAD)
            .and_then(|head| head.try_into().ok())
            .ok_or_else(cut_off)?;
        let [_, attribute_blocks, ..] = *head;
        let (block, len) = (both(head, 2)?, both(head, 10)?);
        let (flags, unit, gap, name_len) = (head[25], head[26], head[27], usize::from(head[32]));
        if name_len == 0 || bytes.len() < HEAD + name_len {
            return Err(cut_off());
        }
        Ok(Self {
            // At most 2^32 blocks and 255: no overflow. The file's data follow its extended attributes (9.1.3).
            extent: (
                (u64::from(block) + u64::from(attribute_blocks)) * BLOCK,
                u64::from(len),
            ),
            is_folder: flags & FLAG_FOLDER != 0,
            more_follow: flags & FLAG_MORE != 0,
            is_interleaved: unit != 0 || gap != 0,
            name_len,
        })
    }

    fn identifier<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(HEAD..HEAD + self.name_len).unwrap_or_default()
    }

    pub(super) fn is_self_or_parent(&self, bytes: &[u8]) -> bool {
        [SELF, PARENT].contains(&self.identifier(bytes))
    }

    /// What follows the name, behind its padding to an even length (9.1.12, 9.1.13).
    pub(super) fn system_use<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let start = HEAD + self.name_len;
        bytes.get(start + (start & 1)..).unwrap_or_default()
    }

    /// The name; `None` for what is to be left out: links, relocated folders, names that are no name of a file.
    pub(super) fn name(
        &self,
        bytes: &[u8],
        names: &Names,
        more: &mut dyn FnMut((u64, u64)) -> Result<Vec<u8>>,
    ) -> Result<Option<String>> {
        let plain =
            || String::from_utf8_lossy(without_version(self.identifier(bytes))).into_owned();
        let name = match names {
            Names::Plain => plain(),
            Names::Joliet => joliet(self.identifier(bytes)),
            Names::RockRidge { skip } => {
                let fields = self.system_use(bytes).get(*skip..).unwrap_or_default();
                match rock_ridge(fields.to_vec(), more)? {
                    RockRidge::Name(name) => name,
                    RockRidge::None => plain(),
                    RockRidge::LeaveOut => return Ok(None),
                }
            }
        };
        let is_name = !name.is_empty()
            && !matches!(name.as_str(), "." | "..")
            && !name.contains(['/', '\\'])
            && !name.chars().any(char::is_control);
        Ok(is_name.then_some(name))
    }
}

/// `NAME.;1` and `NAME.EXT;1` without the version and a bare full stop (7.5.1).
fn without_version(identifier: &[u8]) -> &[u8] {
    let name = identifier
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    name.strip_suffix(b".").unwrap_or(name)
}

/// UCS-2, big endian, with a version.
fn joliet(identifier: &[u8]) -> String {
    let units = identifier
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok())
        .map(u16::from_be_bytes);
    let name: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    match name.rsplit_once(';') {
        Some((name, version)) if version.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => name,
    }
}

enum RockRidge {
    Name(String),
    None,
    LeaveOut,
}

/// The fields of a system use area: signature, length, version, data (SUSP 1.12, 4.1).
fn fields(area: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = area;
    std::iter::from_fn(move || {
        let len = usize::from(*rest.get(2)?);
        let (field, after) = rest.split_at_checked(len)?;
        rest = after;
        Some((field.get(..2)?, field.get(4..)?))
    })
}

/// LEN_SKP of the SP field, where there is one and Rock Ridge's fields come with it.
pub(super) fn susp_skip(area: &[u8]) -> Option<usize> {
    let mut skip = None;
    for (signature, data) in fields(area) {
        if let (b"SP", [0xbe, 0xef, bytes, ..]) = (signature, data) {
            skip = Some(usize::from(*bytes));
        }
    }
    skip
}

fn rock_ridge(
    mut area: Vec<u8>,
    more: &mut dyn FnMut((u64, u64)) -> Result<Vec<u8>>,
) -> Result<RockRidge> {
    let mut name: Option<Vec<u8>> = None;
    for _ in 0..CONTINUATIONS_MAX {
        let mut next = None;
        for (signature, data) in fields(&area) {
            match (signature, data) {
                (b"SL" | b"CL" | b"RE", _) => return Ok(RockRidge::LeaveOut),
                (b"NM", [flags, part @ ..]) if flags & !NM_CONTINUE == 0 => {
                    name.get_or_insert_default().extend_from_slice(part);
                }
                (b"CE", data) => next = continuation(data),
                (b"ST", _) => break,
                _ => {}
            }
        }
        match next {
            Some(extent) => area = more(extent)?,
            None => break,
        }
    }
    Ok(match name {
        Some(name) => RockRidge::Name(String::from_utf8_lossy(&name).into_owned()),
        None => RockRidge::None,
    })
}

/// Block, offset and length, each in both byte orders (SUSP 1.12, 5.1).
fn continuation(data: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| {
        let bytes = data.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    Some((number(0)? * BLOCK + number(8)?, number(16)?))
}

/// A number that is stored little endian, then big endian (7.3.3).
fn both(head: &[u8; HEAD], at: usize) -> Result<u32> {
    let four = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Error::corrupt("a directory record of the ISO is cut off"))
    };
    let (little, big) = (
        u32::from_le_bytes(four(at)?),
        u32::from_be_bytes(four(at + 4)?),
    );
    if little != big {
        return Err(Error::corrupt(format!(
            "a directory record of the ISO contradicts itself: {little:#x} and {big:#x}"
        )));
    }
    Ok(little)
}
