//! Registry hives. An input that begins with `regf` is a hive; another one is changes to a made hive that has every
//! structure: words of 4 bytes behind their places, which finds more than bytes of no hive.
//!
//! Assertions: what verify accepts can be read whole and edited, is still sound then, loses no cell, and is the same
//! when it is opened again; what verify refuses is not changed by an edit.

use std::sync::OnceLock;

use registry::{Hive, Value};

/// Most keys that are visited.
const MAX_KEYS: usize = 3000;
/// Longest path in bytes that is visited; lists of a hive that is not sound may be a ring.
const MAX_PATH: usize = 300;
/// Bytes of a change: place and word.
const CHANGE: usize = 8;
const NOW: u64 = 0x01d2_4504_0000_0000;

pub(crate) fn exercise(data: &[u8]) {
    let bytes = if data.starts_with(b"regf") {
        data.to_vec()
    } else {
        changed(data)
    };
    let Ok(mut hive) = Hive::open(bytes) else {
        return;
    };
    let paths = visit(&hive);
    let Ok(before) = hive.verify() else {
        let bytes = hive.to_bytes(NOW);
        for path in paths.iter().rev().take(3) {
            assert!(hive.set(path, "v2v fuzz", &Value::dword(1)).is_err());
            assert!(!matches!(hive.delete_key(path), Ok(true)));
        }
        assert!(!hive.is_changed() && hive.to_bytes(NOW) == bytes);
        return;
    };
    edit(&mut hive, &paths);
    let after = hive.verify().expect("an edited hive is sound");
    assert!(after.lost_bytes <= before.lost_bytes, "cells are lost");
    let again = Hive::open(hive.to_bytes(NOW)).expect("a written hive opens");
    assert_eq!(again.verify().ok(), Some(after));
    assert_eq!(visit(&again), visit(&hive));
}

/// The made hive with changes.
fn changed(data: &[u8]) -> Vec<u8> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut bytes = MADE.get_or_init(made).clone();
    let words = bytes.len() / 4;
    for change in data.chunks_exact(CHANGE) {
        let Some((place, word)) = change.split_first_chunk::<4>() else {
            break;
        };
        let at = u32::from_le_bytes(*place) as usize % words * 4;
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(word);
        }
    }
    bytes
}

/// A hive with an `ri`, big data, wide names, values of all lengths, free cells.
fn made() -> Vec<u8> {
    let mut hive = Hive::create("FUZZ");
    let mut set = |path: &str, name: &str, data: usize| {
        let value = Value::binary(vec![7; data]);
        hive.set(path, name, &value).expect("a made hive takes it");
    };
    for (number, len) in [0, 1, 4, 5, 300, 16_344, 16_345, 33_000]
        .into_iter()
        .enumerate()
    {
        set("Control\\Größe", &format!("v{number}"), len);
        set("журнал\\中文", "", len);
    }
    for number in 0..1020 {
        set(&format!("Many\\{number:x}"), "", 2);
    }
    for number in 300..900 {
        let deleted = hive.delete_key(&format!("Many\\{number:x}"));
        assert!(deleted.expect("it was made"));
    }
    hive.to_bytes(NOW)
}

/// Reads keys, classes and values; the paths.
fn visit(hive: &Hive) -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        let _ = (hive.class(&path), hive.written(&path));
        for (name, value) in hive.values(&path).unwrap_or_default() {
            let _ = (value.as_text(), value.as_multi(), name);
        }
        for key in hive.keys(&path).unwrap_or_default() {
            if paths.len() < MAX_KEYS && path.len() < MAX_PATH {
                paths.push(format!("{path}\\{key}"));
            }
        }
    }
    paths
}

/// Sets, makes and deletes here and there.
fn edit(hive: &mut Hive, paths: &[String]) {
    for (number, path) in paths
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 7 == 0)
    {
        let value = Value::binary(vec![1; number * 37 % 20_000]);
        // A name with a backslash or a lone surrogate cannot be asked for, limits may be met: errors are answers.
        let _ = hive.set(path, "v2v fuzz", &value);
        let _ = hive.set(&format!("{path}\\ÿ журнал"), "", &value);
        if number % 3 == 0 {
            let _ = hive.delete_value(path, "");
        }
        if number % 5 == 0 && !path.is_empty() {
            let _ = hive.delete_key(path);
        }
    }
}
