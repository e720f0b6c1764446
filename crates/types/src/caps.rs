//! What a conversion is asked for and what it gives back.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Arch, Change, Customise, Firmware, MacAddr, Nic, Space, StepReport};

/// What the host tells the guest converter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConvertOptions {
    /// NICs in order, every one with its MAC.
    pub nics: Vec<Nic>,
    /// `--mac MAC:ip:…`: addresses to configure in the guest.
    pub static_ips: Vec<StaticIp>,
    /// Firmware that the source machine had, as far as known.
    pub firmware: Option<Firmware>,
    /// `--block-driver`: the bus that the disks get if the guest can drive it; virtio-blk when not given.
    pub block_driver: Option<BlockBus>,
    /// What is to be changed besides, in order.
    pub customise: Vec<Customise>,
    /// `--qemu-ga FILE`: a package of the guest agent, as a member of the payload.
    pub qemu_ga: Option<String>,
    /// `--allow-guest-code`: programs of the guest may be run in the appliance, without a network.
    pub allow_guest_code: bool,
    /// `--force-hibernated`: a sleeping Windows is converted all the same; what it had in memory is lost.
    #[serde(default)]
    pub force_hibernated: bool,
}

/// `--mac aa:bb:cc:dd:ee:ff:ip:ADDR,GATEWAY,PREFIX,NS1,…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticIp {
    /// Which adapter.
    pub mac: MacAddr,
    /// Its address.
    pub address: IpAddr,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// Length of the network prefix in bits.
    pub prefix_len: Option<u8>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
}

/// What the converted guest can drive; the target's metadata follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCaps {
    /// Bus for its disks.
    pub block_bus: BlockBus,
    /// Model of its NICs.
    pub net_bus: NetBus,
    /// It has a virtio-rng driver.
    pub virtio_rng: bool,
    /// It has a virtio balloon driver.
    pub virtio_balloon: bool,
    /// It has a virtio-serial driver (guest agent channel).
    pub virtio_serial: bool,
    /// It has a pvpanic driver.
    pub pvpanic: bool,
    /// Chipset that suits it.
    pub machine: MachineType,
    /// Architecture.
    pub arch: Arch,
    /// Its clock runs in UTC.
    pub rtc_utc: bool,
    /// It boots from this disk (index), when that is known.
    pub boot_disk: Option<u32>,
    /// It boots by UEFI (an ESP with a loader was found and prepared), by BIOS, or unknown.
    pub firmware: Option<crate::Firmware>,
}

/// Disk bus of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockBus {
    /// virtio-blk.
    VirtioBlk,
    /// virtio-scsi.
    VirtioScsi,
    /// AHCI.
    Sata,
    /// IDE.
    Ide,
}

/// NIC model of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetBus {
    /// virtio-net.
    Virtio,
    /// Intel 82574.
    E1000e,
    /// Intel 82540.
    E1000,
    /// Realtek 8139.
    Rtl8139,
}

/// Chipset of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineType {
    /// PCI, IDE: for old guests.
    I440fx,
    /// PCI Express.
    Q35,
    /// `virt`, for architectures other than x86.
    Virt,
}

/// What conversion of one guest gives back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvertOutcome {
    /// What the guest can drive now.
    pub caps: GuestCaps,
    /// Every changed file, in order.
    pub changes: Vec<Change>,
    /// What the administrator should know.
    pub warnings: Vec<String>,
    /// What became of each step, in order.
    pub steps: Vec<StepReport>,
    /// Entries for the boot menu of the new machine's UEFI firmware, the default one first.
    pub boot_entries: Vec<BootEntry>,
    /// Room that it took on `/`, `/boot` and wherever else it took any.
    #[serde(default)]
    pub space: Vec<Space>,
}

/// An entry of UEFI's boot menu (`Boot####`, UEFI 2.10 section 3.1.3) that starts a program on a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEntry {
    /// What the menu shows.
    pub description: String,
    /// Index of the disk.
    pub disk: u32,
    /// Number of the ESP in its partition table, from 1.
    pub partition: u32,
    /// Path of the program on the ESP, with backslashes.
    pub path: String,
    /// What the program gets as its load options, in UTF-16: the arguments of a kernel that the firmware starts itself.
    #[serde(default)]
    pub arguments: Option<String>,
}
