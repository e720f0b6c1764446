//! Descriptors and packages that VMware's and VirtualBox's programs made.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use types::{CancelToken, DiskBus, Firmware, Hypervisor};

use crate::error::ErrorKind;
use crate::{Opened, SourceKind, SourceOptions, open, ovf, text};

/// The unpacked pack of this name, or a loud skip.
pub(crate) fn pack(name: &str) -> Option<PathBuf> {
    let found = testkit::fixture(name).unwrap();
    if found.is_none() {
        testkit::skip("fixtures are absent: set V2V_FIXTURES");
    }
    found
}

fn descriptors(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            descriptors(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "ovf") {
            found.push(path);
        }
    }
}

fn parse(path: &Path) -> crate::Result<ovf::Descriptor> {
    parse_one(path, None)
}

fn parse_one(path: &Path, wanted: Option<&str>) -> crate::Result<ovf::Descriptor> {
    let bytes = std::fs::read(path).unwrap();
    text::decode(&bytes).and_then(|text| ovf::parse(&text, "fallback", wanted))
}

/// Ids of the machines of a descriptor, by its text.
fn machine_ids(path: &Path) -> Vec<String> {
    let text = text::decode(&std::fs::read(path).unwrap()).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let is_machine = |node: &roxmltree::Node<'_, '_>| {
        let kind = |a: roxmltree::Attribute<'_, '_>| a.value().ends_with("VirtualSystem_Type");
        node.tag_name().name() == "VirtualSystem"
            || (node.tag_name().name() == "Content" && node.attributes().any(kind))
    };
    let id = |node: roxmltree::Node<'_, '_>| {
        let found = node.attributes().find(|a| a.name() == "id");
        found.unwrap().value().to_owned()
    };
    document.descendants().filter(is_machine).map(id).collect()
}

/// `ok`, or the error without the parts that differ from file to file.
fn outcome_of(outcome: crate::Result<ovf::Descriptor>) -> String {
    match outcome {
        Ok(descriptor) => {
            assert_eq!(descriptor.machine.disks.len(), descriptor.files.len());
            assert!(!descriptor.files.is_empty() && descriptor.machine.memory_bytes > 0);
            "ok".to_owned()
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 2000, "{text}");
            // The quoted parts vary; what is left is the kind of message.
            text.split('`').step_by(2).collect::<Vec<_>>().join("*")
        }
    }
}

#[test]
fn every_descriptor_of_vmware_s_collection_is_read_or_refused_clearly() {
    let Some(dir) = pack("ovf") else { return };
    let mut paths = Vec::new();
    descriptors(&dir, &mut paths);
    paths.sort();
    assert_eq!(paths.len(), 478);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |outcome: String| *counts.entry(outcome).or_default() += 1;
    for path in &paths {
        let outcome = parse(path);
        let machines = match &outcome {
            Err(error) if error.to_string().contains("--vm NAME") => machine_ids(path),
            _ => Vec::new(),
        };
        count(outcome_of(outcome));
        for id in machines {
            count(format!("--vm: {}", outcome_of(parse_one(path, Some(&id)))));
        }
    }
    let table: String = counts
        .iter()
        .map(|(outcome, count)| format!("{count:5}  {outcome}\n"))
        .collect();
    writeln!(std::io::stderr(), "{} descriptors:\n{table}", paths.len()).unwrap();
    insta::assert_debug_snapshot!(counts);
}

#[test]
fn fields_of_a_dozen_descriptors_are_exact() {
    let Some(dir) = pack("ovf") else { return };
    let mut paths = Vec::new();
    descriptors(&dir, &mut paths);
    paths.sort();
    let names = [
        "esxvmovf-25262174.ovf",
        "VMware-vCenter-Server-Appliance-9.1.0.0.25262036_OVF10.ovf",
        "VM_OVF09.ovf",
        "PvScsis.ovf",
        "SasPvScsi.ovf",
        "idePvScsi.ovf",
        "xp-multinic.ovf",
        "multi-core-vm.ovf",
        "chinese_characters.ovf",
        "vbs-all-enabled.ovf",
        "nvdimm_incorrect_controller.ovf",
        "uber.ovf",
        "bitnami-tomcatstack-8.0.36-x86_64.ovf",
        "ubuntu8.04_OVF10.ovf",
    ];
    let found: Vec<_> = names
        .iter()
        .map(|name| {
            let path = paths
                .iter()
                .find(|path| path.ends_with(name))
                .unwrap_or_else(|| panic!("{name} is absent"));
            let parsed = parse(path).map(|descriptor| (descriptor.machine, descriptor.warnings));
            (*name, parsed.map_err(|error| error.to_string()))
        })
        .collect();
    insta::assert_debug_snapshot!(found);
}

#[test]
fn negative_descriptors_without_which_nothing_can_be_converted_are_refused() {
    let Some(dir) = pack("ovf") else { return };
    let mut paths = Vec::new();
    descriptors(&dir, &mut paths);
    let refused = [
        ("invalid_no_vm.ovf", "VirtualSystem"),
        ("no_vh.ovf", "VirtualHardwareSection"),
        ("vh_under_env.ovf", "found none"),
        ("virtualsystemcollection.ovf", "machines, expected one"),
        ("empty.ovf", "VirtualSystem, found none"),
    ];
    for (name, part) in refused {
        let matching: Vec<_> = paths.iter().filter(|path| path.ends_with(name)).collect();
        assert!(!matching.is_empty(), "{name} is absent");
        for path in matching {
            let error = parse(path)
                .err()
                .unwrap_or_else(|| panic!("{} was read", path.display()));
            assert!(
                error.to_string().contains(part),
                "{}: `{part}` is not in: {error}",
                path.display()
            );
        }
    }
}

pub(crate) fn open_ova(path: PathBuf) -> crate::Result<Opened> {
    open(&SourceKind::Ova(path), &SourceOptions::default())
}

fn verify(opened: Opened) -> usize {
    let count = opened.verifications.len();
    for verification in opened.verifications {
        verification.run(&CancelToken::new(), &|_| {}).unwrap();
    }
    count
}

/// What one machine should be, whatever the version of its descriptor.
struct Want {
    name: &'static str,
    folder: &'static str,
    firmware: Firmware,
    memory_mib: u64,
    disks: &'static [(DiskBus, u32, u32, u64)],
    macs: &'static [&'static str],
    verified: usize,
}

const WANTED: [Want; 3] = [
    Want {
        name: "lin-bios",
        folder: "lin-bios",
        firmware: Firmware::Bios,
        memory_mib: 1024,
        disks: &[
            (DiskBus::Sata, 0, 0, 4 << 20),
            (DiskBus::Sata, 0, 1, 4 << 20),
        ],
        macs: &[
            "08:00:27:ef:d0:e7",
            "08:00:27:0a:0b:0c",
            "08:00:27:ff:c5:b2",
        ],
        verified: 2,
    },
    Want {
        name: "winxp",
        folder: "winxp",
        firmware: Firmware::Bios,
        memory_mib: 512,
        disks: &[
            (DiskBus::Ide, 0, 0, 1 << 30),
            (DiskBus::Scsi, 0, 0, 512 << 20),
        ],
        macs: &["08:00:27:6f:cc:4e"],
        verified: 2,
    },
    Want {
        name: "win11-efi",
        folder: "win11-efi",
        firmware: Firmware::Uefi,
        memory_mib: 4096,
        disks: &[
            (DiskBus::Nvme, 0, 0, 64 << 30),
            (DiskBus::Scsi, 0, 0, 2 << 30),
            (DiskBus::VirtioScsi, 0, 0, 100 << 20),
        ],
        macs: &["08:00:27:ce:70:65", "08:00:27:31:12:75"],
        verified: 4,
    },
];

#[test]
fn exports_of_virtualbox_are_read_in_all_versions() {
    let Some(dir) = pack("vbox-made") else { return };
    for want in WANTED {
        for version in ["09", "10", "20"] {
            let path = dir.join(format!("export/{}-ovf{version}", want.folder));
            let opened = open_ova(path).unwrap();
            let machine = &opened.machine;
            let context = format!("{} {version}", want.name);
            assert_eq!(machine.name, want.name, "{context}");
            assert_eq!(machine.hypervisor, Hypervisor::VirtualBox, "{context}");
            assert_eq!(machine.firmware, Some(want.firmware), "{context}");
            assert_eq!(machine.tpm, want.name == "win11-efi", "{context}");
            assert_eq!(machine.memory_bytes, want.memory_mib << 20, "{context}");
            let disks: Vec<_> = machine
                .disks
                .iter()
                .map(|disk| (disk.bus, disk.controller, disk.unit, disk.virtual_size))
                .collect();
            assert_eq!(disks, want.disks, "{context}");
            let sizes: Vec<u64> = opened
                .disks
                .iter()
                .map(|disk| disk.virtual_size())
                .collect();
            assert_eq!(
                sizes,
                machine
                    .disks
                    .iter()
                    .map(|disk| disk.virtual_size)
                    .collect::<Vec<_>>(),
                "{context}"
            );
            assert!(
                opened.disks.iter().all(|disk| disk.format() == "vmdk"),
                "{context}"
            );
            let macs: Vec<_> = machine
                .nics
                .iter()
                .map(|nic| nic.mac.unwrap().to_string())
                .collect();
            assert_eq!(macs, want.macs, "{context}");
            assert_eq!(opened.warnings, Vec::<String>::new(), "{context}");
            assert_eq!(verify(opened), want.verified, "{context}");
        }
    }
}

#[test]
fn archives_of_virtualbox_are_read_in_place() {
    let Some(dir) = pack("vbox-made") else { return };
    for (name, disks, verified) in [
        ("lin-bios", 2, 2),
        ("winxp", 2, 2),
        ("winxp-20", 2, 0),
        ("win11-efi-20", 3, 0),
    ] {
        let opened = open_ova(dir.join(format!("export/{name}.ova"))).unwrap();
        assert_eq!(opened.disks.len(), disks, "{name}");
        for disk in &opened.disks {
            let mut sector = [0; 512];
            disk.read_at(&mut sector, disk.virtual_size() - 512)
                .unwrap();
        }
        assert_eq!(verify(opened), verified, "{name}");
    }
    let error = open_ova(dir.join("export/multi.ova")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`lin-bios`, `winxp`"), "{error}");
    for name in ["lin-bios", "winxp"] {
        let options = SourceOptions {
            vm: Some(name.to_owned()),
            ..SourceOptions::default()
        };
        let path = dir.join("export/multi.ova");
        let opened = open(&SourceKind::Ova(path), &options).unwrap();
        assert_eq!(
            (opened.machine.name.as_str(), opened.disks.len()),
            (name, 2)
        );
    }
}

/// All that the guest sees.
fn content(disk: &dyn image::BlockSource) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.virtual_size()).unwrap()];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn disks_of_exports_equal_their_raw_twins() {
    let Some(dir) = pack("vbox-made") else { return };
    let twins: Vec<Vec<u8>> = [
        "src4m.raw",
        "diff-sata0-merged.raw",
        "diff-sata1-merged.raw",
    ]
    .iter()
    .map(|name| std::fs::read(dir.join("img").join(name)).unwrap())
    .collect();
    for name in [
        "lin-bios.ova",
        "lin-bios-20.ova",
        "lin-bios-ovf09",
        "lin-bios-ovf10",
    ] {
        let opened = open_ova(dir.join("export").join(name)).unwrap();
        let equal = |disk: &std::sync::Arc<dyn image::BlockSource>| {
            let bytes = content(disk.as_ref());
            twins.iter().position(|twin| *twin == bytes)
        };
        let found: Vec<_> = opened.disks.iter().map(equal).collect();
        assert_eq!(found, [Some(0), Some(0)], "{name}");
    }
}

#[test]
fn bare_disks_are_opened_by_content() {
    let Some(dir) = pack("vbox-made") else { return };
    let paths = vec![
        dir.join("img/src4m-vbox-vmdk-stream.vmdk"),
        dir.join("img/src4m.raw"),
    ];
    let opened = open(&SourceKind::Disk(paths), &SourceOptions::default()).unwrap();
    assert_eq!(opened.machine.name, "src4m-vbox-vmdk-stream");
    assert_eq!(
        opened
            .disks
            .iter()
            .map(|disk| disk.format())
            .collect::<Vec<_>>(),
        ["vmdk", "raw"]
    );
    let read = |index: usize| {
        let mut bytes = vec![0; 4 << 20];
        opened.disks[index].read_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert!(read(0) == read(1), "the same content in two formats");
}

#[test]
fn a_capacity_that_differs_from_the_image_is_a_warning() {
    let Some(dir) = pack("vbox-made") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let from = dir.join("export/lin-bios-ovf10");
    for name in ["lin-bios-disk001.vmdk", "lin-bios-disk002.vmdk"] {
        std::fs::copy(from.join(name), scratch.path().join(name)).unwrap();
    }
    let text = std::fs::read_to_string(from.join("lin-bios.ovf")).unwrap();
    let changed = text.replacen("ovf:capacity=\"4194304\"", "ovf:capacity=\"8388608\"", 1);
    std::fs::write(scratch.path().join("lin-bios.ovf"), changed).unwrap();
    let opened = open_ova(scratch.path().to_owned()).unwrap();
    assert_eq!(opened.machine.disks[0].virtual_size, 4 << 20);
    let warnings = opened.warnings.join("\n");
    assert!(
        warnings.contains("8388608") && warnings.contains("4194304"),
        "{warnings}"
    );
}
