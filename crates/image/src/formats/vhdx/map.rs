//! From a byte of the disk to where it is: the BAT, and in a partially present block the sector bitmap.

use std::ops::Range;

use super::allocation::{Allocation, checked_claim};
use super::bat::{Bat, PayloadState, Use};
use super::bitmap;
use super::content::Content;
use super::pages::{Cursor, Pages};
use super::to_usize;
use crate::{Error, Result};

/// Where a byte of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Not here: in the parent.
    Parent,
    /// Nothing was written, and there is no parent.
    Unallocated,
    Zero,
    /// At this offset of the file.
    Data {
        host: u64,
    },
}

/// The tables of one image.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) bat: Bat,
    pub(super) allocation: Allocation,
}

/// The two tables that a walk goes through.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    map: &'a Map,
    bat: Cursor<'a>,
    bitmap: Cursor<'a>,
}

impl Map {
    pub(super) fn open(
        content: &Content,
        pages: &Pages,
        layer: usize,
        bat: Bat,
        reserved: &[Range<u64>],
    ) -> Result<Self> {
        let mut cursor = Cursor::new(content, pages, layer);
        let allocation = Allocation::scan(content, &bat, &mut cursor, reserved)?;
        Ok(Self { bat, allocation })
    }

    pub(super) fn walk<'a>(
        &'a self,
        content: &'a Content,
        pages: &'a Pages,
        layer: usize,
    ) -> Walk<'a> {
        Walk {
            map: self,
            bat: Cursor::new(content, pages, layer),
            bitmap: Cursor::new(content, pages, layer),
        }
    }
}

impl Walk<'_> {
    /// The mapping at `offset` of the disk, and for how many bytes, at most `max_len`, the same entry and the same
    /// bits say the same.
    pub(super) fn at(&mut self, offset: u64, max_len: u64) -> Result<(Mapping, u64)> {
        let bat = &self.map.bat;
        let geometry = &bat.geometry;
        let block = offset >> geometry.block_bits;
        let within = offset & (geometry.block_size() - 1);
        let max_len = max_len.min(geometry.block_len(block) - within);
        let index = geometry.payload_index(block);
        let entry = bat.entry(&mut self.bat, index)?;
        let state = entry
            .payload_state(geometry.differencing)
            .map_err(|e| e.at(bat.offset_of(index)))?;
        let data = || -> Result<Mapping> {
            let used_for = Use::Payload(block);
            let claim = checked_claim(bat, &self.map.allocation, index, entry, used_for)?;
            let start = claim.map_or(0, |claim| claim.start);
            Ok(Mapping::Data {
                host: start + within,
            })
        };
        match (state, geometry.differencing) {
            (PayloadState::NotPresent, true) => Ok((Mapping::Parent, max_len)),
            (PayloadState::Zero, _) | (PayloadState::Undefined | PayloadState::Unmapped, true) => {
                Ok((Mapping::Zero, max_len))
            }
            (
                PayloadState::NotPresent | PayloadState::Undefined | PayloadState::Unmapped,
                false,
            ) => Ok((Mapping::Unallocated, max_len)),
            (PayloadState::FullyPresent, _) => Ok((data()?, max_len)),
            (PayloadState::PartiallyPresent, _) => {
                let data = data()?;
                let (present, len) = self.sectors(block, within, max_len)?;
                Ok((if present { data } else { Mapping::Parent }, len))
            }
        }
    }

    /// Whether the sectors from `within` of the block are in the file, and for how many bytes that is so.
    fn sectors(&mut self, block: u64, within: u64, max_len: u64) -> Result<(bool, u64)> {
        let (bat, geometry) = (&self.map.bat, &self.map.bat.geometry);
        let index = geometry.bitmap_index(block);
        let entry = bat.entry(&mut self.bat, index)?;
        let claim = checked_claim(bat, &self.map.allocation, index, entry, Use::Bitmap)?;
        let Some(bits) = claim else {
            return Err(Error::corrupt(format!(
                "expected a sector bitmap for the partially present block {block}, found none"
            ))
            .at(bat.offset_of(index)));
        };
        let sector_bits = geometry.sector_bits;
        let sectors_per_block = geometry.block_size() >> sector_bits;
        let first = block % geometry.chunk_ratio() * sectors_per_block + (within >> sector_bits);
        let skipped = within & ((1 << sector_bits) - 1);
        let wanted = (max_len + skipped).div_ceil(1 << sector_bits);
        let bytes = self.bitmap.rest_of_page(bits.start + first / 8)?;
        if bytes.is_empty() {
            return Err(Error::io(
                "reading the sector bitmap",
                std::io::ErrorKind::UnexpectedEof.into(),
            )
            .at(bits.start + first / 8));
        }
        let (present, count) = bitmap::run(bytes, to_usize(first % 8), to_usize(wanted));
        let len = ((count as u64) << sector_bits) - skipped;
        Ok((present, len.min(max_len)))
    }
}
