//! `--print-source`: the machine as virt-v2v lays it out, line for line, so that scripts that read it keep working.

use std::fmt::Write;

use types::{
    CpuTopology, DiskBus, Display, Firmware, Hypervisor, Listen, Machine, Nic, NicModel,
    NicNetwork, Removable, RemovableKind,
};

use crate::Opened;

/// What was understood of the source, for people.
pub fn describe(opened: &Opened) -> String {
    machine(&opened.machine)
}

pub(crate) fn machine(machine: &Machine) -> String {
    let Machine {
        name,
        memory_bytes,
        vcpus,
        secure_boot,
        ..
    } = machine;
    let hypervisor = hypervisor(machine.hypervisor);
    let genid = machine.genid.as_deref().unwrap_or_default();
    let cpu_vendor = machine.cpu.vendor.as_deref().unwrap_or_default();
    let cpu_model = machine.cpu.model.as_deref().unwrap_or_default();
    let features = machine.cpu.features.join(",");
    let topology = machine.topology.map(topology).unwrap_or_default();
    let firmware = match machine.firmware {
        Some(Firmware::Bios) => "bios",
        Some(Firmware::Uefi) => "uefi",
        None => "unknown",
    };
    let display = display(machine);
    let sound = machine.details.sound_model.as_deref().unwrap_or_default();
    let disks: Vec<String> = machine
        .disks
        .iter()
        .enumerate()
        .map(|(index, disk)| format!("\t{index}{}", bracket(disk.bus)))
        .collect();
    let removables: Vec<String> = machine.removables.iter().map(removable).collect();
    let nics: Vec<String> = machine.nics.iter().map(nic).collect();
    let (disks, removables, nics) = (disks.join("\n"), removables.join("\n"), nics.join("\n"));
    format!(
        "Source guest information (--print-source option):

    source name: {name}
hypervisor type: {hypervisor}
       VM genid: {genid}
         memory: {memory_bytes} (bytes)
       nr vCPUs: {vcpus}
     CPU vendor: {cpu_vendor}
      CPU model: {cpu_model}
   CPU topology: {topology}
   CPU features: {features}
       firmware: {firmware}
UEFI secureboot: {secure_boot}
        display: {display}
          sound: {sound}
disks:
{disks}
removable media:
{removables}
NICs:
{nics}

"
    )
}

fn hypervisor(hypervisor: Hypervisor) -> &'static str {
    match hypervisor {
        Hypervisor::Vmware => "vmware",
        Hypervisor::VirtualBox => "vbox",
        Hypervisor::HyperV => "hyperv",
        Hypervisor::Xen => "xen",
        Hypervisor::Kvm => "kvm",
        Hypervisor::Qemu => "qemu",
        Hypervisor::Physical => "physical",
        _ => "unknownhv",
    }
}

/// Kind of graphics, keyboard, and who may see them.
fn display(machine: &Machine) -> String {
    let mut line = match machine.display {
        Some(Display::Window) => "window",
        Some(Display::Vnc) => "vnc",
        Some(Display::Spice) => "spice",
        _ => return String::new(),
    }
    .to_owned();
    let details = &machine.details;
    if let Some(keymap) = &details.keymap {
        let _ = write!(line, " {keymap}");
    }
    if details.display_password {
        line.push_str(" with password");
    }
    let _ = match &details.listen {
        Some(Listen::Address(address)) => write!(line, " listening on address {address}"),
        Some(Listen::Network(name)) => write!(line, " listening on network {name}"),
        Some(Listen::Socket(path)) => write!(line, " listening on Unix domain socket {path}"),
        Some(Listen::None) => write!(line, " listening on private fd"),
        _ => Ok(()),
    };
    line
}

fn topology(
    CpuTopology {
        sockets,
        cores,
        threads,
    }: CpuTopology,
) -> String {
    format!("sockets: {sockets} cores/socket: {cores} threads/core: {threads}")
}

/// ` [BUS]`, or nothing when it is not known.
fn bracket(bus: DiskBus) -> String {
    let name = match bus {
        DiskBus::Scsi => "scsi",
        DiskBus::Sata => "sata",
        DiskBus::Ide => "ide",
        DiskBus::Nvme => "nvme",
        DiskBus::VirtioBlk => "virtio-blk",
        DiskBus::VirtioScsi => "virtio-scsi",
        _ => return String::new(),
    };
    format!(" [{name}]")
}

fn removable(drive: &Removable) -> String {
    let kind = match drive.kind {
        RemovableKind::Cdrom => "CD-ROM",
        RemovableKind::Floppy => "Floppy",
    };
    let slot = drive
        .slot
        .map(|slot| format!(" in slot {slot}"))
        .unwrap_or_default();
    format!("\t{kind}{}{slot}", bracket(drive.bus))
}

fn nic(nic: &Nic) -> String {
    let (kind, name) = match &nic.network {
        NicNetwork::Network(name) => ("Network", name),
        NicNetwork::Bridge(name) => ("Bridge", name),
    };
    let mut line = format!("\t{kind} \"{name}\"");
    if let Some(mac) = nic.mac {
        let _ = write!(line, " mac: {mac}");
    }
    let model = match &nic.model {
        Some(NicModel::E1000) => "e1000",
        Some(NicModel::E1000e) => "e1000e",
        Some(NicModel::Vmxnet3) => "vmxnet3",
        Some(NicModel::Pcnet) => "pcnet32",
        Some(NicModel::Rtl8139) => "rtl8139",
        Some(NicModel::Virtio) => "virtio",
        Some(NicModel::Other(other)) => other,
        _ => return line,
    };
    let _ = write!(line, " [{model}]");
    line
}
