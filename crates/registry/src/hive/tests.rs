//! Made hives; the real ones are in tests/.

use super::*;
use crate::{ErrorKind, Kind};

const NOW: u64 = 0x01d2_4504_0000_0000;

#[test]
fn an_empty_hive_is_sound() {
    let hive = Hive::create("ROOT");
    let summary = hive.verify().unwrap();
    assert_eq!(
        (summary.keys, summary.values, summary.descriptors),
        (1, 0, 1)
    );
    assert_eq!(summary.lost_bytes, 0);
    assert!(hive.is_changed());
    let bytes = hive.to_bytes(NOW);
    assert_eq!(bytes.len(), 8192);
    let again = Hive::open(bytes).unwrap();
    assert_eq!(again.verify().unwrap(), summary);
    assert!(!again.is_changed());
    assert_eq!(again.written("").unwrap(), Some(NOW));
    assert!(again.has("").unwrap() && again.keys("").unwrap().is_empty());
}

#[test]
fn values_of_every_length_come_back() {
    let mut hive = Hive::create("ROOT");
    let lengths = [0, 1, 4, 5, 100, 16_343, 16_344, 16_345, 40_000, 16_344 * 3];
    for len in lengths {
        let data: Vec<u8> = (0..len).map(|at: usize| (at % 251) as u8).collect();
        let value = Value {
            kind: Kind(3),
            data,
        };
        assert!(hive.set("a\\b", &format!("v{len}"), &value).unwrap());
        assert!(!hive.set("A\\B", &format!("V{len}"), &value).unwrap());
        assert_eq!(hive.value("a\\b", &format!("v{len}")).unwrap(), Some(value));
    }
    hive.verify().unwrap();
    let hive = Hive::open(hive.to_bytes(NOW)).unwrap();
    assert_eq!(hive.values("a\\b").unwrap().len(), lengths.len());
    let mut hive = hive;
    for len in lengths {
        assert!(hive.delete_value("a\\b", &format!("v{len}")).unwrap());
        hive.verify().unwrap();
    }
    assert!(hive.delete_key("a").unwrap() && !hive.delete_key("a").unwrap());
    assert_eq!(hive.verify().unwrap().keys, 1);
    assert_eq!(hive.verify().unwrap().lost_bytes, 0);
}

#[test]
fn thousands_of_keys_are_sorted_under_an_ri() {
    let mut hive = Hive::create("ROOT");
    let name = |number: u32| format!("Key{:x}", number.wrapping_mul(0x9e37_79b9));
    for number in 0..3000 {
        assert!(hive.create_key(&name(number)).unwrap());
    }
    assert_eq!(hive.verify().unwrap().keys, 3001);
    let keys = hive.keys("").unwrap();
    assert!(keys.is_sorted_by_key(|key| key.to_uppercase()));
    for number in 0..3000 {
        assert!(hive.has(&name(number).to_uppercase()).unwrap());
        assert!(hive.delete_key(&name(number)).unwrap());
    }
    assert_eq!(hive.verify().unwrap().keys, 1);
    assert_eq!(hive.verify().unwrap().lost_bytes, 0);
}

#[test]
fn a_dirty_hive_is_refused_as_such() {
    let mut bytes = Hive::create("ROOT").to_bytes(NOW);
    bytes[4] ^= 1;
    bytes[508] ^= 1;
    assert_eq!(
        Hive::open(bytes.clone()).unwrap_err().kind,
        ErrorKind::Dirty
    );
    bytes[508] ^= 2;
    assert_eq!(Hive::open(bytes).unwrap_err().kind, ErrorKind::Dirty);
}
