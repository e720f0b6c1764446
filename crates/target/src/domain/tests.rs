//! Golden files of whole domains, and the schema of the libvirt that is installed.

use std::process::Command;

use super::*;
use crate::domain::samples;
use types::{Arch, BlockBus};

#[test]
fn domains_match_their_golden_files() {
    for (name, sample) in samples::all() {
        let built = build(&sample.spec()).unwrap();
        let notes: String = built
            .notes
            .iter()
            .map(|note| format!("<!-- note: {note} -->\n"))
            .collect();
        insta::assert_snapshot!(format!("domain-{name}"), format!("{}{notes}", built.xml));
    }
}

#[test]
fn every_domain_is_valid_by_libvirts_schema() {
    if !testkit::require_tool("virt-xml-validate") || !testkit::require_tool("xmllint") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut samples = samples::all();
    let mut arm = samples::bios();
    arm.caps.arch = Arch::Aarch64;
    arm.caps.block_bus = BlockBus::Sata;
    samples.push(("aarch64", arm));
    let mut identified = samples::bios();
    identified.machine.genid = Some("09512cc5-940a-8987-b950-f54f631015e8".to_owned());
    identified.machine.vcpus = 8;
    identified.machine.topology = None;
    identified.machine.details.vcpus_at_start = Some(2);
    samples.push(("genid", identified));
    samples.push(("physical", samples::physical()));
    let mut bios = samples::physical();
    bios.caps.firmware = Some(types::Firmware::Bios);
    samples.push(("physical-bios", bios));
    for (name, sample) in &samples {
        let spec = DomainSpec {
            nvram: Some(own_flash()),
            ..sample.spec()
        };
        is_valid(dir.path(), &format!("{name}-own-flash"), &spec);
    }
    for (name, sample) in samples {
        let spec = DomainSpec {
            keep_uuid: true,
            keep_smbios: true,
            ..sample.spec()
        };
        is_valid(dir.path(), name, &spec);
    }
    // The check itself can fail.
    let broken = dir.path().join("broken.xml");
    std::fs::write(
        &broken,
        "<domain type='kvm'><name>x</name><memori/></domain>",
    )
    .unwrap();
    assert!(
        !Command::new("virt-xml-validate")
            .arg(&broken)
            .arg("domain")
            .output()
            .unwrap()
            .status
            .success()
    );
}

fn is_valid(dir: &std::path::Path, name: &str, spec: &DomainSpec<'_>) {
    let file = dir.join(format!("{name}.xml"));
    std::fs::write(&file, build(spec).unwrap().xml).unwrap();
    let output = Command::new("virt-xml-validate")
        .arg(&file)
        .arg("domain")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Firmware and variables as a host has them.
fn own_flash() -> NvramPaths {
    NvramPaths {
        code: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into(),
        template: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd".into(),
        file: "/srv/guests/a & b_VARS.fd".into(),
    }
}

#[test]
fn a_domain_with_its_own_variables_names_firmware_and_file() {
    let of = |sample: &samples::Sample| {
        let spec = DomainSpec {
            nvram: Some(own_flash()),
            ..sample.spec()
        };
        build(&spec).unwrap().xml
    };
    insta::assert_snapshot!("domain-uefi-own-flash", of(&samples::uefi()));
    let plain = of(&samples::physical());
    assert!(
        plain.contains(r#"secure="no""#) && !plain.contains("smm"),
        "{plain}"
    );
    assert!(!of(&samples::bios()).contains("loader"));
}

#[test]
fn only_windows_11_gets_a_tpm_that_it_never_had_and_xp_no_enlightenments() {
    let tpm = |build: u32, product: &str, emulator: bool| {
        let mut sample = samples::windows_11();
        let windows = sample.guest.as_mut().unwrap().windows.as_mut().unwrap();
        windows.build = build;
        windows.product_type = product.to_owned();
        let spec = DomainSpec {
            tpm_emulator: emulator,
            ..sample.spec()
        };
        let built = build_of(&spec);
        (built.xml.contains("tpm-crb"), built.notes.len())
    };
    assert_eq!(tpm(22000, "WinNT", true), (true, 1));
    assert_eq!(tpm(22000, "WinNT", false), (false, 1));
    assert_eq!(tpm(19045, "WinNT", true), (false, 0));
    assert_eq!(tpm(26100, "ServerNT", true), (false, 0));
    let mut sample = samples::windows();
    sample.guest.as_mut().unwrap().windows = Some(types::WindowsInfo {
        major: 5,
        minor: 1,
        ..types::WindowsInfo::default()
    });
    let xml = build_of(&sample.spec()).xml;
    assert!(!xml.contains("hyperv"), "{xml}");
    sample.guest.as_mut().unwrap().windows = None;
    assert!(build_of(&sample.spec()).xml.contains("<ipi state=\"on\"/>"));
}

fn build_of(spec: &DomainSpec<'_>) -> BuiltDomain {
    build(spec).unwrap()
}

#[test]
fn the_uuid_is_left_out_unless_asked_for() {
    let sample = samples::bios();
    assert!(!build(&sample.spec()).unwrap().xml.contains("<uuid>"));
    let kept = DomainSpec {
        keep_uuid: true,
        ..sample.spec()
    };
    assert!(
        build(&kept)
            .unwrap()
            .xml
            .contains("<uuid>564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2</uuid>")
    );
}

#[test]
fn a_generation_id_and_unplugged_cpus_are_kept() {
    let mut sample = samples::bios();
    sample.machine.vcpus = 8;
    sample.machine.topology = None;
    sample.machine.details.vcpus_at_start = Some(2);
    sample.machine.genid = Some("09512cc5-940a-8987-b950-f54f631015e8".to_owned());
    let xml = build(&sample.spec()).unwrap().xml;
    assert!(
        xml.contains("<genid>09512cc5-940a-8987-b950-f54f631015e8</genid>"),
        "{xml}"
    );
    assert!(xml.contains("<vcpu current=\"2\">8</vcpu>"), "{xml}");
    sample.machine.genid = Some("no id".to_owned());
    sample.machine.details.vcpus_at_start = Some(9);
    let xml = build(&sample.spec()).unwrap().xml;
    assert!(
        !xml.contains("genid") && xml.contains("<vcpu>8</vcpu>"),
        "{xml}"
    );
}

#[test]
fn what_the_guest_boots_by_wins_over_what_the_source_says() {
    let mut sample = samples::bios();
    sample.caps.firmware = Some(types::Firmware::Uefi);
    let built = build(&sample.spec()).unwrap();
    assert!(
        built.xml.contains("firmware=\"efi\"")
            && built.notes.iter().any(|note| note.contains("UEFI"))
    );
    sample.caps.firmware = None;
    assert!(!build(&sample.spec()).unwrap().xml.contains("efi"));
}

#[test]
fn a_preallocated_disk_keeps_its_blocks() {
    let sample = samples::bios();
    let spec = DomainSpec {
        preallocation: Preallocation::Falloc,
        ..sample.spec()
    };
    assert!(!build(&spec).unwrap().xml.contains("discard"));
    assert!(
        build(&sample.spec())
            .unwrap()
            .xml
            .contains("discard=\"unmap\"")
    );
}

#[test]
fn a_disk_without_a_path_is_refused() {
    let sample = samples::bios();
    let spec = DomainSpec {
        disks: vec![],
        ..sample.spec()
    };
    assert!(
        build(&spec)
            .unwrap_err()
            .to_string()
            .contains("expected 1 disk paths, found 0")
    );
}

#[test]
fn a_network_name_with_a_control_character_is_refused() {
    let mut sample = samples::bios();
    sample.machine.nics[0].network = types::NicNetwork::Network("lan\u{7}".into());
    assert_eq!(
        build(&sample.spec()).unwrap_err().kind(),
        crate::ErrorKind::Usage
    );
}

#[test]
fn a_physical_machine_keeps_its_strings_sectors_and_clock_when_asked_to() {
    let sample = samples::physical();
    let spec = DomainSpec {
        keep_smbios: true,
        ..sample.spec()
    };
    insta::assert_snapshot!("domain-physical-smbios", build(&spec).unwrap().xml);
    let xml = build(&sample.spec()).unwrap().xml;
    assert!(!xml.contains("Dell") && !xml.contains("<uuid>"), "{xml}");
}

#[test]
fn firmware_strings_are_a_bios_matter() {
    let mut sample = samples::physical();
    let kept = |sample: &samples::Sample| {
        let spec = DomainSpec {
            keep_smbios: true,
            ..sample.spec()
        };
        build(&spec).unwrap()
    };
    assert!(!kept(&sample).xml.contains("<bios>"));
    sample.caps.firmware = Some(types::Firmware::Bios);
    assert!(kept(&sample).xml.contains("2.19.1"));
    sample.machine.details.smbios = None;
    let built = kept(&sample);
    assert!(
        !built.xml.contains("smbios") && built.notes.iter().any(|note| note.contains("SMBIOS")),
        "{built:?}"
    );
}

#[test]
fn sata_shows_no_large_sectors_and_says_so() {
    let mut sample = samples::physical();
    sample.caps.block_bus = BlockBus::Sata;
    let built = build(&sample.spec()).unwrap();
    assert!(
        !built.xml.contains("logical_block_size=\"4096\"")
            && built.notes.iter().any(|note| note.contains("4096 bytes")),
        "{built:?}"
    );
    // Nonsense from elsewhere reaches no domain.
    sample.caps.block_bus = BlockBus::VirtioBlk;
    sample.machine.details.sector_sizes[0].logical = 1000;
    sample.machine.details.sector_sizes[1].physical = 1 << 20;
    assert!(!build(&sample.spec()).unwrap().xml.contains("blockio"));
}
