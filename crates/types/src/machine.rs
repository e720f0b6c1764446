//! A machine as its source describes it: what virt-v2v calls source metadata.

use serde::{Deserialize, Serialize};

use crate::MacAddr;

/// The whole machine. Field names follow virt-v2v's `types.mli` where it has the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the machine at its source.
    pub name: String,
    /// What ran it.
    pub hypervisor: Hypervisor,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Number of virtual CPUs, at least 1.
    pub vcpus: u32,
    /// Sockets, cores and threads where the source states them; the product is `vcpus`.
    pub topology: Option<CpuTopology>,
    /// CPU vendor, model and features, where the source states them.
    #[serde(default)]
    pub cpu: CpuModel,
    /// Generation id, lower case with dashes: a guest that sees it change knows that it was cloned or rolled back.
    #[serde(default)]
    pub genid: Option<String>,
    /// Firmware, where the source states it.
    pub firmware: Option<Firmware>,
    /// UEFI Secure Boot was switched on.
    pub secure_boot: bool,
    /// A virtual TPM was present.
    pub tpm: bool,
    /// SMBIOS UUID, lower case with dashes.
    pub uuid: Option<String>,
    /// Guest operating system as the source names it, e.g. `debian12_64Guest` (`vmw:osType`) or the CIM number.
    pub os_hint: Option<String>,
    /// Hard disks in the order in which the machine's firmware numbers them: disk 0 is `sda`.
    pub disks: Vec<Disk>,
    /// CD-ROM and floppy drives.
    pub removables: Vec<Removable>,
    /// Network adapters in order.
    pub nics: Vec<Nic>,
    /// Graphics, where the source states it.
    pub display: Option<Display>,
    /// A sound card was present.
    pub sound: bool,
    /// What only some sources state.
    #[serde(default)]
    pub details: Details,
}

impl Machine {
    /// Memory where nobody says how much, in bytes: 2 GiB, as virt-v2v's `-i disk` has it.
    pub const DEFAULT_MEMORY_BYTES: u64 = 2048 << 20;

    /// One of which nothing else is known: one processor, no devices.
    pub fn bare(name: impl Into<String>, hypervisor: Hypervisor) -> Self {
        Self {
            name: name.into(),
            hypervisor,
            memory_bytes: Self::DEFAULT_MEMORY_BYTES,
            vcpus: 1,
            topology: None,
            cpu: CpuModel::default(),
            genid: None,
            firmware: None,
            secure_boot: false,
            tpm: false,
            uuid: None,
            os_hint: None,
            disks: Vec::new(),
            removables: Vec::new(),
            nics: Vec::new(),
            display: None,
            sound: false,
            details: Details::default(),
        }
    }
}

/// Facts of the source machine that few sources state and no conversion depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Model of the sound card in libvirt's words, e.g. `ich9`.
    pub sound_model: Option<String>,
    /// Keyboard layout of the graphics, e.g. `en-us`.
    pub keymap: Option<String>,
    /// The graphics asked for a password; the password itself is not kept.
    pub display_password: bool,
    /// Where the graphics listened.
    pub listen: Option<Listen>,
    /// Virtual CPUs that were plugged in when the machine started, where they were fewer than `vcpus`.
    pub vcpus_at_start: Option<u32>,
    /// SMBIOS strings (P2V), for guests that are licensed by them.
    pub smbios: Option<Smbios>,
    /// What the hardware clock is to hold, where somebody said so; else what the guest is configured for.
    pub clock: Option<Clock>,
    /// Sector sizes of the disks, in the order of `Machine::disks`; 512 bytes where it is shorter.
    pub sector_sizes: Vec<SectorSizes>,
    /// Number of NUMA nodes with processors, where known.
    pub numa_nodes: Option<u32>,
    /// The firmware's boot menu: its active entries in the order of BootOrder, each an EFI_LOAD_OPTION (UEFI 2.10,
    /// section 3.1.3); in hexadecimal where it is written down.
    #[serde(with = "crate::hex", skip_serializing_if = "Vec::is_empty")]
    pub boot_options: Vec<Vec<u8>>,
}

/// SMBIOS strings of types 0 to 3 (DMTF DSP0134); empty where the machine has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Smbios {
    /// Vendor of the firmware.
    pub bios_vendor: String,
    /// Version of the firmware.
    pub bios_version: String,
    /// Vendor of the machine.
    pub manufacturer: String,
    /// Its product name.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Its serial number.
    pub serial: String,
    /// Stock keeping unit.
    pub sku: String,
    /// Product family.
    pub family: String,
    /// Vendor of the base board.
    pub board_manufacturer: String,
    /// Product name of the base board.
    pub board_product: String,
    /// Serial number of the base board.
    pub board_serial: String,
    /// Serial number of the chassis.
    pub chassis_serial: String,
    /// Asset tag of the chassis.
    pub chassis_asset: String,
}

/// What a hardware clock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// UTC, or local time; `None`: as the guest is configured.
    pub utc: Option<bool>,
    /// Seconds to add to that.
    pub offset_seconds: i64,
}

/// Sector sizes of a disk in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorSizes {
    /// Unit of addressing.
    pub logical: u32,
    /// Unit in which the medium is written.
    pub physical: u32,
}

impl Default for SectorSizes {
    fn default() -> Self {
        Self {
            logical: 512,
            physical: 512,
        }
    }
}

/// Where the graphics of a libvirt domain listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "name")]
#[non_exhaustive]
pub enum Listen {
    /// On this address of the host.
    Address(String),
    /// On the address that the host has in this libvirt network.
    Network(String),
    /// On this unix socket; empty where libvirt chose its path.
    Socket(String),
    /// Nowhere: a local client is handed the connection.
    None,
}

/// Where the machine came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Hypervisor {
    /// VMware ESXi, Workstation, Fusion.
    Vmware,
    /// Oracle VirtualBox.
    VirtualBox,
    /// Microsoft Hyper-V.
    HyperV,
    /// Xen, XCP-ng, XenServer.
    Xen,
    /// KVM.
    Kvm,
    /// QEMU without hardware virtualisation.
    Qemu,
    /// A physical machine.
    Physical,
    /// Not stated.
    Unknown,
}

/// `sockets * cores * threads` virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTopology {
    /// Number of sockets.
    pub sockets: u32,
    /// Cores in each socket.
    pub cores: u32,
    /// Threads in each core.
    pub threads: u32,
}

/// What the source says of the CPU beyond its topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    /// Vendor in libvirt's words, e.g. `Intel`.
    pub vendor: Option<String>,
    /// Model in libvirt's words, e.g. `Penryn`.
    pub model: Option<String>,
    /// Features of the platform in libvirt's words: `acpi`, `apic`, `pae`.
    pub features: Vec<String>,
}

/// Platform firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// One hard disk of the source machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where its bytes come from, for people: a file name, an archive member, a URI.
    pub label: String,
    /// Bus that it hung on.
    pub bus: DiskBus,
    /// Number of the controller among those of its bus.
    pub controller: u32,
    /// Position on that controller (SCSI target, SATA port, IDE slot).
    pub unit: u32,
    /// Capacity that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Serial number, if the source states one.
    pub serial: Option<String>,
}

/// Bus of a source disk or drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DiskBus {
    /// SCSI of any kind (LSI, PVSCSI, BusLogic, Hyper-V).
    Scsi,
    /// SATA (AHCI).
    Sata,
    /// Parallel ATA.
    Ide,
    /// NVMe.
    Nvme,
    /// virtio-blk.
    VirtioBlk,
    /// virtio-scsi.
    VirtioScsi,
    /// Not stated.
    Unknown,
}

/// A drive with exchangeable media; it arrives empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removable {
    /// CD-ROM or floppy.
    pub kind: RemovableKind,
    /// Bus that it hung on.
    pub bus: DiskBus,
    /// Position on its bus, where known.
    pub slot: Option<u32>,
}

/// Kind of removable drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovableKind {
    /// CD-ROM or DVD.
    Cdrom,
    /// Floppy disk.
    Floppy,
}

/// One network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Hardware address. `None` only between reading the source and `convert` giving it one.
    pub mac: Option<MacAddr>,
    /// Adapter model at the source.
    pub model: Option<NicModel>,
    /// Network or bridge that it is to be connected to.
    pub network: NicNetwork,
    /// Name of the network at the source, before any mapping.
    pub source_network: String,
    /// Interface name inside the guest if it is known already (P2V).
    pub guest_name: Option<String>,
}

/// Model of a source adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NicModel {
    /// Intel 82545 (`E1000`).
    E1000,
    /// Intel 82574 (`E1000e`).
    E1000e,
    /// VMware vmxnet3.
    Vmxnet3,
    /// AMD PCnet (`PCNet32`).
    Pcnet,
    /// Realtek 8139.
    Rtl8139,
    /// virtio-net.
    Virtio,
    /// Any other, as written at the source.
    Other(String),
}

/// What a target NIC is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "name")]
pub enum NicNetwork {
    /// A libvirt network.
    Network(String),
    /// A host bridge.
    Bridge(String),
}

/// Graphics of the source machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Display {
    /// A window on the host's own screen.
    Window,
    /// VNC, or a VGA-like screen of an unnamed kind.
    Vnc,
    /// SPICE.
    Spice,
}
