//! The text of `info`.

use std::fmt::Write;

use image::{Fact, Snapshot};

use super::{DIRTY, ENCRYPTED, Layer};
use crate::image_cmd::humane;

/// One image.
pub(super) fn of(layer: &Layer) -> String {
    let mut text = String::new();
    let info = &layer.info;
    let virtual_size = layer.source.virtual_size();
    line(&mut text, "image", &layer.name);
    line(&mut text, "file format", layer.source.format());
    line(
        &mut text,
        "virtual size",
        &format!("{} ({virtual_size} bytes)", humane::size(virtual_size)),
    );
    let disk_size = layer
        .actual_size
        .map_or("unavailable".to_owned(), humane::size);
    line(&mut text, "disk size", &disk_size);
    if layer.flag(ENCRYPTED) {
        line(&mut text, "encrypted", "yes");
    }
    if let Some(cluster_size) = info.cluster_size {
        line(&mut text, "cluster_size", &cluster_size.to_string());
    }
    let sector = layer.source.logical_sector_size();
    if sector != 512 {
        line(&mut text, "logical sector size", &sector.to_string());
    }
    if layer.flag(DIRTY) {
        line(&mut text, "cleanly shut down", "no");
    }
    if let Some(parent) = &info.parent_name {
        let actual = match &layer.parent {
            Some(path) if path != parent => format!("{parent} (actual path: {path})"),
            _ => parent.clone(),
        };
        line(&mut text, "backing file", &actual);
    }
    if let Some(format) = &info.parent_format {
        line(&mut text, "backing file format", format);
    }
    snapshots(&mut text, &info.snapshots);
    let facts = layer.own_facts();
    if !facts.is_empty() {
        text.push_str("Format specific information:\n");
        for (name, fact) in &facts {
            self::fact(&mut text, name, fact, 1);
        }
    }
    if !info.files.is_empty() {
        text.push_str("Files:\n");
        for file in &info.files {
            let _ = writeln!(text, "    {file}");
        }
    }
    if let Some(len) = layer.file_len {
        text.push_str("Child node '/file':\n");
        let _ = writeln!(text, "    filename: {}", layer.name);
        let _ = writeln!(text, "    protocol type: file");
        let _ = writeln!(text, "    file length: {} ({len} bytes)", humane::size(len));
        let _ = writeln!(text, "    disk size: {disk_size}");
    }
    text
}

/// `name: value`; a name of a foreign image must not break the layout.
fn line(text: &mut String, name: &str, value: &str) {
    let value: String = value.chars().flat_map(printable).collect();
    let _ = writeln!(text, "{name}: {value}");
}

/// A character, or its escape where it would move the cursor.
fn printable(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// A fact in qemu-img's indentation: lists by index, groups below their name.
fn fact(text: &mut String, name: &str, fact: &Fact, depth: usize) {
    let indent = "    ".repeat(depth);
    let name = name.replace('-', " ");
    match fact {
        Fact::List(items) => {
            let _ = writeln!(text, "{indent}{name}:");
            for (index, item) in items.iter().enumerate() {
                self::fact(text, &format!("[{index}]"), item, depth + 1);
            }
        }
        Fact::Group(members) => {
            let _ = writeln!(text, "{indent}{name}:");
            for (name, member) in members {
                self::fact(text, name, member, depth + 1);
            }
        }
        Fact::Text(value) => line(text, &format!("{indent}{name}"), value),
        Fact::Number(value) => line(text, &format!("{indent}{name}"), &value.to_string()),
        Fact::Flag(value) => line(text, &format!("{indent}{name}"), &value.to_string()),
        other => line(text, &format!("{indent}{name}"), &format!("{other:?}")),
    }
}

/// The table of internal snapshots.
fn snapshots(text: &mut String, snapshots: &[Snapshot]) {
    if snapshots.is_empty() {
        return;
    }
    text.push_str("Snapshot list:\n");
    // qemu-img has an ICOUNT column behind these, for machines that count instructions.
    text.push_str("ID      TAG               VM_SIZE                DATE        VM_CLOCK\n");
    let printable = |text: &str| text.chars().flat_map(printable).collect::<String>();
    for snapshot in snapshots {
        let row = format!(
            "{:<7} {:<16} {:>8} {:>19} {:>15}",
            printable(&snapshot.id),
            printable(&snapshot.name),
            humane::size(snapshot.vm_state_size),
            humane::date(snapshot.date_sec),
            humane::clock(snapshot.vm_clock_nsec),
        );
        let _ = writeln!(text, "{row}");
    }
}
