//! Transaction logs: changes to a made dirty hive and its logs. The first byte says which one, the rest is words of 4 bytes
//! behind their places in all files. Hashes and checksums count only outside of `cargo xtask fuzz`.
//!
//! Assertions: a hive that was recovered is sound and is written as a clean one, which the same logs leave alone.

use std::sync::OnceLock;

use registry::testing::{self, Made};
use registry::{Hive, Logs, Value};

/// Bytes of a change: place and word.
const CHANGE: usize = 8;
const NOW: u64 = 0x01d2_4504_0000_0000;
/// In the first byte.
const OLD_FORMAT: u8 = 1;
const TORN: u8 = 2;
const BAD_BASE: u8 = 4;
const SWAPPED: u8 = 8;
const CUT: u8 = 16;

pub(crate) fn exercise(data: &[u8]) {
    let Some((mode, changes)) = data.split_first() else {
        return;
    };
    let made = changed(*mode, changes);
    let Ok(recovered) = Hive::recover(made.primary, &made.logs) else {
        return;
    };
    let sound = recovered.hive.verify();
    assert!(recovered.replayed == 0 || sound.is_ok());
    if sound.is_err() {
        return;
    }
    let again = Hive::recover(recovered.hive.to_bytes(NOW + 1), &made.logs);
    let again = again.expect("a written hive opens");
    assert_eq!(again.replayed, 0, "it was written clean");
    assert_eq!(again.hive.verify().ok(), sound.ok());
}

/// The made hive with its mode and its changes.
fn changed(mode: u8, changes: &[u8]) -> Made {
    static MADE: OnceLock<[Made; 2]> = OnceLock::new();
    let versions = versions();
    let [new, old] = MADE.get_or_init(|| {
        let slices: Vec<&[u8]> = versions.iter().map(Vec::as_slice).collect();
        let (first, last) = (slices.first().copied(), slices.last().copied());
        let old = testing::dirt(first.unwrap_or_default(), last.unwrap_or_default());
        [testing::incremental(&slices), old]
    });
    let is = |flag| mode & flag != 0;
    let mut made = if is(OLD_FORMAT) { old } else { new }.clone();
    if is(TORN) {
        made = made.torn(versions.last().map_or(&[], Vec::as_slice));
    }
    if is(BAD_BASE) {
        made = made.with_bad_base();
    }
    if is(SWAPPED) {
        std::mem::swap(&mut made.logs.log1, &mut made.logs.log2);
    }
    let Made { primary, logs } = &mut made;
    let Logs { log1, log2, .. } = logs;
    let len = primary.len() + log1.len() + log2.len();
    for change in changes.chunks_exact(CHANGE) {
        let Some((place, word)) = change.split_first_chunk::<4>() else {
            break;
        };
        let mut at = u32::from_le_bytes(*place) as usize % len / 4 * 4;
        for file in [&mut *primary, &mut *log1, &mut *log2] {
            if let Some(place) = file.get_mut(at..at + 4) {
                place.copy_from_slice(word);
                break;
            }
            at = at.saturating_sub(file.len());
        }
    }
    if is(CUT) {
        let len = changes.len() * 97 % (log2.len() + 1);
        log2.truncate(len);
    }
    made
}

/// A small hive and five transactions, the last of which makes it larger.
fn versions() -> &'static [Vec<u8>] {
    static VERSIONS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        let mut hive = Hive::create("FUZZ");
        let mut versions = vec![hive.to_bytes(NOW)];
        for number in 0..5usize {
            for key in 0..3 {
                let value = Value::binary(vec![1; number * 700]);
                let set = hive.set(&format!("a{number}\\b{key}"), "c", &value);
                assert!(set.is_ok_and(|changed| changed));
            }
            versions.push(hive.to_bytes(NOW));
        }
        versions
    })
}
