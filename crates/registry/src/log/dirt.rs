//! The old format, up to Windows 8 (regf specification, "Old format"): one transaction. The second sector starts with
//! `DIRT` and a bit for each 512 bytes of the hive bins; the dirty ones follow from the next sector boundary on, in order.

use super::GROWTH_MAX;
use super::base::{BASE, Edit, PAGE, SECTOR, in_bins};

const SIGNATURE: &[u8] = b"DIRT";

/// A log whose vector and pages are all there.
#[derive(Clone, Debug)]
pub(super) struct Dirt<'l> {
    bins_size: u32,
    bitmap: &'l [u8],
    pages: &'l [u8],
}

impl<'l> Dirt<'l> {
    /// The vector and the pages of a log whose base block says these sizes, or why they are none.
    pub(super) fn read(log: &'l [u8], sector: usize, bins_size: u32) -> Result<Self, &'static str> {
        if bins_size == 0 || !bins_size.is_multiple_of(PAGE) {
            return Err("the size of its hive bins is not one of whole pages");
        }
        let vector = start(log, sector).ok_or("it has no dirty vector")?;
        let bits = in_bins(bins_size, 0).map(|range| (range.end - BASE) / SECTOR);
        let bytes = bits.ok_or("its hive is too large")?.div_ceil(8);
        let cut = "its dirty vector is cut short";
        let first = vector + SIGNATURE.len();
        let bitmap = log.get(first..first + bytes).ok_or(cut)?;
        let pages = (first + bytes).next_multiple_of(sector);
        let pages = log.get(pages..).ok_or("it has no dirty pages")?;
        let dirty: usize = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        if dirty == 0 {
            return Err("no page of it is dirty");
        }
        let pages = pages
            .get(..dirty * SECTOR)
            .ok_or("its dirty pages are cut short")?;
        Ok(Self {
            bins_size,
            bitmap,
            pages,
        })
    }

    /// Writes the pages into the hive; false, and nothing written, where the hive would grow beyond reason.
    pub(super) fn apply(&self, hive: &mut Vec<u8>) -> bool {
        let Some(end) = in_bins(self.bins_size, 0).map(|range| range.end) else {
            return false;
        };
        if end.saturating_sub(hive.len()) > GROWTH_MAX {
            return false;
        }
        if hive.len() < end {
            hive.resize(end, 0);
        }
        let bits = self
            .bitmap
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        let dirty = bits
            .enumerate()
            .filter_map(|(page, dirty)| dirty.then_some(page));
        for (page, content) in dirty.zip(self.pages.as_chunks::<SECTOR>().0) {
            let at = BASE + page * SECTOR;
            if let Some(place) = hive.get_mut(at..at + SECTOR) {
                place.copy_from_slice(content);
            }
        }
        Edit(hive).bins_size(self.bins_size);
        true
    }
}

/// True when the log is of this format, by what follows its base block.
pub(super) fn is_format(log: &[u8], sector: usize) -> bool {
    start(log, sector).is_some()
}

/// Offset of the vector: the second sector; where sectors are large, some writers start after 512 bytes nevertheless.
fn start(log: &[u8], sector: usize) -> Option<usize> {
    [sector, SECTOR].into_iter().find(|at| {
        log.get(*at..)
            .is_some_and(|rest| rest.starts_with(SIGNATURE))
    })
}

/// The vector and pages of the 512-byte pages in which the hives differ, for tests.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn write_body(before: &[u8], after: &[u8]) -> Vec<u8> {
    let (mut bitmap, mut pages): (Vec<u8>, Vec<u8>) = Default::default();
    let bins = after.get(BASE..).unwrap_or_default();
    // Windows marks blocks of 4096 bytes.
    for (block, content) in bins.as_chunks::<{ SECTOR * 8 }>().0.iter().enumerate() {
        let at = BASE + block * content.len();
        let same = before.get(at..at + content.len()) == Some(content.as_slice());
        bitmap.push(if same { 0 } else { 0xff });
        if !same {
            pages.extend(content);
        }
    }
    let mut body = [SIGNATURE, &bitmap].concat();
    body.resize(body.len().next_multiple_of(SECTOR), 0);
    body.extend(pages);
    body
}
