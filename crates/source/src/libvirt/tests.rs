//! Domains: their XML, and what a real virsh says of them.

use std::path::Path;

use image::formats::Format;
use types::{CpuTopology, DiskBus, Display, Firmware, Hypervisor, Listen, NicNetwork};
use uefi::device_path::{HardDrive, Signature};

use super::*;
use crate::{SourceKind, open as open_source};

const FULL: &str = r#"<domain type='kvm' id='3'>
  <name>dom1</name>
  <uuid>564D2BA1-7ac2-4c1e-8b8e-4f1ab10ca9d2</uuid>
  <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
  <metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
    <libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo></metadata>
  <memory unit='GiB'>2</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='2'>8</vcpu>
  <os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' secure='yes' type='pflash'>/x</loader>
    <nvram template='/t'>/x_VARS.fd</nvram></os>
  <features><acpi/><smm state='on'/><apic/><pae/><vmport state='off'/></features>
  <cpu mode='custom'><model>Penryn</model><vendor>Intel</vendor>
    <topology sockets='2' dies='2' cores='2' threads='1'/></cpu>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='b.img'/>
      <target dev='vdb' bus='virtio'/><serial>S1</serial></disk>
    <disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/null'/><target dev='sda' bus='scsi'/></disk>
    <disk type='file'><source file='a.img'/><target dev='vda'/><shareable/></disk>
    <disk type='network' device='disk'><driver type='raw'/><source protocol='nbd' name='a b'><host name='::1' port='10810'/></source>
      <target dev='sdc' bus='sata'/></disk>
    <disk type='network' device='disk'><source protocol='nbd'><host transport='unix' socket='/run/x y'/></source>
      <target dev='sdd' bus='usb'/></disk>
    <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='hda' bus='ide'/></disk>
    <disk type='file' device='cdrom'><target dev='sdc' bus='sata'/></disk>
    <disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <interface type='network'><mac address='52:54:00:AA:bb:01'/><source network='lan'/><model type='virtio'/></interface>
    <interface type='bridge'><mac address='52:54:00:aa:bb:02'/><source bridge='br0'/></interface>
    <interface type='user'><mac address='52:54:00:aa:bb:03'/></interface>
    <interface type='direct'><mac address='52:54:00:aa:bb:04'/><source dev='eth0' mode='bridge'/></interface>
    <graphics type='spice' keymap='en-us' passwd='x'><listen type='address' address='127.0.0.1'/></graphics>
    <sound model='ich9'/>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>"#;

#[test]
fn everything_that_a_domain_states_is_understood() {
    let Domain {
        machine,
        disks,
        nvram,
        warnings,
    } = domain::parse(FULL).unwrap();
    assert_eq!(nvram.as_deref(), Some(Path::new("/x_VARS.fd")));
    assert_eq!(
        (machine.name.as_str(), machine.hypervisor),
        ("dom1", Hypervisor::Kvm)
    );
    assert_eq!((machine.memory_bytes, machine.vcpus), (2 << 30, 8));
    assert_eq!(machine.details.vcpus_at_start, Some(2));
    let topology = CpuTopology {
        sockets: 2,
        cores: 4,
        threads: 1,
    };
    assert_eq!(machine.topology, Some(topology));
    assert_eq!(machine.cpu.features, ["acpi", "apic", "pae", "smm"]);
    assert_eq!(machine.cpu.model.as_deref(), Some("Penryn"));
    assert_eq!(machine.firmware, Some(Firmware::Uefi));
    assert!(machine.secure_boot && machine.tpm && machine.sound);
    assert_eq!(
        machine.os_hint.as_deref(),
        Some("http://debian.org/debian/12")
    );
    assert_eq!(machine.display, Some(Display::Spice));
    assert_eq!(
        machine.details.listen,
        Some(Listen::Address("127.0.0.1".to_owned()))
    );
    assert_eq!(
        machine.uuid.as_deref(),
        Some("564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2")
    );

    let found: Vec<_> = disks
        .iter()
        .map(|disk| {
            (
                disk.target.as_str(),
                disk.disk.bus,
                disk.format,
                disk.place.clone(),
            )
        })
        .collect();
    let path = |path: &str| Place::Path(path.into());
    let nbd = |uri: &str| Place::Nbd(uri.to_owned());
    let volume = Place::Volume {
        pool: "p".to_owned(),
        volume: "v".to_owned(),
    };
    let raw = Some(Format::Raw);
    let want = [
        ("vda", DiskBus::VirtioBlk, None, path("a.img")),
        ("sda", DiskBus::VirtioScsi, raw, path("/dev/null")),
        (
            "vdb",
            DiskBus::VirtioBlk,
            Some(Format::Qcow2),
            path("b.img"),
        ),
        ("sdc", DiskBus::Sata, raw, nbd("nbd://[::1]:10810/a%20b")),
        (
            "sdd",
            DiskBus::Unknown,
            None,
            nbd("nbd+unix:///?socket=/run/x%20y"),
        ),
        ("hda", DiskBus::Ide, None, volume),
    ];
    assert_eq!(found, want);
    assert_eq!(disks[2].disk.serial.as_deref(), Some("S1"));
    let networks: Vec<_> = machine.nics.iter().map(|nic| nic.network.clone()).collect();
    let network = |name: &str| NicNetwork::Network(name.to_owned());
    let bridge = NicNetwork::Bridge("br0".to_owned());
    assert_eq!(
        networks,
        [
            network("lan"),
            bridge,
            network("default"),
            network("default")
        ]
    );
    assert_eq!(machine.nics[3].source_network, "eth0");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

fn with_disk(disk: &str) -> String {
    format!(
        "<domain type='kvm'><name>d</name><memory>1024</memory><devices>{disk}</devices></domain>"
    )
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let source = "<source file='/x'/><target dev='vda'/>";
    for (text, word) in [
        ("<!DOCTYPE d><domain/>".to_owned(), "DTD"),
        ("<network/>".to_owned(), "found `network`"),
        ("<domain".to_owned(), "well-formed"),
        ("<domain><name>x</name></domain>".to_owned(), "devices"),
        (with_disk(""), "hard disk"),
        (with_disk("<disk type='file'/>"), "source"),
        (
            with_disk("<disk type='vhostuser'><source/></disk>"),
            "`vhostuser`",
        ),
        (
            with_disk("<disk type='network'><source protocol='rbd'/></disk>"),
            "`rbd`",
        ),
        (
            with_disk(&format!("<disk><driver type='bochs'/>{source}</disk>")),
            "`bochs`",
        ),
        (
            with_disk(&format!("<disk>{source}<encryption/></disk>")),
            "encrypted",
        ),
        (
            with_disk("<disk type='network'><source protocol='nbd' tls='yes'/></disk>"),
            "TLS",
        ),
    ] {
        let error = parse_domain_xml(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let bad_memory = with_disk(&format!("<disk>{source}</disk>"))
        .replace("<memory>1024", "<memory unit='parsec'>1024");
    assert!(parse_domain_xml(&bad_memory).is_err());
}

#[test]
fn connections_to_other_hypervisors_are_refused_with_the_way_that_works() {
    for (uri, word) in [
        ("esx://root@h/?no_verify=1", "-it ssh"),
        ("vpx://h/DC/esxi", "ssh"),
        ("xen+ssh://root@h/", "libvirtxml"),
        ("hyperv://h/", "-i hyperv"),
    ] {
        let error = prepare(Some(uri), "d", &SourceOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(word), "{uri}: {error}");
    }
    for uri in ["qemu:///system", "test:///default", "qemu:///session?x=1"] {
        assert_eq!(check_uri(uri).unwrap(), None, "{uri}");
    }
    assert!(check_uri("qemu+ssh://root@h/system").unwrap().is_some());
}

/// The XML of a domain with one raw disk of a MiB, and the file of its description.
fn domain_file(dir: &Path, extra: &str) -> std::path::PathBuf {
    let disk = dir.join("d.img");
    std::fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let xml = format!(
        "<domain type='test'{extra}<name>web</name><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/><target dev='vda' bus='virtio'/>\
         </disk></devices></domain>",
        disk.display()
    );
    let path = dir.join("web.xml");
    std::fs::write(&path, xml).unwrap();
    path
}

#[test]
fn the_disks_of_a_file_are_opened_as_their_driver_says() {
    let dir = tempfile::tempdir().unwrap();
    let kind = SourceKind::LibvirtXml(domain_file(dir.path(), ">"));
    let opened = open_source(&kind, &SourceOptions::default()).unwrap();
    assert_eq!(opened.machine.disks[0].virtual_size, 1 << 20);
    std::fs::remove_file(dir.path().join("d.img")).unwrap();
    let error = open_source(&kind, &SourceOptions::default()).unwrap_err();
    assert!(error.to_string().contains("d.img"), "{error}");
}

#[test]
fn the_boot_menu_comes_out_of_the_firmwares_variables() {
    let dir = tempfile::tempdir().unwrap();
    let flash = dir.path().join("web_VARS.fd");
    let xml = format!(
        "> <os firmware='efi'><nvram template='/t'>{}</nvram></os>",
        flash.display()
    );
    let kind = SourceKind::LibvirtXml(domain_file(dir.path(), &xml));
    let menu_and_warnings = || {
        let opened = open_source(&kind, &SourceOptions::default()).unwrap();
        (opened.machine.details.boot_options, opened.warnings)
    };
    assert_eq!(menu_and_warnings(), (vec![], vec![]), "never started");
    let drive = HardDrive {
        number: 1,
        start_blocks: 2048,
        size_blocks: 2048,
        signature: Signature::Mbr(7),
    };
    let entry = uefi::LoadOption::new("debian", &drive, r"\x.efi", Vec::new()).unwrap();
    let mut store = uefi::Store::empty(uefi::Layout::Ovmf4M);
    uefi::menu::add(&mut store, &[entry.to_bytes()]).unwrap();
    std::fs::write(&flash, store.bytes()).unwrap();
    assert_eq!(menu_and_warnings(), (vec![entry.to_bytes()], vec![]));
    std::fs::write(&flash, b"QFI\xfb").unwrap();
    let (menu, warnings) = menu_and_warnings();
    assert!(menu.is_empty());
    assert!(
        warnings.len() == 1 && warnings[0].contains("web_VARS.fd: at 0x28"),
        "{warnings:?}"
    );
}

/// libvirt's own test driver needs no daemon; `runstate` 5 is shut off (libvirt, "Test driver").
#[test]
fn a_domain_that_is_shut_off_is_read_through_virsh_and_a_running_one_refused() {
    if !testkit::require_tool("virsh") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = " xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><test:runstate>STATE</test:runstate>";
    for (number, is_off) in [("5", true), ("1", false)] {
        domain_file(dir.path(), &state.replace("STATE", number));
        let node = dir.path().join("node.xml");
        std::fs::write(&node, "<node><domain file='web.xml'/></node>").unwrap();
        let kind = SourceKind::Libvirt {
            uri: Some(format!("test://{}", node.display())),
            domain: "web".to_owned(),
        };
        match open_source(&kind, &SourceOptions::default()) {
            Ok(opened) => {
                assert!(is_off);
                assert_eq!(opened.machine.name, "web");
                assert_eq!(opened.disks[0].virtual_size(), 1 << 20);
            }
            Err(error) => {
                assert!(!is_off, "{error}");
                assert!(error.to_string().contains("`running`"), "{error}");
            }
        }
        let absent = SourceKind::Libvirt {
            uri: Some(format!("test://{}", node.display())),
            domain: "--none".to_owned(),
        };
        let error = open_source(&absent, &SourceOptions::default()).unwrap_err();
        assert!(error.to_string().contains("--none"), "{error}");
    }
}

/// Thousands of damaged documents: an answer or a refusal, at once.
#[test]
fn damaged_xml_is_survived() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut answered = 0;
    for _ in 0..4000 {
        let mut bytes = FULL.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = b"<>'/a9&"[random(7)],
                1 => bytes[at] = b'0' + u8::try_from(random(10)).unwrap(),
                _ => bytes[at] = b'z',
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        answered += usize::from(parse_domain_xml(&text).is_ok());
    }
    assert!(answered > 300, "only {answered} were understood");
}
