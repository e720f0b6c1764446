//! The JSON of `info`: qemu-img's keys, and those of ours that it has not.

use image::{Fact, Snapshot};
use serde_json::{Map, Value, json};

use super::{DIRTY, ENCRYPTED, Layer};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// One image.
pub(super) fn of(layer: &Layer) -> Value {
    let mut object = Map::new();
    let info = &layer.info;
    let mut put = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    put("filename", json!(layer.name));
    put("format", json!(layer.source.format()));
    put("virtual-size", json!(layer.source.virtual_size()));
    put("dirty-flag", json!(layer.flag(DIRTY)));
    if let Some(size) = layer.actual_size {
        put("actual-size", json!(size));
    }
    if let Some(size) = info.cluster_size {
        put("cluster-size", json!(size));
    }
    if layer.flag(ENCRYPTED) {
        put("encrypted", json!(true));
    }
    if let Some(name) = &info.parent_name {
        put("backing-filename", json!(name));
        put(
            "full-backing-filename",
            json!(layer.parent.as_ref().unwrap_or(name)),
        );
    }
    if let Some(format) = &info.parent_format {
        put("backing-filename-format", json!(format));
    }
    if !info.snapshots.is_empty() {
        put(
            "snapshots",
            info.snapshots
                .iter()
                .map(snapshot)
                .collect::<Vec<_>>()
                .into(),
        );
    }
    let facts = layer.own_facts();
    if !facts.is_empty() {
        let data: Map<String, Value> = facts
            .iter()
            .map(|(name, fact)| (key(name), value(fact)))
            .collect();
        put(
            "format-specific",
            json!({"type": layer.source.format(), "data": data}),
        );
    }
    if let Some(len) = layer.file_len {
        let child = json!({
            "name": "file",
            "info": {
                "children": [],
                "virtual-size": len,
                "filename": layer.name,
                "format": "file",
                "actual-size": layer.actual_size,
                "format-specific": {"type": "file", "data": {}},
                "dirty-flag": false,
            },
        });
        put("children", json!([child]));
    }
    // Ours.
    put(
        "logical-sector-size",
        json!(layer.source.logical_sector_size()),
    );
    if !info.variant.is_empty() {
        put("variant", json!(info.variant));
    }
    if !info.files.is_empty() {
        put("files", json!(info.files));
    }
    Value::Object(object)
}

/// A fact's name as a key: dashes for spaces.
fn key(name: &str) -> String {
    name.replace(' ', "-")
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Text(text) => json!(text),
        Fact::Number(number) => json!(number),
        Fact::Flag(flag) => json!(flag),
        Fact::List(items) => items.iter().map(value).collect(),
        Fact::Group(members) => members
            .iter()
            .map(|(name, fact)| (key(name), value(fact)))
            .collect::<Map<_, _>>()
            .into(),
        other => json!(format!("{other:?}")),
    }
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date_sec,
        "date-nsec": snapshot.date_nsec,
        "vm-clock-sec": snapshot.vm_clock_nsec / SECOND,
        "vm-clock-nsec": snapshot.vm_clock_nsec % SECOND,
    })
}
