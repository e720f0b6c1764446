//! What an image says of itself, and what is wrong with it.

use types::CancelToken;

use super::allocation::checked_claim;
use super::bat::{PayloadState, Use};
use super::guid::Guid;
use super::reader::Reader;
use crate::{Error, Fact, FindingKind, ImageInfo, MetadataCheck, Result};

/// BAT entries between two looks at the cancel token.
const ENTRIES_PER_LOOK: u64 = 1 << 16;

/// The facts of one image.
pub(super) fn info(image: &Reader) -> ImageInfo {
    let (metadata, header) = (&image.metadata, &image.headers.current);
    let variant = match (&metadata.parent, metadata.leave_blocks_allocated) {
        (Some(_), _) => "differencing",
        (None, true) => "fixed",
        (None, false) => "dynamic",
    };
    let text = |guid: Guid| Fact::Text(guid.to_string());
    let log = match image.content.replay() {
        None => "clean".to_owned(),
        Some(replay) => format!(
            "dirty: {} entries up to sequence number {} are replayed in memory",
            replay.entries, replay.sequence_number
        ),
    };
    let mut facts = vec![
        ("creator", Fact::Text(image.headers.creator.clone())),
        ("log", Fact::Text(log)),
        ("log size", Fact::Number(header.log_len)),
        (
            "header sequence number",
            Fact::Number(header.sequence_number),
        ),
        ("file write guid", text(header.file_write_guid)),
        ("data write guid", text(header.data_write_guid)),
        (
            "logical sector size",
            Fact::Number(metadata.logical_sector_size.into()),
        ),
        (
            "physical sector size",
            Fact::Number(metadata.physical_sector_size.into()),
        ),
    ];
    if header.is_dirty() {
        facts.push(("log guid", text(header.log_guid)));
    }
    if let Some(id) = metadata.virtual_disk_id {
        facts.push(("virtual disk id", text(id)));
    }
    if let Some(locator) = &metadata.parent {
        let linkages = locator.linkages.iter().copied().map(text).collect();
        facts.push(("parent linkage", Fact::List(linkages)));
        let paths = locator.paths.iter().cloned().map(Fact::Text).collect();
        facts.push(("parent paths", Fact::List(paths)));
    }
    ImageInfo {
        variant: variant.to_owned(),
        cluster_size: Some(metadata.block_size),
        parent_name: metadata
            .parent
            .as_ref()
            .and_then(|locator| locator.paths.first().cloned()),
        parent_format: metadata.parent.as_ref().map(|_| "vhdx".to_owned()),
        facts,
        ..ImageInfo::default()
    }
}

/// Looks at every entry of the BAT.
pub(super) fn check(image: &Reader, cancel: &CancelToken) -> Result<MetadataCheck> {
    let mut found = MetadataCheck::default();
    let findings = image.headers.findings.iter().chain(&image.regions.findings);
    for message in findings {
        found.note(FindingKind::Corruption, 1, message);
    }
    if let Some(replay) = image.content.replay() {
        found.note(
            FindingKind::Corruption,
            1,
            format!(
                "the image was not closed: {} entries of its log are not applied to the file",
                replay.entries
            ),
        );
    }
    let bat = &image.map.bat;
    let (geometry, entries) = (&bat.geometry, bat.geometry.entries());
    let mut cursor = image.cursor();
    let mut bitmaps = image.cursor();
    let mut start = 0;
    while start < entries {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let end = entries.min(start + ENTRIES_PER_LOOK);
        bat.for_each(&mut cursor, start..end, |index, entry| {
            if entry.0 == 0 {
                return;
            }
            let used_for = geometry.use_of(index);
            let note = |found: &mut MetadataCheck, error: &Error| {
                found.note(
                    FindingKind::Corruption,
                    1,
                    format!("BAT entry {index}: {error}"),
                );
            };
            let claim = checked_claim(bat, &image.map.allocation, index, entry, used_for);
            if let Err(error) = claim {
                return note(&mut found, &error);
            }
            let partial = matches!(
                entry.payload_state(geometry.differencing),
                Ok(PayloadState::PartiallyPresent)
            );
            if let (Use::Payload(block), true) = (used_for, partial) {
                let bitmap = geometry.bitmap_index(block);
                let present = bat
                    .entry(&mut bitmaps, bitmap)
                    .and_then(|entry| entry.bitmap_present());
                if !matches!(present, Ok(true)) {
                    let error = Error::corrupt(
                        "expected a sector bitmap for a partially present block, found none",
                    );
                    note(&mut found, &error.at(bat.offset_of(index)));
                }
            }
        })?;
        start = end;
    }
    Ok(found)
}
