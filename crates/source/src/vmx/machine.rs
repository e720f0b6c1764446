//! From the entries of a `.vmx` to the machine.

use types::{
    CpuModel, CpuTopology, Details, Firmware, Hypervisor, MacAddr, Machine, Nic, NicModel,
    NicNetwork,
};

use super::ids;
use super::storage::{self, DiskFile};
use super::syntax::Vmx;
use crate::error::{Error, ErrorKind, Result, shown};

/// Memory when none is stated, in MiB: VMware's default.
const DEFAULT_MEMORY_MIB: u64 = 32;
/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u32 = 8192;

/// What a `.vmx` says.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The machine without its disks.
    pub(crate) machine: Machine,
    /// The disks in order.
    pub(crate) disks: Vec<DiskFile>,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads the bytes of a `.vmx`; `fallback_name` is for a machine that has none.
pub(crate) fn parse(bytes: &[u8], fallback_name: &str) -> Result<Description> {
    let mut vmx = Vmx::parse(bytes)?;
    let mut warnings = std::mem::take(&mut vmx.warnings);
    let storage = storage::storage(&vmx, &mut warnings)?;
    if storage.disks.is_empty() {
        return Err(Error::corrupt(
            "expected a machine with a hard disk, found none",
        ));
    }
    if vmx.get("checkpoint.vmstate").is_some() {
        warnings.push(
            "the machine is suspended: what is in its memory is lost, and its file systems may be unclean; shut it \
             down instead"
                .to_owned(),
        );
    }
    let (vcpus, topology) = cpus(&vmx, &mut warnings)?;
    let machine = Machine {
        name: vmx.get("displayname").unwrap_or(fallback_name).to_owned(),
        hypervisor: Hypervisor::Vmware,
        memory_bytes: memory(&vmx, &mut warnings)?,
        vcpus,
        topology,
        cpu: CpuModel::default(),
        genid: genid(&vmx, &mut warnings),
        firmware: Some(firmware(&vmx, &mut warnings)),
        secure_boot: vmx.flag("uefi.secureboot.enabled") == Some(true),
        tpm: vmx.flag("vtpm.present") == Some(true) || vmx.get("managedvm.autoaddvtpm").is_some(),
        uuid: vmx.get("uuid.bios").and_then(ids::uuid),
        os_hint: vmx.get("guestos").map(str::to_owned),
        disks: Vec::new(),
        removables: storage.removables,
        nics: nics(&vmx, &mut warnings),
        display: None,
        sound: vmx.flag("sound.present") == Some(true),
        details: Details {
            sound_model: sound_model(&vmx),
            ..Details::default()
        },
    };
    Ok(Description {
        machine,
        disks: storage.disks,
        warnings,
    })
}

/// `memsize` is in MiB.
fn memory(vmx: &Vmx, warnings: &mut Vec<String>) -> Result<u64> {
    let mib: Option<u64> = vmx.number("memsize")?;
    let mib = mib.filter(|&mib| mib > 0).unwrap_or_else(|| {
        warnings.push(format!(
            "the machine states no memory; assuming VMware's default of {DEFAULT_MEMORY_MIB} MiB"
        ));
        DEFAULT_MEMORY_MIB
    });
    mib.checked_mul(1 << 20).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!("memsize: {mib} MiB are more than any machine has"),
        )
    })
}

/// `numvcpus`, grouped by `cpuid.coresPerSocket`; 0 is vSphere 8's word for its own choice.
fn cpus(vmx: &Vmx, warnings: &mut Vec<String>) -> Result<(u32, Option<CpuTopology>)> {
    let vcpus = vmx.number::<u32>("numvcpus")?.unwrap_or(1).max(1);
    if vcpus > MAX_VCPUS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_VCPUS} virtual CPUs, found {vcpus}"),
        ));
    }
    let cores = vmx.number::<u32>("cpuid.corespersocket")?;
    let Some(cores) = cores.filter(|&cores| cores > 0) else {
        return Ok((vcpus, None));
    };
    if vcpus % cores != 0 {
        warnings.push(format!(
            "ignoring {cores} cores per socket: {vcpus} virtual CPUs cannot be grouped so"
        ));
        return Ok((vcpus, None));
    }
    let topology = CpuTopology {
        sockets: vcpus / cores,
        cores,
        threads: 1,
    };
    Ok((vcpus, Some(topology)))
}

fn firmware(vmx: &Vmx, warnings: &mut Vec<String>) -> Firmware {
    match vmx.get("firmware").map(str::to_ascii_lowercase).as_deref() {
        Some("efi") => Firmware::Uefi,
        None | Some("bios") => Firmware::Bios,
        Some(other) => {
            let other = shown(other);
            warnings.push(format!(
                "expected firmware `bios` or `efi`, found `{other}`; taking bios"
            ));
            Firmware::Bios
        }
    }
}

fn genid(vmx: &Vmx, warnings: &mut Vec<String>) -> Option<String> {
    let (low, high) = (vmx.get("vm.genid")?, vmx.get("vm.genidx")?);
    if let (Ok(low), Ok(high)) = (low.parse(), high.parse()) {
        return Some(ids::genid(low, high));
    }
    warnings.push("vm.genid, vm.genidX: expected signed 64-bit numbers; ignoring them".to_owned());
    None
}

/// libvirt's name for VMware's sound device.
fn sound_model(vmx: &Vmx) -> Option<String> {
    let device = vmx.get("sound.virtualdev")?.to_ascii_lowercase();
    let model = match device.as_str() {
        _ if vmx.flag("sound.present") != Some(true) => return None,
        "sb16" => "sb16",
        "es1371" => "es1370",
        "hdaudio" => "ich6",
        _ => return None,
    };
    Some(model.to_owned())
}

/// The adapters `ethernetN` that are present.
fn nics(vmx: &Vmx, warnings: &mut Vec<String>) -> Vec<Nic> {
    let mut nics = Vec::new();
    for place in vmx.devices("ethernet") {
        let device = format!("ethernet{}", place.controller);
        let get = |key: &str| vmx.get(&format!("{device}.{key}"));
        if place.unit.is_some() || vmx.flag(&format!("{device}.present")) != Some(true) {
            continue;
        }
        let name = get("networkname").unwrap_or(&device).to_owned();
        let bridged =
            get("connectiontype").is_some_and(|kind| kind.eq_ignore_ascii_case("bridged"));
        nics.push(Nic {
            mac: mac(vmx, &device, warnings),
            model: get("virtualdev").map(model),
            network: if bridged {
                NicNetwork::Bridge(name.clone())
            } else {
                NicNetwork::Network(name.clone())
            },
            source_network: name,
            guest_name: None,
        });
    }
    nics
}

/// By `addressType`: `static` means `address`; `generated` (by the host) and `vpx` (by vCenter) mean
/// `generatedAddress`.
fn mac(vmx: &Vmx, device: &str, warnings: &mut Vec<String>) -> Option<MacAddr> {
    let get = |key: &str| vmx.get(&format!("{device}.{key}"));
    let is_static = get("addresstype").is_some_and(|kind| kind.eq_ignore_ascii_case("static"));
    let text = if is_static {
        get("address")
    } else {
        get("generatedaddress").or_else(|| get("address"))
    }?;
    let mac = text
        .parse()
        .ok()
        .filter(|mac: &MacAddr| !mac.is_multicast() && mac.0 != [0; 6]);
    if mac.is_none() {
        let text = shown(text);
        warnings.push(format!(
            "{device}: ignoring its address `{text}`, which no adapter can own"
        ));
    }
    mac
}

fn model(text: &str) -> NicModel {
    match text.to_ascii_lowercase().as_str() {
        "e1000" => NicModel::E1000,
        "e1000e" => NicModel::E1000e,
        "vmxnet3" => NicModel::Vmxnet3,
        other => NicModel::Other(other.to_owned()),
    }
}
