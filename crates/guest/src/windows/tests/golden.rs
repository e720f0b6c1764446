//! Descriptions of the phony guests, and of the two real machines of the fixtures, as golden files.

use std::path::Path;
use std::process::Command;

use types::{GuestInfo, Mountpoint, StorageMap};

use super::machine;
use super::storage::partition;
use super::version::VERSIONS;
use crate::Root;

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
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let dir = std::env::var_os("V2V_FIXTURES").map_or(own, Into::into);
    let pack = dir.join("hives.tar.xz");
    if !pack.is_file() {
        assert!(
            std::env::var_os("CI").is_none(),
            "missing in CI: {}",
            pack.display()
        );
        eprintln!("SKIP: no fixture {}", pack.display());
        return None;
    }
    let tree = tempfile::tempdir().unwrap();
    let config = tree.path().join("Windows/System32/config");
    std::fs::create_dir_all(&config).unwrap();
    let list = Command::new("tar").arg("-tJf").arg(&pack).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for hive in ["SYSTEM", "SOFTWARE"] {
        let end = format!("{name}/{hive}");
        let mut lines = list.lines();
        let member = lines.find(|line| line.ends_with(&end)).unwrap();
        let done = Command::new("tar")
            .arg("-xJOf")
            .arg(&pack)
            .arg(member)
            .output()
            .unwrap();
        assert!(done.status.success());
        let mut bytes = done.stdout;
        settle(&mut bytes);
        std::fs::write(config.join(hive), bytes).unwrap();
    }
    Some(tree)
}

/// The fixtures are without their logs, and one was taken from a running machine: makes its sequence numbers equal, as if
/// its logs had been replayed, and the checksum of the header (the XOR of its first 127 words) right.
fn settle(hive: &mut [u8]) {
    let primary: [u8; 4] = hive[4..8].try_into().unwrap();
    hive[8..12].copy_from_slice(&primary);
    let (words, _) = hive[..508].as_chunks::<4>();
    let sum = words
        .iter()
        .fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    hive[508..512].copy_from_slice(&sum.to_le_bytes());
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
