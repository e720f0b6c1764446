//! `--print-source` beside the virt-v2v that is installed.

use std::path::Path;
use std::process::Command;

use super::descriptor::{Ovf, disk_item, item};
use super::fixtures;
use crate::open::SourceOptions;
use crate::{describe, ova};

/// Lines that virt-v2v 2.2 does not have, or leaves empty because it does not read these from an OVF.
const NOT_READ_BY_VIRT_V2V: [&str; 3] = [
    "UEFI secureboot: ",
    "        display: ",
    "          sound: ",
];

#[test]
fn the_layout_is_virt_v2v_s() {
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), &Ovf::vmware(), b"x");
    insta::assert_snapshot!(describe::machine(
        &ova::prepare(dir.path(), &SourceOptions::default())
            .unwrap()
            .machine
    ));
}

fn write_folder(dir: &Path, ovf: &Ovf<'_>, disk: &[u8]) {
    std::fs::write(dir.join("vm.ovf"), ovf.text()).unwrap();
    for number in 0..ovf.disks {
        std::fs::write(dir.join(format!("disk{number}.vmdk")), disk).unwrap();
    }
}

fn comparable(text: &str) -> Vec<&str> {
    let skipped = |line: &&str| {
        !NOT_READ_BY_VIRT_V2V
            .iter()
            .any(|front| line.starts_with(front))
    };
    text.lines().filter(skipped).collect()
}

/// What virt-v2v prints, without its progress and warnings.
fn virt_v2v(path: &Path) -> String {
    let output = Command::new("virt-v2v")
        .env("LIBGUESTFS_BACKEND", "direct")
        .args(["-i", "ova", "--print-source"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let start = text.find("Source guest information");
    let errors = String::from_utf8_lossy(&output.stderr);
    text[start.unwrap_or_else(|| panic!("virt-v2v printed: {text}{errors}"))..].to_owned()
}

#[test]
fn print_source_equals_virt_v2v_s_line_for_line() {
    if !testkit::require_tool("virt-v2v") {
        return;
    }
    let Some(vbox) = fixtures::pack("vbox-made") else {
        return;
    };
    let disk = std::fs::read(vbox.join("img/src4m-vbox-vmdk-stream.vmdk")).unwrap();

    let whole = Ovf::vmware();
    let bios = Ovf {
        config: "",
        ..Ovf::vmware()
    };
    let bare = Ovf {
        items: vec![
            item(&[
                ("InstanceID", "2"),
                ("ResourceType", "4"),
                ("VirtualQuantity", "512"),
                ("AllocationUnits", "MegaBytes"),
            ]),
            item(&[("InstanceID", "4"), ("ResourceType", "5"), ("Address", "0")]),
            disk_item(0, 4, Some(0)),
            item(&[("InstanceID", "20"), ("ResourceType", "15")]),
            item(&[
                ("InstanceID", "30"),
                ("ResourceType", "10"),
                ("ResourceSubType", "Weird"),
            ]),
            item(&[
                ("InstanceID", "31"),
                ("ResourceType", "10"),
                ("Connection", "a \"b\""),
                ("ResourceSubType", "PCNet32"),
            ]),
        ],
        disks: 1,
        config: "",
        ..Ovf::vmware()
    };
    for ovf in [whole, bios, bare] {
        let dir = tempfile::tempdir().unwrap();
        write_folder(dir.path(), &ovf, &disk);
        let opened = fixtures::open_ova(dir.path().to_owned()).unwrap();
        let (ours, theirs) = (describe(&opened), virt_v2v(dir.path()));
        assert_eq!(comparable(&ours), comparable(&theirs));
    }
}
