//! A disk in memory whose content is known.

#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths within a buffer, on 64-bit hosts"
)]

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use image::{BlockSource, Extent, ExtentKind};

/// Data are placed and cut in sectors.
const SECTOR: u64 = 512;
/// Longest run of data.
const MAX_RUN: u64 = 300 << 10;

/// Zeroes, and runs of random bytes by their offset.
#[derive(Clone, Debug, Default)]
pub struct SparseDisk {
    virtual_size: u64,
    runs: BTreeMap<u64, Vec<u8>>,
}

impl SparseDisk {
    /// A disk of `virtual_size` bytes of which about `used` bytes are random, in runs of random length at random sectors.
    /// Both ends are used when anything is. Some sectors within a run are zero.
    pub fn random(virtual_size: u64, used: u64, seed: u64) -> Self {
        let mut random = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut disk = Self {
            virtual_size,
            runs: BTreeMap::new(),
        };
        let sectors = virtual_size / SECTOR;
        if used == 0 || sectors == 0 {
            return disk;
        }
        if used >= virtual_size {
            disk.put(0, random.bytes(virtual_size));
            return disk;
        }
        disk.put(0, random.bytes(SECTOR));
        disk.put(virtual_size - SECTOR, random.bytes(SECTOR));
        let mut left = used;
        while left > 0 {
            let start = random.below(sectors) * SECTOR;
            let len = ((random.below(MAX_RUN / SECTOR) + 1) * SECTOR).min(virtual_size - start);
            let mut bytes = random.bytes(len);
            for sector in bytes.chunks_mut(SECTOR as usize) {
                if random.below(8) == 0 {
                    sector.fill(0);
                }
            }
            disk.put(start, bytes);
            left = left.saturating_sub(len);
        }
        disk
    }

    /// Puts bytes down unless they would touch what is there.
    fn put(&mut self, offset: u64, bytes: Vec<u8>) {
        let end = offset + bytes.len() as u64;
        let before = self.runs.range(..end).next_back();
        if before.is_none_or(|(at, there)| at + there.len() as u64 <= offset) {
            self.runs.insert(offset, bytes);
        }
    }

    /// Ranges worth comparing: each run with what surrounds it.
    pub fn interesting(&self) -> Vec<(u64, usize)> {
        const MARGIN: u64 = 4096;
        let range = |start: u64, end: u64| (start, usize::try_from(end - start).unwrap_or(0));
        let mut ranges = vec![range(0, self.virtual_size.min(MARGIN))];
        ranges.extend(self.runs.iter().map(|(at, bytes)| {
            let end = at + bytes.len() as u64 + MARGIN;
            range(at.saturating_sub(MARGIN), end.min(self.virtual_size))
        }));
        ranges
    }
}

impl BlockSource for SparseDisk {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> image::Result<()> {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        for (at, bytes) in self.runs.range(..end) {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let here = (from - at) as usize..(to - at) as usize;
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(&bytes[here]);
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> image::Result<Extent> {
        let limit = offset + max_len.min(self.virtual_size - offset);
        let holder = self.runs.range(..=offset).next_back();
        let inside = holder
            .map(|(at, bytes)| at + bytes.len() as u64)
            .filter(|end| *end > offset);
        let (end, kind) = match inside {
            Some(end) => (end, ExtentKind::Data),
            None => {
                let next = self
                    .runs
                    .range(offset..)
                    .next()
                    .map_or(limit, |(at, _)| *at);
                (next, ExtentKind::Zero)
            }
        };
        Ok(Extent {
            offset,
            len: end.min(limit) - offset,
            kind,
        })
    }
}

/// Reads `actual` wherever `disk` has data, and by its own extents everywhere else: every byte is compared, but
/// zeroes that both know of are not read. `actual` may be longer by what its format rounds up, which must be zero.
pub fn compare(disk: &SparseDisk, actual: &dyn BlockSource) -> Result<()> {
    ensure!(
        actual.virtual_size() >= disk.virtual_size,
        "expected {} bytes, found {}",
        disk.virtual_size,
        actual.virtual_size()
    );
    let same = |offset: u64, len: usize| -> Result<()> {
        let (mut expected, mut found) = (vec![0; len], vec![0; len]);
        disk.read_at(&mut expected, offset)?;
        actual.read_at(&mut found, offset)?;
        let at = expected.iter().zip(&found).position(|(a, b)| a != b);
        ensure!(
            at.is_none(),
            "byte {:#x} differs",
            offset + at.unwrap_or(0) as u64
        );
        Ok(())
    };
    for (offset, len) in disk.interesting() {
        same(offset, len)?;
    }
    for extent in image::extents(actual, 0..actual.virtual_size()) {
        let extent = extent?;
        let end = extent.offset + extent.len;
        if extent.kind == ExtentKind::Data {
            let mut at = extent.offset;
            while at < end {
                let len = (end - at).min(1 << 20);
                same(at, len as usize)?;
                at += len;
            }
        } else {
            let touched = disk.runs.range(..end).next_back().filter(|(at, bytes)| {
                let from = extent.offset.max(**at) - **at;
                let to = (end - **at).min(bytes.len() as u64);
                from < to && !image::is_zero(&bytes[from as usize..to as usize])
            });
            ensure!(
                touched.is_none(),
                "{extent:?} is said to be zero and is not"
            );
        }
    }
    Ok(())
}

/// Numbers that look random and are the same every time.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Half of each run compresses well.
    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len / 8)
            .flat_map(|n| {
                if n & 64 == 0 {
                    self.next()
                } else {
                    0x0102_0304_0506_0708
                }
                .to_le_bytes()
            })
            .collect()
    }
}
