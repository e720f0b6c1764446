//! What is on a disk: its partition table and the superblocks of its partitions.

use std::io;

use wire::inventory::Content;

use super::block::partition_name;
use super::read::{ReadAt, Window};
use super::superblock::{self, Signature};
use super::table::{self, Mbr, Part, Table, TableKind};

/// Partitions whose superblocks are read.
const MAX_PARTITIONS: usize = 256;

/// All that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// The disk itself: a file system or a member of an array without partitions, or what lies beside a table.
    pub(crate) whole: Option<Signature>,
    pub(crate) table: Option<Table>,
    /// In the order of the table.
    pub(crate) parts: Vec<(Part, Option<Signature>)>,
    /// The MBR's disk signature, for EDD.
    pub(crate) mbr_signature: Option<u32>,
    /// Why something could not be read, one line.
    pub(crate) failure: Option<String>,
}

impl Contents {
    /// Reads a disk of this logical sector size in bytes.
    pub(crate) fn read(disk: &dyn ReadAt, sector: u32) -> Self {
        let mut found = Self::default();
        if let Err(error) = found.fill(disk, sector) {
            found.failure = Some(error.to_string());
        }
        found
    }

    fn fill(&mut self, disk: &dyn ReadAt, sector: u32) -> io::Result<()> {
        self.mbr_signature = Mbr::read(disk)?.and_then(|mbr| mbr.signature());
        self.table = table::read(disk, sector)?;
        let Some(table) = &self.table else {
            self.whole = superblock::probe(disk)?;
            return Ok(());
        };
        self.whole = match superblock::probe_firmware_array(disk)? {
            Some(found) => Some(found),
            None => superblock::probe_iso9660(disk)?,
        };
        for part in table.parts.iter().take(MAX_PARTITIONS) {
            let window = Window::new(disk, part.offset, part.len);
            // One unreadable superblock must not hide the others.
            let signature = superblock::probe(&window).unwrap_or_else(|error| {
                self.failure = Some(format!("partition {}: {error}", part.number));
                None
            });
            self.parts.push((part.clone(), signature));
        }
        Ok(())
    }

    /// Every signature with the name of its device.
    pub(crate) fn signatures<'a>(
        &'a self,
        disk: &'a str,
    ) -> impl Iterator<Item = (String, &'a Signature)> {
        let parts = self.parts.iter().map(|(part, found)| (part.number, found));
        std::iter::once((0, &self.whole))
            .chain(parts)
            .filter_map(move |(number, found)| {
                Some((partition_name(disk, number), found.as_ref()?))
            })
    }

    /// As it travels: what the whole disk is, then every partition.
    pub(crate) fn to_wire(&self, len: u64) -> Vec<Content> {
        let whole = |content: &str, label: &str, uuid: &str| Content {
            number: 0,
            offset: 0,
            len,
            content: content.to_owned(),
            label: label.to_owned(),
            uuid: uuid.to_owned(),
        };
        let table = self.table.as_ref().map(|table| match table.kind {
            TableKind::Gpt => whole("gpt", "", &table.id),
            TableKind::Dos => whole("dos", "", &table.id),
        });
        let whole = self
            .whole
            .as_ref()
            .map(|found| whole(found.content, &found.label, &found.uuid));
        let parts = self.parts.iter().map(|(part, found)| {
            let found = found.clone().unwrap_or_default();
            Content {
                number: part.number,
                offset: part.offset,
                len: part.len,
                content: found.content.to_owned(),
                label: found.label,
                uuid: found.uuid,
            }
        });
        table.into_iter().chain(whole).chain(parts).collect()
    }
}
