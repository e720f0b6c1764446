//! The libvirt domain of a converted guest (<https://libvirt.org/formatdomain.html>).
//!
//! Written for libvirt 7.2 and later, where `<os firmware='efi'>` takes features; checked against the schema of
//! 9.0. What is not written is libvirt's to choose: PCI addresses, controllers, the machine version, the emulator.

pub(crate) mod devices;
mod os;
pub(crate) mod platform;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod smbios;
#[cfg(test)]
mod tests;
pub(crate) mod xml;

use std::path::PathBuf;

use image::Preallocation;
use image::formats::OutputFormat;
use types::{GuestCaps, GuestInfo, Hypervisor, Machine};

use crate::{DomainType, Finished, NvramPaths, Result, TargetOptions};
use platform::{Drives, Platform};
use xml::{Element, element};

/// Namespace of libosinfo's metadata, as virt-manager and GNOME Boxes read it.
const LIBOSINFO: &str = "http://libosinfo.org/xmlns/libvirt/domain/1.0";
/// Retries of a spinlock before the guest tells the hypervisor: the value that virt-manager uses for Windows.
const HYPERV_SPINLOCK_RETRIES: &str = "8191";

/// The other enlightenments that virt-manager gives Windows; libvirt has had all since 5.0, Linux since 4.20. synic needs
/// vpindex, stimer needs both and the hypervclock, tlbflush and ipi need vpindex (QEMU, docs/system/i386/hyperv.rst).
const HYPERV: [&str; 8] = [
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "frequencies",
    "tlbflush",
    "ipi",
];

/// What a domain is made from.
#[derive(Clone, Debug)]
pub struct DomainSpec<'a> {
    /// Name of the domain.
    pub name: &'a str,
    /// The machine at its source, networks mapped.
    pub machine: &'a Machine,
    /// What the guest can drive.
    pub caps: &'a GuestCaps,
    /// The guest, where one was inspected.
    pub guest: Option<&'a GuestInfo>,
    /// Absolute path of each disk on the host that will run the domain.
    pub disks: Vec<PathBuf>,
    /// Format of the disks.
    pub format: OutputFormat,
    /// How the disks were allocated: what the guest discards is given back if they are sparse.
    pub preallocation: Preallocation,
    /// Hardware virtualisation or emulation.
    pub domain_type: DomainType,
    /// Write the machine's UUID, if it has one.
    pub keep_uuid: bool,
    /// Write the machine's SMBIOS strings, if it has any, and its UUID.
    pub keep_smbios: bool,
    /// The host can emulate a TPM; elsewhere libvirt refuses a domain that has one.
    pub tpm_emulator: bool,
    /// Firmware and variables of the domain's own; elsewhere libvirt chooses.
    pub nvram: Option<NvramPaths>,
}

impl<'a> DomainSpec<'a> {
    pub(crate) fn new(
        options: &TargetOptions,
        name: &'a str,
        finished: &Finished<'a>,
        disks: Vec<PathBuf>,
    ) -> Self {
        Self {
            name,
            machine: finished.machine,
            caps: finished.caps,
            guest: finished.guest,
            disks,
            format: options.format,
            preallocation: options.preallocation,
            domain_type: options.domain_type,
            keep_uuid: options.keep_uuid,
            keep_smbios: options.keep_smbios,
            tpm_emulator: true,
            nvram: None,
        }
    }
}

/// A domain as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltDomain {
    /// The document.
    pub xml: String,
    /// Where it differs from the source in a way that the user should know.
    pub notes: Vec<String>,
}

/// Writes the domain.
pub fn build(spec: &DomainSpec<'_>) -> Result<BuiltDomain> {
    let mut notes = Vec::new();
    let platform = Platform::of(spec, &mut notes)?;
    let drives = Drives::assign(platform, spec.machine, spec.caps, &mut notes);
    let memory_kib = spec.machine.memory_bytes.div_ceil(1024).to_string();
    let kind = match spec.domain_type {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "qemu",
    };
    let strings = smbios::strings(spec, platform);
    if spec.keep_smbios && strings.is_empty() {
        notes.push("the source states no SMBIOS strings: the domain has libvirt's".to_owned());
    }
    let domain = element("domain")
        .attr("type", kind)
        .child(element("name").text(spec.name))
        .children(uuid(spec).map(|uuid| element("uuid").text(uuid)))
        .children(genid(spec, platform))
        .children(metadata(spec))
        .child(element("memory").attr("unit", "KiB").text(&memory_kib))
        .child(
            element("currentMemory")
                .attr("unit", "KiB")
                .text(&memory_kib),
        )
        .child(vcpu(spec.machine))
        .children(smbios::sysinfo(&strings, uuid(spec)))
        .child(os::os(spec, platform, !strings.is_empty())?)
        .child(features(spec, platform))
        .child(cpu(spec, platform))
        .child(clock(spec, platform))
        .child(element("on_poweroff").text("destroy"))
        .child(element("on_reboot").text("restart"))
        .child(element("on_crash").text("restart"))
        .child(devices::devices(spec, platform, &drives, &mut notes)?);
    Ok(BuiltDomain {
        xml: domain.document()?,
        notes,
    })
}

/// The machine's UUID where it is to be kept. The SMBIOS strings bring theirs along.
pub(crate) fn uuid<'a>(spec: &DomainSpec<'a>) -> Option<&'a str> {
    let uuid = spec.machine.uuid.as_deref()?;
    (spec.keep_uuid || spec.keep_smbios).then_some(uuid)
}

/// The generation id of a machine that had one (libvirt 4.4 and later), unchanged: a move is neither a clone nor a
/// rollback, of which a changed one would tell the guest. QEMU has the device on x86 only.
fn genid(spec: &DomainSpec<'_>, platform: Platform) -> Option<Element> {
    let id = spec.machine.genid.as_ref()?;
    (platform.arch == "x86_64" && is_guid(id)).then(|| element("genid").text(id))
}

/// 36 characters as libvirt's schema wants them.
fn is_guid(text: &str) -> bool {
    let dash = |index| [8, 13, 18, 23].contains(&index);
    text.len() == 36
        && text.bytes().enumerate().all(|(index, b)| {
            if dash(index) {
                b == b'-'
            } else {
                b.is_ascii_hexdigit()
            }
        })
}

/// All that the machine can have, and those that it starts with.
fn vcpu(machine: &Machine) -> Element {
    let count = machine.vcpus.max(1);
    let at_start = machine
        .details
        .vcpus_at_start
        .filter(|&current| (1..count).contains(&current));
    let vcpu = match at_start {
        Some(current) => element("vcpu").attr("current", current.to_string()),
        None => element("vcpu"),
    };
    vcpu.text(count.to_string())
}

fn metadata(spec: &DomainSpec<'_>) -> Option<Element> {
    let id = spec.guest?.osinfo_id.as_ref()?;
    Some(
        element("metadata").child(
            element("libosinfo:libosinfo")
                .attr("xmlns:libosinfo", LIBOSINFO)
                .child(element("libosinfo:os").attr("id", id)),
        ),
    )
}

fn features(spec: &DomainSpec<'_>, platform: Platform) -> Element {
    let on = |name: &'static str| is_wanted(spec.machine, name).then(|| element(name));
    let features = element("features").children(on("acpi"));
    if platform.arch != "x86_64" {
        return features;
    }
    let hyperv = has_enlightenments(spec, platform).then(|| {
        let on = |name: &'static str| element(name).attr("state", "on");
        let spinlocks = on("spinlocks").attr("retries", HYPERV_SPINLOCK_RETRIES);
        element("hyperv")
            .attr("mode", "custom")
            .child(on("relaxed"))
            .child(on("vapic"))
            .child(spinlocks)
            .children(HYPERV.into_iter().map(on))
    });
    let smm = platform
        .secure_boot
        .then(|| element("smm").attr("state", "on"));
    features
        .children(on("apic"))
        .children(on("pae"))
        .children(hyperv)
        .children(smm)
}

/// Hyper-V enlightenments exist under KVM only, and Windows knows them from Vista and 2008 on (Microsoft: Hypervisor
/// Top-Level Functional Specification).
pub(crate) fn has_enlightenments(spec: &DomainSpec<'_>, platform: Platform) -> bool {
    let version = spec.guest.and_then(|guest| guest.windows.as_ref());
    let is_older = version.is_some_and(|windows| (1..6).contains(&windows.major));
    platform.windows && spec.domain_type == DomainType::Kvm && !is_older
}

/// Features of the platform. Only of a physical machine are they a wish (`p2v.cpu.acpi=` …): what another hypervisor
/// lists follows that hypervisor's habits.
fn is_wanted(machine: &Machine, feature: &str) -> bool {
    let features = &machine.cpu.features;
    machine.hypervisor != Hypervisor::Physical || features.iter().any(|name| name == feature)
}

/// A processor that somebody asked for by name (`p2v.cpu.model=`); what a physical one is called, libvirt may not know.
fn wished_cpu(machine: &Machine) -> Option<Element> {
    let model = machine.cpu.model.as_ref()?;
    (machine.hypervisor == Hypervisor::Physical).then(|| {
        let vendor = machine.cpu.vendor.as_ref();
        element("cpu")
            .attr("mode", "custom")
            .attr("match", "exact")
            .child(element("model").attr("fallback", "allow").text(model))
            .children(vendor.map(|vendor| element("vendor").text(vendor)))
    })
}

fn cpu(spec: &DomainSpec<'_>, platform: Platform) -> Element {
    let wished = wished_cpu(spec.machine);
    let cpu = match spec.domain_type {
        _ if wished.is_some() => wished.unwrap_or_else(|| element("cpu")),
        DomainType::Kvm => element("cpu").attr("mode", "host-model"),
        // Everything that the emulator can do; libvirt 7.1 and later. Five-level paging only makes each of its
        // page walks longer.
        DomainType::Qemu if platform.arch == "x86_64" => {
            element("cpu").attr("mode", "maximum").child(
                element("feature")
                    .attr("policy", "disable")
                    .attr("name", "la57"),
            )
        }
        DomainType::Qemu => element("cpu").attr("mode", "maximum"),
    };
    cpu.children(
        topology(spec.machine, platform).map(|[sockets, cores, threads]| {
            element("topology")
                .attr("sockets", sockets.to_string())
                .attr("dies", "1")
                .attr("cores", cores.to_string())
                .attr("threads", threads.to_string())
        }),
    )
}

/// Sockets, cores, threads where the source states them consistently. Windows, whose client editions use two
/// sockets at most, gets one socket where it does not.
pub(crate) fn topology(machine: &Machine, platform: Platform) -> Option<[u32; 3]> {
    let vcpus = machine.vcpus.max(1);
    let stated = machine.topology.map(|t| [t.sockets, t.cores, t.threads]);
    let product = |t: &[u32; 3]| t[0].checked_mul(t[1]).and_then(|n| n.checked_mul(t[2]));
    stated
        .filter(|t| product(t) == Some(vcpus))
        .or_else(|| (platform.windows && vcpus > 1).then_some([1, vcpus, 1]))
}

/// `utc` or `localtime`, and the seconds to add: what somebody asked for, else what the guest is configured for.
pub(crate) fn clock_basis(spec: &DomainSpec<'_>) -> (&'static str, i64) {
    let wish = spec.machine.details.clock;
    let utc = wish
        .and_then(|clock| clock.utc)
        .unwrap_or(spec.caps.rtc_utc);
    let basis = if utc { "utc" } else { "localtime" };
    (basis, wish.map_or(0, |clock| clock.offset_seconds))
}

fn clock(spec: &DomainSpec<'_>, platform: Platform) -> Element {
    let (basis, offset) = clock_basis(spec);
    let clock = match offset {
        0 => element("clock").attr("offset", basis),
        seconds => element("clock")
            .attr("offset", "variable")
            .attr("adjustment", seconds.to_string())
            .attr("basis", basis),
    };
    if platform.arch != "x86_64" {
        return clock;
    }
    // Lost ticks are made up for one way in each timer, and the slow HPET stays away: as virt-manager does.
    let timer = |name: &str| element("timer").attr("name", name);
    let hyperv = has_enlightenments(spec, platform);
    clock
        .child(timer("rtc").attr("tickpolicy", "catchup"))
        .child(timer("pit").attr("tickpolicy", "delay"))
        .child(timer("hpet").attr("present", "no"))
        .children(hyperv.then(|| timer("hypervclock").attr("present", "yes")))
}
