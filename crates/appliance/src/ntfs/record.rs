//! Records of the MFT (`FILE`) and their attributes.

use super::runs::{self, Extent};
use super::{Result, corrupt, field, part, u16_at, u32_at, u64_at, unprotect};

/// Types of attributes.
pub(super) const ATTRIBUTE_LIST: u32 = 0x20;
pub(super) const FILE_NAME: u32 = 0x30;
pub(super) const VOLUME_INFORMATION: u32 = 0x70;
pub(super) const DATA: u32 = 0x80;
pub(super) const INDEX_ROOT: u32 = 0x90;
pub(super) const INDEX_ALLOCATION: u32 = 0xa0;
const END: u32 = 0xffff_ffff;

/// Flags of a record.
const IN_USE: u16 = 0x0001;
/// Flags of an attribute: compressed (any method) or encrypted.
const TRANSFORMED: u16 = 0x40ff;
/// Of a reference to a record: its number, without the count of its uses.
pub(super) const NUMBER: u64 = 0xffff_ffff_ffff;
/// The shortest header of an attribute.
const HEADER: usize = 0x18;

/// A record, its update sequence undone.
#[derive(Clone, Debug)]
pub(super) struct Record {
    bytes: Vec<u8>,
    /// Counts how often the record was used for another file.
    pub(super) sequence: u16,
}

/// One attribute.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// In the record itself.
    Resident(Vec<u8>),
    /// In clusters.
    Clusters(Stream),
}

/// The clusters of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// In order of their place in the attribute, holes included.
    pub(super) extents: Vec<Extent>,
    /// Bytes of the attribute.
    pub(super) len: u64,
    /// Bytes of it that were written; behind them it reads as zeroes.
    pub(super) written: u64,
    /// Compressed or encrypted: the clusters do not hold the bytes as they are.
    pub(super) transformed: bool,
}

impl Stream {
    /// Clusters of all extents, holes included.
    pub(super) fn clusters(&self) -> u64 {
        let clusters = self.extents.iter().map(|extent| extent.clusters);
        clusters.fold(0, u64::saturating_add)
    }
}

impl Record {
    /// A record that is in use, and a continuation of the record `base`, if one is given.
    pub(super) fn parse(mut bytes: Vec<u8>, base: Option<u64>) -> Result<Self> {
        if bytes.get(..4) != Some(b"FILE") {
            return Err(corrupt("an MFT record without its magic"));
        }
        unprotect(&mut bytes)?;
        if u16_at(&bytes, 0x16)? & IN_USE == 0 {
            return Err(corrupt("a record that is not in use"));
        }
        let continues = u64_at(&bytes, 0x20)?;
        if (continues != 0).then_some(continues & NUMBER) != base {
            return Err(corrupt("a record that belongs to another one"));
        }
        let sequence = u16_at(&bytes, 0x10)?;
        Ok(Self { bytes, sequence })
    }

    /// The attribute of this type and name in this record, from its cluster `lowest` on; the volume has `clusters`.
    pub(super) fn find(
        &self,
        kind: u32,
        name: &str,
        lowest: u64,
        clusters: u64,
    ) -> Result<Option<Value>> {
        for attribute in self.attributes() {
            let (found, bytes) = attribute?;
            if found == kind && is_called(bytes, name) && lowest_of(bytes)? == lowest {
                return value(bytes, clusters).map(Some);
            }
        }
        Ok(None)
    }

    /// Values of all attributes of this type that are in the record.
    pub(super) fn residents(&self, kind: u32) -> Result<Vec<Vec<u8>>> {
        let mut values = Vec::new();
        for attribute in self.attributes() {
            let (found, bytes) = attribute?;
            if found == kind
                && let Value::Resident(value) = value(bytes, u64::MAX)?
            {
                values.push(value);
            }
        }
        Ok(values)
    }

    /// Type and bytes of each attribute; an error ends it.
    fn attributes(&self) -> impl Iterator<Item = Result<(u32, &[u8])>> {
        let mut at = u16_at(&self.bytes, 0x14).map(usize::from);
        std::iter::from_fn(move || {
            let place = match std::mem::replace(&mut at, Ok(usize::MAX)) {
                Ok(usize::MAX) => return None,
                Ok(place) => place,
                Err(error) => return Some(Err(error)),
            };
            match self.attribute(place) {
                Ok(Some((kind, bytes))) => {
                    at = Ok(place + bytes.len());
                    Some(Ok((kind, bytes)))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }

    fn attribute(&self, at: usize) -> Result<Option<(u32, &[u8])>> {
        let kind = u32_at(&self.bytes, at)?;
        if kind == END {
            return Ok(None);
        }
        let len = u32_at(&self.bytes, at + 4)? as usize;
        if len < HEADER {
            return Err(corrupt(format!("an attribute of {len} bytes")));
        }
        Ok(Some((kind, part(&self.bytes, at, len)?)))
    }
}

fn is_called(attribute: &[u8], name: &str) -> bool {
    let found = || {
        let [len] = field::<1>(attribute, 9)?;
        let at = usize::from(u16_at(attribute, 0x0a)?);
        part(attribute, at, usize::from(len) * 2)
    };
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    found().is_ok_and(|found| found == wanted)
}

/// Of the clusters of a file, the first that this attribute tells of.
fn lowest_of(attribute: &[u8]) -> Result<u64> {
    match field::<1>(attribute, 8)? {
        [0] => Ok(0),
        _ => u64_at(attribute, 0x10),
    }
}

fn value(attribute: &[u8], clusters: u64) -> Result<Value> {
    let [non_resident] = field::<1>(attribute, 8)?;
    if non_resident == 0 {
        let len = u32_at(attribute, 0x10)? as usize;
        let at = usize::from(u16_at(attribute, 0x14)?);
        return Ok(Value::Resident(part(attribute, at, len)?.to_vec()));
    }
    let (lowest, highest) = (u64_at(attribute, 0x10)?, u64_at(attribute, 0x18)?);
    let pairs = attribute
        .get(usize::from(u16_at(attribute, 0x20)?)..)
        .ok_or_else(|| corrupt("a run list outside of its attribute"))?;
    let extents = runs::decode(pairs, clusters)?;
    let total: u64 = extents.iter().map(|extent| extent.clusters).sum();
    // The highest cluster of an empty one is -1.
    let wanted = highest.wrapping_add(1).wrapping_sub(lowest);
    if total != wanted {
        return Err(corrupt(format!(
            "a run list of {total} clusters, expected {wanted}"
        )));
    }
    // Only the first piece tells of the whole.
    let (len, written) = match lowest {
        0 => (u64_at(attribute, 0x30)?, u64_at(attribute, 0x38)?),
        _ => (0, 0),
    };
    Ok(Value::Clusters(Stream {
        extents,
        len,
        written,
        transformed: u16_at(attribute, 0x0c)? & TRANSFORMED != 0,
    }))
}

/// Where the pieces of an attribute are that did not fit into one record: `(lowest cluster, record)`, from the value of
/// the `$ATTRIBUTE_LIST`.
///
/// ```text
/// 0 type (u32)  4 length (u16)  6 length and 7 offset of the name (u8)  8 lowest cluster (u64)  10 record (u64)
/// ```
pub(super) fn pieces(list: &[u8], kind: u32, name: &str) -> Result<Vec<(u64, u64)>> {
    const ENTRY: usize = 0x1a;
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (mut at, mut found) = (0, Vec::new());
    while at + ENTRY <= list.len() {
        let len = usize::from(u16_at(list, at + 4)?);
        if len < ENTRY {
            return Err(corrupt(format!(
                "an entry of {len} bytes in a list of attributes"
            )));
        }
        let entry = part(list, at, len)?;
        let [units, offset] = field::<2>(entry, 6)?;
        let called = part(entry, usize::from(offset), usize::from(units) * 2)?;
        if u32_at(entry, 0)? == kind && called == wanted {
            found.push((u64_at(entry, 8)?, u64_at(entry, 0x10)? & NUMBER));
        }
        at += len;
    }
    found.sort_unstable();
    Ok(found)
}
