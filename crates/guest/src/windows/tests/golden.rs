//! Descriptions of the phony guests, and of the two real machines of the fixtures, as golden files.

use types::{GuestInfo, Mountpoint, StorageMap};

use super::machine;
use super::storage::partition;
use super::version::VERSIONS;
use crate::Root;
use crate::tests::fixtures;

fn golden(name: &str, guest: &GuestInfo) {
    let text = serde_json::to_string_pretty(guest).unwrap();
    insta::assert_snapshot!(format!("inspect-{name}"), text);
}

#[test]
fn phony_guests_are_described() {
    for version in VERSIONS {
        golden(version.name, &machine(version.name).inspect());
    }
}

/// The tree of a real machine: its two hives.
fn real(name: &str) -> Option<tempfile::TempDir> {
    let hives = fixtures::hives(name)?;
    let tree = tempfile::tempdir().unwrap();
    let config = tree.path().join("Windows/System32/config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("SYSTEM"), hives.system).unwrap();
    std::fs::write(config.join("SOFTWARE"), hives.software).unwrap();
    Some(tree)
}

#[test]
fn real_machines_are_described() {
    for name in ["win7-x86-vmware", "win81-x64-virtualbox"] {
        let Some(tree) = real(name) else { return };
        let root = Root::open(tree.path()).unwrap();
        let storage = StorageMap {
            devices: vec![partition(1, "ntfs", 60 << 30, "0x7", "5cbea03e-01")],
        };
        let mountpoints = [Mountpoint {
            device: "/dev/sda1".to_owned(),
            path: "/".to_owned(),
            fs_type: "ntfs".to_owned(),
        }];
        let guest = crate::inspect(&root, &storage, &mountpoints).unwrap();
        golden(name, &guest);
    }
}
