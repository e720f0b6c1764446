//! Stores: OVMF's own, edited ones, damaged ones.

use std::fs;

use super::*;
use crate::menu::GLOBAL;

const OTHER: Guid = Guid([1; 16]);

/// (vendor, name, content) of what counts.
fn live(flash: &[u8]) -> Vec<(Guid, String, Vec<u8>)> {
    variables(flash)
        .unwrap()
        .map(Result::unwrap)
        .filter(Variable::is_live)
        .map(|variable| (variable.vendor, variable.name(), variable.data.to_vec()))
        .collect()
}

#[test]
fn an_empty_store_is_that_of_the_distribution_byte_for_byte() {
    for (file, layout) in [
        ("OVMF_VARS_4M.fd", Layout::Ovmf4M),
        ("OVMF_VARS.fd", Layout::Ovmf2M),
    ] {
        let store = Store::empty(layout);
        assert_eq!(Store::open(store.bytes().to_vec()).unwrap(), store);
        match fs::read(format!("/usr/share/OVMF/{file}")) {
            Ok(theirs) => assert!(store.bytes() == theirs, "{file} differs"),
            Err(_) => testkit::skip(&format!("{file} is not installed (package ovmf)")),
        }
    }
}

#[test]
fn a_store_with_keys_of_the_distribution_is_read_and_extended() {
    let Ok(flash) = fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") else {
        return testkit::skip("OVMF_VARS_4M.ms.fd is not installed (package ovmf)");
    };
    let before = live(&flash);
    let names: Vec<_> = before.iter().map(|(_, name, _)| name.as_str()).collect();
    for wanted in ["PK", "KEK", "db", "SecureBootEnable"] {
        assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
    }
    let mut store = Store::open(flash).unwrap();
    store.set(OTHER, "x", 7, b"new").unwrap();
    let mut want = before;
    want.push((OTHER, "x".into(), b"new".to_vec()));
    assert_eq!(live(store.bytes()), want);
}

#[test]
fn a_variable_lies_where_edk2_looks_for_it() {
    let mut store = Store::empty(Layout::Ovmf2M);
    store.set(GLOBAL, "ab", 7, &[9, 8, 7]).unwrap();
    store.set(OTHER, "c", 3, &[]).unwrap();
    let first = &store.bytes()[0x64..];
    assert_eq!(first[..8], [0xaa, 0x55, 0x3f, 0, 7, 0, 0, 0]);
    assert_eq!(first[8..0x24], [0; 0x1c]);
    assert_eq!(first[0x24..0x2c], [6, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(first[0x2c..0x3c], GLOBAL.0);
    assert_eq!(first[0x3c..0x45], [b'a', 0, b'b', 0, 0, 0, 9, 8, 7]);
    assert_eq!(first[0x45..0x4a], [0xff, 0xff, 0xff, 0xaa, 0x55]);
}

#[test]
fn a_new_value_follows_the_old_one_which_is_deleted() {
    let mut store = Store::empty(Layout::Ovmf4M);
    store.set(GLOBAL, "a", 7, b"old").unwrap();
    store.set(OTHER, "a", 7, b"theirs").unwrap();
    store.set(GLOBAL, "a", 7, b"newer").unwrap();
    assert_eq!(store.get(GLOBAL, "a"), Some(&b"newer"[..]));
    let states: Vec<_> = variables(store.bytes())
        .unwrap()
        .map(|variable| variable.unwrap().state)
        .collect();
    assert_eq!(states, [0x3d, 0x3f, 0x3f]);
    let again = Store::open(store.bytes().to_vec()).unwrap();
    assert_eq!(again, store);
}

#[test]
fn a_complete_variable_goes_before_one_in_transition() {
    let mut store = Store::empty(Layout::Ovmf2M);
    store.set(GLOBAL, "a", 7, b"1").unwrap();
    let mut flash = store.bytes().to_vec();
    flash[0x66] = 0x3e;
    assert_eq!(live(&flash).len(), 1);
    let mut store = Store::open(flash).unwrap();
    store.set(GLOBAL, "a", 7, b"2").unwrap();
    let mut flash = store.bytes().to_vec();
    assert_eq!(flash[0x66], 0x3c);
    flash[0x66] = 0x3e;
    let all = variables(&flash).unwrap().map(Result::unwrap);
    assert_eq!(newest(all, GLOBAL, "a"), Some(&b"2"[..]));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut store = Store::empty(Layout::Ovmf2M);
    store.set(GLOBAL, "a", 7, b"old").unwrap();
    let before = store.clone();
    let error = store.set(GLOBAL, "a", 7, &[0; 0xe000]).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(store, before);
    let mut count = 0;
    while store.set(GLOBAL, "b", 7, &[1; 0x333]).is_ok() {
        count += 1;
    }
    assert_eq!(count, (0xe000 - 0x64 - 0x48) / (0x3c + 4 + 0x334));
    assert_eq!(store.bytes().len(), 0x20000);
    assert_eq!(store.bytes()[0xf000..], before.bytes()[0xf000..]);
    Store::open(store.bytes().to_vec()).unwrap();
}

#[test]
fn a_file_may_go_on_behind_its_volume() {
    let mut flash = Store::empty(Layout::Ovmf2M).bytes().to_vec();
    flash.resize(64 << 20, 0);
    let mut store = Store::open(flash).unwrap();
    store.set(GLOBAL, "a", 7, b"1").unwrap();
    assert_eq!(store.bytes().len(), 64 << 20);
}

#[test]
fn stores_that_firmware_would_not_believe_are_not_written() {
    let good = Store::empty(Layout::Ovmf2M).bytes().to_vec();
    let with = |at: usize, value: u8| {
        let mut flash = good.clone();
        flash[at] = value;
        Store::open(flash).unwrap_err()
    };
    assert!(matches!(with(0x28, b'x'), Error::NoVolume));
    assert!(matches!(with(0x32, 0), Error::BadVolume { .. }));
    assert!(matches!(with(0x48, 0), Error::NoStore { at: 0x48 }));
    assert!(matches!(with(0x5b, 0xff), Error::StoreCut { .. }));
    assert!(matches!(with(0x5c, 0xff), Error::Unhealthy { .. }));
    assert!(matches!(with(0x70, 0), Error::NotErased { at: 0x70 }));
    let cut = Store::open(good[..0x1_f000].to_vec()).unwrap_err();
    assert!(matches!(cut, Error::BadVolume { .. }), "{cut}");
    assert!(matches!(with(0x22, 0), Error::BadVolume { .. }));
    assert!(Store::open(b"QFI\xfb".to_vec()).is_err());
}

#[test]
fn damage_anywhere_is_an_error_or_a_store_but_no_panic() {
    let mut store = Store::empty(Layout::Ovmf2M);
    store.set(GLOBAL, "BootOrder", 7, &[0, 0]).unwrap();
    let good = store.bytes().to_vec();
    for at in 0..0x100 {
        for value in [0, 0x3e, 0x55, 0x7f, 0xaa, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = crate::menu::read(&bad);
            if let Ok(mut store) = Store::open(bad) {
                let _ = store.set(GLOBAL, "BootOrder", 7, &[1, 0]);
            }
        }
    }
    for cut in 0..0x100 {
        assert!(variables(&good[..cut]).is_err());
    }
}
