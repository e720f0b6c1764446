//! Machines for tests.

use std::path::PathBuf;

use image::Preallocation;
use image::formats::OutputFormat;
use types::{
    Arch, BlockBus, CpuTopology, Disk, DiskBus, Display, Firmware, GuestCaps, GuestInfo,
    Hypervisor, MacAddr, Machine, MachineType, NetBus, Nic, NicModel, NicNetwork, OsType,
    Removable, RemovableKind, SectorSizes, Smbios,
};

use crate::DomainType;
use crate::domain::DomainSpec;

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) caps: GuestCaps,
    pub(crate) guest: Option<GuestInfo>,
    pub(crate) domain_type: DomainType,
}

impl Sample {
    pub(crate) fn spec(&self) -> DomainSpec<'_> {
        let letters = (0u32..).map(types::disk_letters);
        let path = |l: String| PathBuf::from(format!("/srv/guests/{}-sd{l}", self.name));
        DomainSpec {
            name: &self.name,
            machine: &self.machine,
            caps: &self.caps,
            guest: self.guest.as_ref(),
            disks: letters.take(self.machine.disks.len()).map(path).collect(),
            format: OutputFormat::Qcow2,
            preallocation: Preallocation::Sparse,
            domain_type: self.domain_type,
            keep_uuid: false,
            keep_smbios: false,
            tpm_emulator: true,
            nvram: None,
        }
    }
}

fn disk(unit: u32, virtual_size: u64) -> Disk {
    Disk {
        label: format!("disk{unit}.vmdk"),
        bus: DiskBus::Scsi,
        controller: 0,
        unit,
        virtual_size,
        serial: None,
    }
}

fn nic(last: u8, network: NicNetwork) -> Nic {
    Nic {
        mac: Some(MacAddr([0x00, 0x50, 0x56, 0xab, 0xcd, last])),
        model: Some(NicModel::Vmxnet3),
        network,
        source_network: "VM Network".to_owned(),
        guest_name: None,
    }
}

fn cdrom() -> Removable {
    Removable {
        kind: RemovableKind::Cdrom,
        bus: DiskBus::Ide,
        slot: Some(0),
    }
}

fn debian() -> GuestInfo {
    GuestInfo {
        windows: None,
        root: "/dev/sda1".into(),
        os: OsType::Linux,
        distro: "debian".into(),
        distro_like: vec![],
        version: "12".into(),
        product_name: "Debian GNU/Linux 12 (bookworm)".into(),
        hostname: Some("sample".into()),
        arch: Arch::X86_64,
        osinfo_id: Some("http://debian.org/debian/12".into()),
        mountpoints: vec![],
        kernels: vec![],
        boot_loaders: vec![],
        init: "systemd".into(),
        initramfs_generator: "initramfs-tools".into(),
        package_format: "dpkg".into(),
        hypervisor_tools: vec![],
        has_guest_agent: true,
        selinux: false,
        concerns: vec![],
        network: Default::default(),
    }
}

/// A Debian guest from VMware, as the end-to-end tests convert it.
pub(crate) fn bios() -> Sample {
    Sample {
        name: "debian12".into(),
        machine: Machine {
            memory_bytes: 1 << 30,
            vcpus: 2,
            firmware: Some(Firmware::Bios),
            uuid: Some("564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2".into()),
            os_hint: Some("debian12_64Guest".into()),
            disks: vec![disk(0, 6 << 30)],
            removables: vec![cdrom()],
            nics: vec![nic(0xef, NicNetwork::Network("default".into()))],
            ..Machine::bare("debian12", Hypervisor::Vmware)
        },
        caps: GuestCaps {
            block_bus: BlockBus::VirtioBlk,
            net_bus: NetBus::Virtio,
            virtio_rng: true,
            virtio_balloon: true,
            virtio_serial: true,
            pvpanic: true,
            machine: MachineType::Q35,
            arch: Arch::X86_64,
            rtc_utc: true,
            boot_disk: Some(0),
            firmware: Some(Firmware::Bios),
        },
        guest: Some(debian()),
        domain_type: DomainType::Kvm,
    }
}

/// UEFI with Secure Boot and a TPM.
pub(crate) fn uefi() -> Sample {
    let mut sample = bios();
    sample.machine.firmware = Some(Firmware::Uefi);
    sample.machine.secure_boot = true;
    sample.machine.tpm = true;
    sample.machine.topology = Some(CpuTopology {
        sockets: 1,
        cores: 2,
        threads: 1,
    });
    sample.caps.firmware = Some(Firmware::Uefi);
    sample
}

/// Several disks of which the second boots, several NICs, emulated.
pub(crate) fn many() -> Sample {
    let mut sample = bios();
    sample.name = "web & <db>".into();
    sample.machine.disks = (0..3).map(|unit| disk(unit, 1 << 30)).collect();
    sample.machine.disks[1].serial = Some("WD-WCC4N0123456".into());
    sample.machine.disks[2].serial = Some("has spaces, and is far too long".into());
    sample
        .machine
        .nics
        .push(nic(0xf0, NicNetwork::Bridge("br0".into())));
    sample.machine.nics.push(Nic {
        mac: None,
        ..nic(0, NicNetwork::Network("lan \"2\"".into()))
    });
    sample.machine.removables.push(Removable {
        kind: RemovableKind::Floppy,
        bus: DiskBus::Unknown,
        slot: None,
    });
    sample.machine.display = Some(Display::Spice);
    sample.machine.sound = true;
    sample.caps.block_bus = BlockBus::VirtioScsi;
    sample.caps.boot_disk = Some(1);
    sample.domain_type = DomainType::Qemu;
    sample
}

/// Windows without virtio drivers.
pub(crate) fn windows() -> Sample {
    let mut sample = bios();
    sample.name = "win10".into();
    sample.machine.vcpus = 4;
    sample.machine.topology = Some(CpuTopology {
        sockets: 3,
        cores: 1,
        threads: 1,
    });
    sample.caps = GuestCaps {
        block_bus: BlockBus::Sata,
        net_bus: NetBus::E1000e,
        virtio_rng: false,
        virtio_balloon: false,
        virtio_serial: false,
        pvpanic: false,
        rtc_utc: false,
        ..sample.caps
    };
    let guest = GuestInfo {
        os: OsType::Windows,
        distro: "windows".into(),
        osinfo_id: Some("http://microsoft.com/win/10".into()),
        ..debian()
    };
    sample.guest = Some(guest);
    sample
}

/// Windows 11 with all drivers, from a machine without a TPM.
pub(crate) fn windows_11() -> Sample {
    let mut sample = uefi();
    sample.name = "win11".into();
    sample.machine.tpm = false;
    sample.caps.rtc_utc = false;
    sample.guest = Some(GuestInfo {
        os: OsType::Windows,
        distro: "windows".into(),
        osinfo_id: Some("http://microsoft.com/win/11".into()),
        windows: Some(types::WindowsInfo {
            major: 10,
            build: 26100,
            product_type: "WinNT".into(),
            ..types::WindowsInfo::default()
        }),
        ..debian()
    });
    sample
}

/// A guest from before virtio.
pub(crate) fn old() -> Sample {
    let mut sample = windows();
    sample.name = "old".into();
    sample.guest = None;
    sample.machine.memory_bytes = (256 << 20) + 1;
    sample.machine.vcpus = 1;
    sample.machine.topology = None;
    sample.machine.sound = true;
    sample.machine.removables.push(Removable {
        kind: RemovableKind::Floppy,
        bus: DiskBus::Unknown,
        slot: None,
    });
    sample.caps.block_bus = BlockBus::Ide;
    sample.caps.net_bus = NetBus::Rtl8139;
    sample.caps.machine = MachineType::I440fx;
    sample.caps.arch = Arch::I686;
    sample.caps.firmware = None;
    sample.machine.firmware = None;
    sample
}

/// A server with 4Kn disks, sent by the agent.
pub(crate) fn physical() -> Sample {
    let mut sample = uefi();
    sample.name = "r740".into();
    sample.machine.hypervisor = Hypervisor::Physical;
    sample.machine.secure_boot = false;
    sample.machine.disks = (0..2).map(|unit| disk(unit, 1 << 30)).collect();
    sample.machine.cpu.model = Some("Skylake-Server".into());
    sample.machine.cpu.vendor = Some("Intel".into());
    sample.machine.cpu.features = vec!["acpi".into(), "apic".into()];
    sample.machine.details.clock = Some(types::Clock {
        utc: Some(false),
        offset_seconds: -3600,
    });
    sample.machine.details.sector_sizes = vec![
        SectorSizes {
            logical: 4096,
            physical: 4096,
        },
        SectorSizes {
            logical: 512,
            physical: 4096,
        },
    ];
    sample.machine.details.smbios = Some(Smbios {
        bios_vendor: "Dell Inc.".into(),
        bios_version: "2.19.1".into(),
        manufacturer: "Dell Inc.".into(),
        product: "PowerEdge R740, <rev \"2\">".into(),
        serial: "7XK2L93".into(),
        sku: "SKU=NotProvided;ModelName=PowerEdge R740".into(),
        board_manufacturer: "Dell Inc.".into(),
        board_product: "0WGD1O".into(),
        board_serial: ".7XK2L93.CNFCP0099P00XX.".into(),
        chassis_asset: "has a \u{1b} in it".into(),
        ..Smbios::default()
    });
    sample
}

/// All of them.
pub(crate) fn all() -> Vec<(&'static str, Sample)> {
    let mut emulated = uefi();
    emulated.name = "uefi-emulated".into();
    emulated.machine.secure_boot = false;
    emulated.machine.tpm = false;
    emulated.domain_type = DomainType::Qemu;
    vec![
        ("bios", bios()),
        ("uefi-secure-boot", uefi()),
        ("uefi-emulated", emulated),
        ("many-disks-and-nics", many()),
        ("windows-sata-e1000e", windows()),
        ("windows-11", windows_11()),
        ("old-i440fx", old()),
    ]
}
