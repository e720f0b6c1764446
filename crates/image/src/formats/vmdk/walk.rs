//! Walks a stream from marker to marker and notes every grain, for streams whose footer or directory is damaged.
//! The end-of-stream marker is what proves that nothing is missing.

use super::geometry::SECTOR;
use super::grains::max_deflated_len;
use super::header::Header;
use super::marker::{GRAIN_MARKER_LEN, GrainMarker, MARKER_LEN, Marker};
use crate::{Error, ErrorKind, FileRange, Result};

/// Markers are read through a window of this many bytes: small grains cost one read for many.
const WINDOW_LEN: usize = 4096;
/// Grains that are noted at most: 128 MiB of notes, 1 TiB of disk with common grains.
const MAX_GRAINS: usize = 16 << 20;
/// Zeroes behind the end-of-stream marker that are taken for padding.
const MAX_PADDING: u64 = 64 << 10;

/// Every grain of the stream and the sector of its marker, in order of grain.
pub(super) fn walk(range: &FileRange, header: &Header) -> Result<Vec<(u32, u32)>> {
    let mut walk = Walk {
        range,
        header,
        window: Vec::new(),
        window_at: 0,
        grains: Vec::new(),
    };
    walk.run().map_err(|e| e.in_file(range.label()))?;
    let mut grains = walk.grains;
    if !grains.is_sorted() {
        grains.sort_unstable();
    }
    if let Some([(grain, first), (_, second)]) =
        grains.array_windows().find(|[one, two]| one.0 == two.0)
    {
        return Err(Error::corrupt(format!(
            "grain {grain} is in the stream twice, first at {:#x}",
            u64::from(*first) * SECTOR
        ))
        .at(u64::from(*second) * SECTOR)
        .in_file(range.label()));
    }
    Ok(grains)
}

struct Walk<'a> {
    range: &'a FileRange,
    header: &'a Header,
    window: Vec<u8>,
    window_at: u64,
    grains: Vec<(u32, u32)>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let descriptor_end = self
            .header
            .descriptor
            .as_ref()
            .map_or(SECTOR, |bytes| bytes.end);
        let mut at = self.header.overhead.max(descriptor_end);
        loop {
            let sectors = match self.marker(at)? {
                Marker::EndOfStream => return self.check_end(at),
                Marker::Table(sectors) | Marker::Directory(sectors) | Marker::Footer(sectors) => {
                    sectors
                }
                Marker::Grain(marker) => {
                    at = self.note(marker, at)?;
                    continue;
                }
                Marker::Unknown(kind) => {
                    return Err(Error::corrupt(format!(
                        "expected a grain or a marker of type 0 to 3 in the stream, found type {kind:#x}"
                    ))
                    .at(at));
                }
            };
            at = sectors
                .checked_mul(SECTOR)
                .and_then(|len| at.checked_add(SECTOR)?.checked_add(len))
                .filter(|next| *next <= self.range.len())
                .ok_or_else(|| self.truncated(at, &format!("{sectors} sectors of metadata")))?;
        }
    }

    fn marker(&mut self, at: u64) -> Result<Marker> {
        if at
            .checked_add(MARKER_LEN as u64)
            .is_none_or(|end| end > self.range.len())
        {
            return Err(self.truncated(at, "a marker"));
        }
        let inside = at
            .checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok());
        let bytes = match inside.and_then(|skip| self.window.get(skip..)?.first_chunk()) {
            Some(bytes) => bytes,
            None => {
                let left = usize::try_from(self.range.len() - at).unwrap_or(usize::MAX);
                self.window.resize(left.min(WINDOW_LEN), 0);
                self.range.read_exact_at(&mut self.window, at)?;
                self.window_at = at;
                match self.window.first_chunk() {
                    Some(bytes) => bytes,
                    None => return Err(self.truncated(at, "a marker")),
                }
            }
        };
        Ok(Marker::parse(bytes))
    }

    /// Notes the grain at `at`; the offset of what follows it.
    fn note(&mut self, marker: GrainMarker, at: u64) -> Result<u64> {
        let geometry = &self.header.geometry;
        let grain = marker.lba / geometry.grain_sectors();
        let known = u32::try_from(grain)
            .ok()
            .filter(|grain| u64::from(*grain) < geometry.grains());
        let (Some(grain), 0) = (known, marker.lba % geometry.grain_sectors()) else {
            return Err(Error::corrupt(format!(
                "expected the first sector of a grain of {} sectors on a disk of {}, found sector {}",
                geometry.grain_sectors(),
                geometry.capacity() / SECTOR,
                marker.lba
            ))
            .at(at));
        };
        let limit = max_deflated_len(geometry.grain_size());
        if marker.len as usize > limit {
            return Err(Error::corrupt(format!(
                "expected a compressed grain of at most {limit} bytes, found {}",
                marker.len
            ))
            .at(at));
        }
        let sector = u32::try_from(at / SECTOR).map_err(|_| {
            Error::new(ErrorKind::Limit, "expected a stream of less than 2 TiB").at(at)
        })?;
        if self.grains.len() >= MAX_GRAINS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_GRAINS} grains in the stream"),
            )
            .at(at));
        }
        let end = at + GRAIN_MARKER_LEN as u64 + u64::from(marker.len);
        if end > self.range.len() {
            return Err(self.truncated(at, &format!("a grain of {} bytes", marker.len)));
        }
        self.grains.push((grain, sector));
        Ok(end.next_multiple_of(SECTOR))
    }

    /// Behind the end-of-stream marker there is nothing but padding.
    fn check_end(&self, at: u64) -> Result<()> {
        let rest = self.range.len() - at;
        let padding = if rest <= MAX_PADDING {
            self.range
                .read_vec(at, usize::try_from(rest).unwrap_or(0))?
                .iter()
                .all(|byte| *byte == 0)
        } else {
            false
        };
        if padding {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "expected the end of the file behind the end-of-stream marker, found {rest} bytes"
        ))
        .at(at))
    }

    fn truncated(&self, at: u64, what: &str) -> Error {
        Error::new(
            ErrorKind::Truncated,
            format!(
                "expected {what}, and an end-of-stream marker in the end, but the file ends at {:#x} after {} of at \
                 most {} grains; the file is incomplete: copy, download or export it again",
                self.range.len(),
                self.grains.len(),
                self.header.geometry.grains()
            ),
        )
        .at(at)
    }
}
