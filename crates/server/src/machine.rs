//! An agent's inventory and wish as the machine that is converted. Both come from the network: places that are not
//! there are left out, text is cut, numbers are capped.

use types::{
    Clock, CpuModel, CpuTopology, Details, Disk, DiskBus, Firmware, Hypervisor, MacAddr, Machine,
    Nic, NicModel, NicNetwork, Removable, RemovableKind, SectorSizes, Smbios,
};
use wire::inventory::{self, Bus, Dmi, Inventory};
use wire::session::Wish;

/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u32 = 8192;
/// Memory of a machine that could not say how much it has, as for a libvirt domain that states none.
const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;
/// More memory than any machine has: what is above it is a lie, and no number for a domain.
const MAX_MEMORY_BYTES: u64 = 1 << 50;
/// Network of an adapter for which none was wished: the one that libvirt installs.
const DEFAULT_NETWORK: &str = "default";
/// Characters of a text that is carried on. SMBIOS and VPD strings are shorter.
const MAX_TEXT: usize = 128;
/// Sector sizes that QEMU's disks can have, in bytes.
const SECTOR_SIZES: std::ops::RangeInclusive<u32> = 512..=32768;

/// Entries of a boot menu that are carried on, and the bytes of one: more than any machine has.
const MAX_OPTIONS: usize = 64;
const MAX_OPTION: usize = 8 << 10;

/// The machine as the stages and the target see it, with the disks of the wish in its order.
pub fn machine(inventory: &Inventory, wish: &Wish) -> Machine {
    let dmi = inventory.dmi.clone().unwrap_or_default();
    let firmware = inventory.firmware.clone().unwrap_or_default();
    let vcpus = vcpus(inventory, wish);
    let disks: Vec<&inventory::Disk> = pick(&inventory.disks, &chosen_disks(inventory, wish));
    let removables = all_or(&wish.removables, inventory.removables.len());
    let nics = all_or(&wish.interfaces, inventory.nics.len());
    Machine {
        name: name(&dmi, wish),
        hypervisor: Hypervisor::Physical,
        memory_bytes: [wish.memory_bytes, inventory.memory_bytes]
            .into_iter()
            .find(|bytes| (1..=MAX_MEMORY_BYTES).contains(bytes))
            .unwrap_or(DEFAULT_MEMORY_BYTES),
        vcpus,
        topology: topology(inventory, vcpus).filter(|_| wish.physical_topology),
        cpu: cpu(wish),
        genid: None,
        firmware: Some(match firmware.uefi {
            true => Firmware::Uefi,
            false => Firmware::Bios,
        }),
        secure_boot: firmware.uefi && firmware.secure_boot == Some(true),
        tpm: !inventory.tpm_version.is_empty(),
        uuid: uuid(&dmi.product_uuid),
        os_hint: inventory
            .os_guesses
            .first()
            .map(|guess| text(&guess.product_name)),
        disks: (0u32..)
            .zip(&disks)
            .map(|(unit, found)| disk(unit, found))
            .collect(),
        removables: pick(&inventory.removables, &removables)
            .into_iter()
            .map(removable)
            .collect(),
        nics: pick(&inventory.nics, &nics)
            .into_iter()
            .map(|found| nic(found, wish))
            .collect(),
        display: None,
        sound: inventory.sound,
        details: Details {
            smbios: Some(smbios(&dmi)).filter(|smbios| *smbios != Smbios::default()),
            clock: clock(wish),
            sector_sizes: disks.iter().map(|found| sector_sizes(found)).collect(),
            numa_nodes: Some(inventory.numa_nodes).filter(|&nodes| nodes > 0),
            boot_options: boot_options(&firmware),
            ..Details::default()
        },
    }
}

/// Places in the inventory of the disks that are sent, in the guest's order: the wish's, without those that are not
/// there or come twice; without a wish every disk that is not left out.
pub fn chosen_disks(inventory: &Inventory, wish: &Wish) -> Vec<u32> {
    if !wish.disks.is_empty() {
        return all_or(&wish.disks, inventory.disks.len());
    }
    (0u32..)
        .zip(&inventory.disks)
        .filter(|(_, disk)| disk.left_out.is_empty())
        .map(|(place, _)| place)
        .collect()
}

/// The wished places that exist, each once; all for an empty wish.
fn all_or(wish: &[u32], count: usize) -> Vec<u32> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if wish.is_empty() {
        return (0..count).collect();
    }
    let mut kept = std::collections::BTreeSet::new();
    wish.iter()
        .copied()
        .filter(|&place| place < count && kept.insert(place))
        .collect()
}

fn pick<'a, T>(all: &'a [T], places: &[u32]) -> Vec<&'a T> {
    places
        .iter()
        .filter_map(|&place| all.get(usize::try_from(place).ok()?))
        .collect()
}

/// Printable, trimmed, cut.
fn text(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect();
    kept.trim().to_owned()
}

fn some_text(value: &str) -> Option<String> {
    Some(text(value)).filter(|text| !text.is_empty())
}

/// The wished name; else product and serial number in letters that every target takes.
fn name(dmi: &Dmi, wish: &Wish) -> String {
    if let Some(name) = some_text(&wish.name) {
        return name;
    }
    let mut name = String::new();
    for c in format!("{} {}", text(&dmi.product_name), text(&dmi.product_serial)).chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "physical".to_owned()
    } else {
        name.to_owned()
    }
}

fn vcpus(inventory: &Inventory, wish: &Wish) -> u32 {
    let logical = inventory.cpu.as_ref().map_or(0, |cpu| cpu.logical);
    let count = if wish.vcpus > 0 { wish.vcpus } else { logical };
    count.clamp(1, MAX_VCPUS)
}

/// As the machine has it, if that makes as many virtual CPUs as the guest gets.
fn topology(inventory: &Inventory, vcpus: u32) -> Option<CpuTopology> {
    let cpu = inventory.cpu.as_ref()?;
    let topology = CpuTopology {
        sockets: cpu.sockets,
        cores: cpu.cores_per_socket,
        threads: cpu.threads_per_core,
    };
    let product = topology
        .sockets
        .checked_mul(topology.cores)?
        .checked_mul(topology.threads)?;
    (product == vcpus).then_some(topology)
}

fn cpu(wish: &Wish) -> CpuModel {
    let features = [
        ("acpi", wish.cpu_acpi),
        ("apic", wish.cpu_apic),
        ("pae", wish.cpu_pae),
    ];
    CpuModel {
        vendor: some_text(&wish.cpu_vendor),
        model: some_text(&wish.cpu_model),
        features: features
            .into_iter()
            .filter(|(_, wish)| wish.unwrap_or(true))
            .map(|(name, _)| name.to_owned())
            .collect(),
    }
}

/// Lower case with dashes; all zeroes or all ones mean that the vendor set none (DSP0134, section 7.2.1).
fn uuid(value: &str) -> Option<String> {
    let value = value.trim().to_ascii_lowercase();
    let is_shaped = value.len() == 36
        && value.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    let digits = || value.bytes().filter(|&b| b != b'-');
    let is_set = digits().any(|b| b != b'0') && digits().any(|b| b != b'f');
    (is_shaped && is_set).then_some(value)
}

fn smbios(dmi: &Dmi) -> Smbios {
    Smbios {
        bios_vendor: text(&dmi.bios_vendor),
        bios_version: text(&dmi.bios_version),
        manufacturer: text(&dmi.system_vendor),
        product: text(&dmi.product_name),
        version: text(&dmi.product_version),
        serial: text(&dmi.product_serial),
        sku: text(&dmi.product_sku),
        family: text(&dmi.product_family),
        board_manufacturer: text(&dmi.board_vendor),
        board_product: text(&dmi.board_name),
        board_serial: text(&dmi.board_serial),
        chassis_serial: text(&dmi.chassis_serial),
        chassis_asset: text(&dmi.chassis_asset_tag),
    }
}

/// Only what somebody asked for: the inventory's guess is worse than what the guest's own files say.
fn clock(wish: &Wish) -> Option<Clock> {
    let utc = match wish.clock_basis.as_str() {
        "utc" => Some(true),
        "localtime" => Some(false),
        _ => None,
    };
    let offset_seconds = wish.clock_offset_seconds;
    (utc.is_some() || offset_seconds != 0).then_some(Clock {
        utc,
        offset_seconds,
    })
}

/// A size that QEMU can show, else 512.
fn sector_sizes(disk: &inventory::Disk) -> SectorSizes {
    let sane = |size: u32| Some(size).filter(|s| s.is_power_of_two() && SECTOR_SIZES.contains(s));
    let logical = sane(disk.logical_sector_size).unwrap_or(512);
    SectorSizes {
        logical,
        physical: sane(disk.physical_sector_size)
            .unwrap_or(logical)
            .max(logical),
    }
}

fn bus(bus: Bus) -> DiskBus {
    match bus {
        Bus::Scsi | Bus::RaidController => DiskBus::Scsi,
        Bus::Sata => DiskBus::Sata,
        Bus::Ide => DiskBus::Ide,
        Bus::Nvme => DiskBus::Nvme,
        Bus::VirtioBlk => DiskBus::VirtioBlk,
        Bus::VirtioScsi => DiskBus::VirtioScsi,
        Bus::Usb | Bus::Mmc | Bus::Unspecified => DiskBus::Unknown,
    }
}

/// The entries that the old machine's firmware tries, in its order.
fn boot_options(firmware: &inventory::Firmware) -> Vec<Vec<u8>> {
    let entries = firmware.boot_entries.iter();
    entries
        .filter(|entry| entry.active && entry.ordered && entry.load_option.len() <= MAX_OPTION)
        .map(|entry| entry.load_option.clone())
        .take(MAX_OPTIONS)
        .collect()
}

fn disk(unit: u32, found: &inventory::Disk) -> Disk {
    Disk {
        label: text(&found.name),
        bus: bus(found.bus()),
        controller: 0,
        unit,
        virtual_size: found.virtual_size,
        serial: some_text(&found.serial),
    }
}

fn removable(found: &inventory::Removable) -> Removable {
    Removable {
        kind: match found.floppy {
            true => RemovableKind::Floppy,
            false => RemovableKind::Cdrom,
        },
        bus: bus(found.bus()),
        slot: None,
    }
}

fn nic(found: &inventory::Nic, wish: &Wish) -> Nic {
    let mac: Option<MacAddr> = found.mac.parse().ok();
    let is_of = |name: &str| name == found.name || name == found.kernel_name;
    let mut wishes = wish.networks.iter();
    let own = wishes
        .clone()
        .find(|w| !w.interface.is_empty() && is_of(&w.interface));
    let network = own
        .or_else(|| wishes.find(|w| w.interface.is_empty()))
        .and_then(|w| some_text(&w.network))
        .unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
    Nic {
        mac: mac.filter(|mac| !mac.is_multicast() && mac.0 != [0; 6]),
        model: some_text(&found.driver).map(model),
        network: NicNetwork::Network(network.clone()),
        source_network: network,
        guest_name: interface_name(&found.name),
    }
}

/// A name that Linux allows: at most 15 bytes, no blank, slash or colon.
fn interface_name(name: &str) -> Option<String> {
    let is_allowed = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:%\"'\\".contains(&b));
    is_allowed.then(|| name.to_owned())
}

/// By the kernel's driver.
fn model(driver: String) -> NicModel {
    match driver.as_str() {
        "e1000" => NicModel::E1000,
        "e1000e" => NicModel::E1000e,
        "vmxnet3" => NicModel::Vmxnet3,
        "pcnet32" => NicModel::Pcnet,
        "8139too" | "8139cp" => NicModel::Rtl8139,
        "virtio_net" => NicModel::Virtio,
        _ => NicModel::Other(driver),
    }
}

#[cfg(test)]
mod tests;
