//! Random edits of made and real hives against a map, and hostile bytes.

use registry::{Hive, Value};

use crate::model::{Model, NOW, Random, close, edit, empty, full};

/// Edits in batches; after each one everything is compared, in memory and reopened.
fn batches(mut hive: Hive, seed: u64, roots: &[String], sizes: &[usize]) -> Hive {
    let mut model = Model::of(&hive);
    let lost = hive.verify().unwrap().lost_bytes;
    let mut random = Random(seed);
    for &size in sizes {
        edit(&mut hive, &mut model, &mut random, roots, size);
        let summary = hive.verify().unwrap();
        assert_eq!(summary.lost_bytes, lost, "seed {seed}: cells are lost");
        assert_eq!(summary.keys, model.0.len() as u64);
        assert!(
            Model::of(&hive) == model,
            "seed {seed}: the hive differs from the map"
        );
        hive = Hive::open(hive.to_bytes(NOW)).unwrap();
        assert_eq!(hive.verify().unwrap(), summary);
        assert!(
            Model::of(&hive) == model,
            "seed {seed}: the file differs from the map"
        );
    }
    hive
}

#[test]
fn edits_agree_with_a_map() {
    for seed in 0..12 {
        let minor = 3 + (seed % 4) as u8;
        batches(empty(minor), seed, &[], &[50, 200, 500, 30]);
    }
}

#[test]
fn what_was_made_can_be_deleted_to_the_last_cell() {
    for seed in 0..6 {
        let hive = empty(3 + (seed % 4) as u8);
        let used = hive.verify().unwrap().used_bytes;
        let mut hive = batches(hive, 100 + seed, &[], &[300]);
        for key in hive.keys("").unwrap() {
            assert!(hive.delete_key(&key).unwrap());
            hive.verify().unwrap();
        }
        let summary = hive.verify().unwrap();
        assert_eq!(
            (summary.keys, summary.values, summary.used_bytes),
            (1, 0, used)
        );
    }
}

#[test]
fn freed_room_is_used_again() {
    let mut hive = empty(5);
    let value = |byte: u8| Value::binary(vec![byte; 40_000]);
    hive.set("a", "big", &value(0)).unwrap();
    let len = hive.to_bytes(NOW).len();
    for round in 1..100 {
        hive.set("a", "big", &value(round)).unwrap();
        hive.delete_value("a", "big").unwrap();
        hive.set("a", "big", &value(0)).unwrap();
    }
    assert_eq!(hive.to_bytes(NOW).len(), len);
}

/// Offsets and counts that hurt.
fn hostile_word(random: &mut Random, len: usize) -> u32 {
    match random.below(8) {
        0 => 0,
        1 => u32::MAX,
        2 => 0x7fff_ffff,
        3 => 0x8000_0000,
        4 => 0x20,
        5 => random.below(300) as u32,
        _ => (random.below(len) / 8 * 8) as u32,
    }
}

fn mutate(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        // Half of them in the root's neighbourhood, where the structures are that matter.
        let end = if random.below(2) == 0 {
            16_384
        } else {
            bytes.len()
        };
        let at = 36 + random.below(end.min(bytes.len()) - 40);
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            _ => {
                let word = hostile_word(random, bytes.len()).to_le_bytes();
                let at = at / 4 * 4;
                bytes[at..at + 4].copy_from_slice(&word);
            }
        }
    }
    close(bytes);
}

/// Reads all that can be read; errors are answers.
fn read_all(hive: &Hive) {
    let mut left = vec![String::new()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let _ = (hive.values(&path), hive.class(&path), hive.written(&path));
        for key in hive.keys(&path).unwrap_or_default() {
            // A loop in a list makes paths without end.
            if path.len() < 400 && seen < 5000 {
                seen += 1;
                left.push(if path.is_empty() {
                    key
                } else {
                    format!("{path}\\{key}")
                });
            }
        }
    }
}

/// What verify accepts bears edits; what it does not accept is left alone.
fn hurt(bytes: Vec<u8>, random: &mut Random) -> bool {
    let Ok(mut hive) = Hive::open(bytes) else {
        return false;
    };
    read_all(&hive);
    let before = hive.to_bytes(NOW);
    let Ok(summary) = hive.verify() else {
        assert!(hive.set("Edited\\new", "x", &Value::dword(1)).is_err());
        let _ = hive.delete_key("many\\0001");
        let _ = hive.delete_value("many", "");
        assert!(!hive.is_changed() && hive.to_bytes(NOW) == before);
        return false;
    };
    for round in 0..20 {
        let key = format!("many\\{:04}", random.below(1100));
        let value = Value::binary(random.bytes(random.clone().below(300)));
        hive.delete_key(&key).unwrap();
        hive.set(&key, &format!("v{round}"), &value).unwrap();
        hive.set("Edited\\viostor", "x", &value).unwrap();
    }
    for key in hive.keys("").unwrap() {
        if random.below(2) == 0 {
            hive.delete_key(&key).unwrap();
        }
    }
    let after = hive.verify().unwrap();
    assert!(after.lost_bytes <= summary.lost_bytes, "cells are lost");
    let again = Hive::open(hive.to_bytes(NOW)).unwrap();
    assert_eq!(again.verify().unwrap(), after);
    true
}

#[test]
fn hostile_hives_never_panic_and_sound_ones_stay_so() {
    let good = full().to_bytes(NOW);
    let mut random = Random(1);
    let mut sound = 0;
    for _ in 0..2000 {
        let mut bytes = good.clone();
        mutate(&mut bytes, &mut random);
        sound += usize::from(hurt(bytes, &mut random));
    }
    assert!(sound > 100 && sound < 1900, "{sound} of 2000 are sound");
}

#[test]
fn cut_hives_are_refused() {
    let good = full().to_bytes(NOW);
    let mut random = Random(2);
    for _ in 0..200 {
        let len = random.below(good.len());
        assert!(Hive::open(good[..len].to_vec()).is_err());
    }
    let mut longer = good.clone();
    longer.extend([0xaa; 5000]);
    assert_eq!(Hive::open(longer).unwrap().to_bytes(NOW).len(), good.len());
}
