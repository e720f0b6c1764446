//! The volume as a whole.

use super::directory::{self, Reference};
use super::record::{
    self, ATTRIBUTE_LIST, DATA, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT, Record, Stream,
    VOLUME_INFORMATION, Value,
};
use super::runs::Extent;
use super::{BootSector, Error, ReadAt, Result, boot, corrupt, journal, read, u16_at};

/// Records with fixed numbers.
const MFT: u64 = 0;
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const ROOT: u64 = 5;
const BITMAP: u64 = 6;
/// `VOLUME_IS_DIRTY`: Windows checks the volume when it next starts.
const IS_DIRTY: u16 = 0x0001;
/// The bitmap is read in pieces of this size.
const PIECE: usize = 1 << 20;
/// A root directory has few entries; this is 256 thousand.
const INDEX_MAX: u64 = 64 << 20;
/// Windows limits the list of attributes to this.
const LIST_MAX: u64 = 256 << 10;
/// Of a file whose content is dropped this much is looked at.
const HEAD: usize = 4096;

/// A volume on an unmounted device.
#[derive(Debug)]
pub struct Volume<'d, D: ?Sized> {
    device: &'d D,
    boot: BootSector,
    mft: Vec<Extent>,
}

/// What is in the clusters of a file whose content nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// `pagefile.sys` or `swapfile.sys`: memory of a session that is over.
    Paging,
    /// `hiberfil.sys` that holds no session.
    Hibernation,
}

/// Such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its name in the root directory.
    pub name: String,
    /// What it is.
    pub kind: ContentKind,
    /// Clusters whose content may go; the first page of the file is not among them.
    pub extents: Vec<Extent>,
}

impl<'d, D: ReadAt + ?Sized> Volume<'d, D> {
    /// The volume on a device of `len` bytes.
    pub fn open(device: &'d D, len: u64) -> Result<Self> {
        let boot = BootSector::parse(&read(device, 0, boot::LEN)?, len)?;
        let mut volume = Self {
            device,
            boot,
            mft: Vec::new(),
        };
        // The MFT describes itself in its first record; more of it than that record tells is not needed here.
        let first = read(device, volume.bytes(boot.mft), boot.record_size)?;
        let first = Record::parse(first, None)?;
        let Some(Value::Clusters(data)) = first.find(DATA, "", 0, boot.clusters)? else {
            return Err(corrupt("the MFT has no clusters"));
        };
        if data.extents.first().and_then(|extent| extent.first) != Some(boot.mft) {
            return Err(corrupt("the MFT is not where the boot sector says"));
        }
        volume.mft = data.extents;
        Ok(volume)
    }

    /// Its boot sector.
    pub fn boot(&self) -> &BootSector {
        &self.boot
    }

    /// True when Windows noted that the volume is to be checked.
    pub fn is_dirty(&self) -> Result<bool> {
        let record = self.record(VOLUME)?;
        let values = record.residents(VOLUME_INFORMATION)?;
        let [information] = values.as_slice() else {
            return Err(corrupt("no volume information"));
        };
        Ok(u16_at(information, 10)? & IS_DIRTY != 0)
    }

    /// True when nothing in the journal is to be replayed.
    pub fn is_closed(&self) -> Result<bool> {
        let Some(Value::Clusters(data)) = self.attribute(LOG_FILE, DATA, "")? else {
            return Err(corrupt("the journal has no clusters"));
        };
        Ok(journal::is_closed(&self.stream(&data, 0, journal::LEN)?))
    }

    /// Tells `each` every run of at least `min` free clusters: first, count. The volume has to be closed and not dirty, or
    /// its bitmap is not to be believed.
    pub fn free(&self, min: u64, each: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let data = match self.attribute(BITMAP, DATA, "")? {
            Some(Value::Clusters(data)) => data,
            _ => return Err(Error::Unsupported("a bitmap in its record")),
        };
        let needed = self.boot.clusters.div_ceil(8);
        let has_holes = data.extents.iter().any(|extent| extent.first.is_none());
        if data.len < needed || data.written < needed || data.transformed || has_holes {
            return Err(corrupt(format!(
                "a bitmap of {} bytes, {} of them written, for {} clusters",
                data.len, data.written, self.boot.clusters
            )));
        }
        self.check_used(&data)?;
        let mut runs = Runs { open: None, min };
        let mut at = 0;
        while at < needed {
            let len = usize::try_from(needed - at).map_or(PIECE, |left| left.min(PIECE));
            let bytes = self.stream(&data, at, len)?;
            runs.scan(at * 8, &bytes, self.boot.clusters, each)?;
            at += len as u64;
        }
        runs.close(self.boot.clusters, each)
    }

    /// Clusters that must be in use are: those of the boot sector, of the MFT, of the journal, and of the bitmap itself.
    fn check_used(&self, bitmap: &Stream) -> Result<()> {
        let mut places = vec![0];
        places.extend(self.mft.iter().filter_map(|extent| extent.first));
        places.extend(bitmap.extents.iter().filter_map(|extent| extent.first));
        if let Some(Value::Clusters(log)) = self.attribute(LOG_FILE, DATA, "")? {
            places.extend(log.extents.iter().filter_map(|extent| extent.first));
        }
        for place in places {
            let byte = self.stream(bitmap, place / 8, 1)?;
            if byte.first().is_none_or(|byte| byte >> (place % 8) & 1 == 0) {
                return Err(corrupt(format!(
                    "the bitmap has cluster {place} as free, which the file system itself uses"
                )));
            }
        }
        Ok(())
    }

    /// Files of the root directory whose content nobody needs.
    pub fn needless(&self) -> Result<Vec<Content>> {
        let mut found: Vec<Content> = Vec::new();
        for (name, reference) in self.root_entries()? {
            let kind = match name.to_ascii_lowercase().as_str() {
                "pagefile.sys" | "swapfile.sys" => ContentKind::Paging,
                "hiberfil.sys" => ContentKind::Hibernation,
                _ => continue,
            };
            if found.iter().any(|known| known.name == name) {
                continue;
            }
            // One that is strange in any way is kept as it is.
            if let Ok(Some(extents)) = self.droppable(&name, reference, kind) {
                found.push(Content {
                    name,
                    kind,
                    extents,
                });
            }
        }
        Ok(found)
    }

    fn root_entries(&self) -> Result<Vec<(String, Reference)>> {
        let Some(Value::Resident(root)) = self.attribute(ROOT, INDEX_ROOT, "$I30")? else {
            return Err(corrupt("the root directory has no index"));
        };
        let mut entries = directory::in_root(&root)?;
        if let Some(Value::Clusters(blocks)) = self.attribute(ROOT, INDEX_ALLOCATION, "$I30")? {
            let size = self.boot.index_size;
            let mut at = 0;
            while at + size as u64 <= blocks.written.min(INDEX_MAX) {
                let block = self.stream(&blocks, at, size)?;
                // A block that is not in use may hold anything.
                entries.extend(directory::in_block(block).unwrap_or_default());
                at += size as u64;
            }
        }
        Ok(entries)
    }

    /// The clusters of such a file behind its first page; `None` where it is to stay.
    fn droppable(
        &self,
        name: &str,
        reference: Reference,
        kind: ContentKind,
    ) -> Result<Option<Vec<Extent>>> {
        let record = self.record(reference.record)?;
        let is_it = record.residents(FILE_NAME)?.into_iter().any(|value| {
            directory::parent(&value).is_ok_and(|parent| parent == ROOT)
                && directory::name(&value).is_ok_and(|found| found == name)
        });
        if record.sequence != reference.sequence || !is_it {
            return Ok(None);
        }
        let data = match self.attribute(reference.record, DATA, "")? {
            Some(Value::Clusters(data)) if !data.transformed => data,
            _ => return Ok(None),
        };
        if data.written > 0 {
            let head = self.stream(&data, 0, HEAD)?;
            if !may_go(kind, &head) {
                return Ok(None);
            }
        }
        Ok(Some(self.behind(&data.extents, HEAD as u64)))
    }

    /// Extents less the clusters of the first `keep` bytes.
    fn behind(&self, extents: &[Extent], keep: u64) -> Vec<Extent> {
        let mut keep = keep.div_ceil(self.boot.cluster_size);
        let mut left = Vec::new();
        for extent in extents {
            let skipped = keep.min(extent.clusters);
            keep -= skipped;
            if let (Some(first), true) = (extent.first, skipped < extent.clusters) {
                left.push(Extent {
                    first: Some(first + skipped),
                    clusters: extent.clusters - skipped,
                });
            }
        }
        left
    }

    /// Where the first cluster of a file is.
    #[cfg(test)]
    pub(super) fn file_offset(&self, number: u64) -> Option<u64> {
        match self.attribute(number, DATA, "") {
            Ok(Some(Value::Clusters(data))) => Some(self.bytes(data.extents.first()?.first?)),
            _ => None,
        }
    }

    /// An attribute of a file, put together where it is in many records.
    fn attribute(&self, number: u64, kind: u32, name: &str) -> Result<Option<Value>> {
        let clusters = self.boot.clusters;
        let base = self.record(number)?;
        let list = match base.find(ATTRIBUTE_LIST, "", 0, clusters)? {
            None => return base.find(kind, name, 0, clusters),
            Some(Value::Resident(list)) => list,
            Some(Value::Clusters(stream)) => {
                let len = usize::try_from(stream.len.min(LIST_MAX)).unwrap_or_default();
                self.stream(&stream, 0, len)?
            }
        };
        let mut whole: Option<Stream> = None;
        for (lowest, place) in record::pieces(&list, kind, name)? {
            let piece = if place == number {
                base.find(kind, name, lowest, clusters)?
            } else {
                self.continuation(place, number)?
                    .find(kind, name, lowest, clusters)?
            };
            match (piece, &mut whole) {
                (Some(Value::Clusters(first)), None) if lowest == 0 => whole = Some(first),
                (Some(Value::Clusters(next)), Some(whole)) if lowest == whole.clusters() => {
                    whole.extents.extend(next.extents);
                }
                (Some(Value::Resident(value)), None) => return Ok(Some(Value::Resident(value))),
                _ => {
                    return Err(corrupt(format!(
                        "record {number}: a piece of an attribute is missing"
                    )));
                }
            }
        }
        Ok(whole.map(Value::Clusters))
    }

    fn record(&self, number: u64) -> Result<Record> {
        self.load(number, None)
    }

    fn continuation(&self, number: u64, base: u64) -> Result<Record> {
        self.load(number, Some(base))
    }

    fn load(&self, number: u64, base: Option<u64>) -> Result<Record> {
        let size = self.boot.record_size;
        let outside = || corrupt(format!("record {number} is outside of the MFT"));
        let at = number.checked_mul(size as u64).ok_or_else(outside)?;
        let record = Record::parse(self.extents(&self.mft, at, size)?, base);
        record.map_err(|error| match error {
            Error::Corrupt(what) if number == MFT => corrupt(format!("the MFT: {what}")),
            Error::Corrupt(what) => corrupt(format!("record {number}: {what}")),
            other => other,
        })
    }

    fn stream(&self, stream: &record::Stream, at: u64, len: usize) -> Result<Vec<u8>> {
        self.extents(&stream.extents, at, len)
    }

    /// Reads what these clusters hold; a hole is zeroes.
    fn extents(&self, extents: &[Extent], at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        let (mut begin, mut want) = (0u64, at);
        for extent in extents {
            let end = begin.saturating_add(extent.clusters.saturating_mul(self.boot.cluster_size));
            if want < end && bytes.len() < len {
                let inside = want - begin;
                let left = usize::try_from(end - want).unwrap_or(usize::MAX);
                let part = left.min(len - bytes.len());
                match extent.first {
                    Some(first) => {
                        bytes.extend(read(self.device, self.bytes(first) + inside, part)?);
                    }
                    None => bytes.resize(bytes.len() + part, 0),
                }
                want += part as u64;
            }
            begin = end;
        }
        if bytes.len() == len {
            Ok(bytes)
        } else {
            Err(corrupt(format!(
                "{len} bytes at {at:#x} are behind the end of a file"
            )))
        }
    }

    /// Offset of a cluster of the volume: its number was checked, so this cannot overflow.
    fn bytes(&self, cluster: u64) -> u64 {
        cluster.saturating_mul(self.boot.cluster_size)
    }
}

/// Whether the content goes, by how it begins: a crash dump waits in the pagefile for the next start, and a session may
/// sleep in hiberfil.sys; `wake` is one that woke up.
fn may_go(kind: ContentKind, head: &[u8]) -> bool {
    match kind {
        ContentKind::Paging => !head.starts_with(b"PAGE"),
        ContentKind::Hibernation => {
            head.iter().all(|byte| *byte == 0)
                || head
                    .get(..4)
                    .is_some_and(|magic| magic.eq_ignore_ascii_case(b"wake"))
        }
    }
}

/// Gathers zero bits.
struct Runs {
    /// First cluster of a run that has not ended.
    open: Option<u64>,
    min: u64,
}

impl Runs {
    fn scan(
        &mut self,
        first: u64,
        bytes: &[u8],
        total: u64,
        each: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        for (byte, at) in bytes.iter().zip((first..).step_by(8)) {
            match (byte, self.open) {
                (0xff, None) | (0, Some(_)) => continue,
                _ => {}
            }
            for bit in 0..8 {
                let cluster = at + bit;
                if cluster >= total {
                    break;
                }
                match (byte >> bit & 1 == 0, self.open) {
                    (true, None) => self.open = Some(cluster),
                    (false, Some(_)) => self.close(cluster, each)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The cluster at `end` is none of the run.
    fn close(&mut self, end: u64, each: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
        match self.open.take() {
            Some(first) if end.saturating_sub(first) >= self.min => each(first, end - first),
            _ => Ok(()),
        }
    }
}
