//! The result for an administrator at night: the verdict, then what is wrong, the worst first, then what would be
//! there, then the plan. Everything that comes from the guest is cleaned of control characters.

use std::fmt::Write;

use convert::report::{Inspection, Treatment};
use server::web::humane::{clean, size};
use types::{
    BlockBus, BlockDevice, Concern, DeviceKind, Firmware, GuestCaps, GuestInfo, KernelInfo,
    MachineType, NetBus, Severity, StepOutcome, StorageMap,
};

/// Width of the names on the left.
const LEFT: usize = 13;
/// Files of one step that are listed; the JSON has all.
const FILES_SHOWN: usize = 6;

/// The whole text.
pub(super) fn describe(inspection: &Inspection) -> String {
    let mut page = Page::default();
    verdict(&mut page, inspection);
    concerns(&mut page, inspection);
    if let Some(caps) = &inspection.caps {
        machine(&mut page, caps, inspection);
    }
    sizes(&mut page, inspection);
    if let Some(guest) = &inspection.guest {
        system(&mut page, guest);
    }
    storage(&mut page, &inspection.storage, inspection.guest.as_ref());
    plan(&mut page, inspection);
    page.text
}

/// Lines with a name at the left of the first of each group.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        let line = format!("{name:LEFT$} {}", clean(text));
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    fn lines(&mut self, name: &str, texts: impl IntoIterator<Item = String>) {
        let mut name = name;
        for text in texts {
            self.line(name, &text);
            name = "";
        }
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }
}

fn verdict(page: &mut Page, inspection: &Inspection) {
    let product = inspection
        .guest
        .as_ref()
        .map_or("nothing that could be converted", |guest| {
            guest.product_name.as_str()
        });
    page.line("machine", &inspection.source.name);
    page.line("system", product);
    let word = match (inspection.convertible, inspection.conversion) {
        (false, _) => "CANNOT BE CONVERTED as it is",
        (true, Treatment::Copied) => "is copied unchanged, onto SATA disks and e1000e adapters",
        (true, Treatment::Converted) => "can be converted",
    };
    page.line("verdict", word);
}

fn concerns(page: &mut Page, inspection: &Inspection) {
    let said = |text: &str| {
        inspection
            .concerns
            .iter()
            .any(|concern| concern.what == text)
    };
    let warnings = inspection.warnings.iter().filter(|text| !said(text));
    let mut all = inspection.concerns.clone();
    all.extend(warnings.map(|text| Concern {
        severity: Severity::Warning,
        what: text.clone(),
        fix: None,
    }));
    let skipped = inspection
        .steps
        .iter()
        .filter(|step| step.outcome == StepOutcome::Skipped);
    all.extend(skipped.map(|step| Concern {
        severity: Severity::Warning,
        what: format!("step {} cannot be taken: {}", step.name, step.reason),
        fix: None,
    }));
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|concern| std::cmp::Reverse(concern.severity));
    page.gap();
    for concern in &all {
        let word = match concern.severity {
            Severity::Blocker => "BLOCKER",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        page.line(word, &concern.what);
        if let Some(fix) = &concern.fix {
            page.line("", &format!("-> {fix}"));
        }
    }
}

fn machine(page: &mut Page, caps: &GuestCaps, inspection: &Inspection) {
    let disks = match caps.block_bus {
        BlockBus::VirtioBlk => "virtio-blk",
        BlockBus::VirtioScsi => "virtio-scsi",
        BlockBus::Sata => "SATA",
        BlockBus::Ide => "IDE",
    };
    let nics = match caps.net_bus {
        NetBus::Virtio => "virtio-net",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 => "e1000",
        NetBus::Rtl8139 => "rtl8139",
    };
    let chipset = match caps.machine {
        MachineType::I440fx => "pc (i440fx)",
        MachineType::Q35 => "q35",
        MachineType::Virt => "virt",
    };
    let firmware = match caps.firmware.or(inspection.source.firmware) {
        Some(Firmware::Uefi) => "UEFI",
        _ => "BIOS",
    };
    page.gap();
    page.line(
        "becomes",
        &format!("{chipset} with {firmware}, {disks} disks, {nics} adapters"),
    );
}

fn sizes(page: &mut Page, inspection: &Inspection) {
    let data: u64 = inspection.disks.iter().map(|disk| disk.data_bytes).sum();
    let whole: u64 = inspection.disks.iter().map(|disk| disk.virtual_size).sum();
    if inspection.caps.is_none() {
        page.gap();
    }
    page.line("to copy", &format!("{} of {}", size(data), size(whole)));
    let width = inspection
        .space
        .iter()
        .map(|space| space.path.len())
        .max()
        .unwrap_or(0);
    let room = inspection.space.iter().map(|space| {
        format!(
            "{:width$}  needs {}, has {}",
            space.path,
            size(space.needed),
            size(space.found)
        )
    });
    page.lines("room", room);
}

fn system(page: &mut Page, guest: &GuestInfo) {
    page.gap();
    page.line("root", &guest.root);
    if let Some(hostname) = &guest.hostname {
        page.line("host name", hostname);
    }
    let parts = [
        &guest.init,
        &guest.initramfs_generator,
        &guest.package_format,
    ];
    let mut parts: Vec<&str> = parts
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    if guest.selinux {
        parts.push("SELinux");
    }
    if guest.has_guest_agent {
        parts.push("qemu-guest-agent");
    }
    page.lines("made of", (!parts.is_empty()).then(|| parts.join(", ")));
    page.lines("kernels", guest.kernels.iter().map(kernel));
    let loaders = guest.boot_loaders.iter();
    page.lines(
        "boot loaders",
        loaders.map(|loader| match &loader.config {
            Some(config) => format!("{} ({config})", loader.kind),
            None => loader.kind.clone(),
        }),
    );
    let network = guest.network.iter();
    page.lines(
        "network",
        network.map(|config| format!("{}: {}", config.kind, config.files.join(", "))),
    );
    let tools = (!guest.hypervisor_tools.is_empty()).then(|| guest.hypervisor_tools.join(", "));
    page.lines("leftovers", tools);
}

fn kernel(kernel: &KernelInfo) -> String {
    let mut words = vec![kernel.version.as_str()];
    if kernel.is_default {
        words.push("default");
    }
    let drives = kernel.has_virtio_blk || kernel.has_virtio_scsi;
    words.push(match (drives, &kernel.initrd, kernel.initrd_has_virtio) {
        (false, ..) => "without virtio",
        (true, None, _) => "no initramfs",
        (true, Some(_), true) => "initramfs has virtio",
        (true, Some(_), false) => "initramfs lacks virtio",
    });
    words.join(", ")
}

/// Disks with what lies in them, then volumes and arrays that may span several.
fn storage(page: &mut Page, storage: &StorageMap, guest: Option<&GuestInfo>) {
    let mut rows = Vec::new();
    for device in &storage.devices {
        if !matches!(
            device.kind,
            DeviceKind::Partition { .. } | DeviceKind::Crypt { .. }
        ) {
            branch(&mut rows, storage, device, 0, guest);
        }
    }
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    if !rows.is_empty() {
        page.gap();
    }
    page.lines(
        "storage",
        rows.into_iter()
            .map(|(name, text)| format!("{name:width$}  {text}")),
    );
}

fn branch(
    rows: &mut Vec<(String, String)>,
    storage: &StorageMap,
    device: &BlockDevice,
    depth: usize,
    guest: Option<&GuestInfo>,
) {
    // A hostile map may hold itself.
    if depth > 8 {
        return;
    }
    let mut words = vec![format!("{:>9}", size(device.virtual_size))];
    if let DeviceKind::Disk { table, .. } = &device.kind
        && !table.is_empty()
    {
        words.push(table.clone());
    }
    words.push(device.content.clone());
    words.extend(device.label.as_ref().map(|label| format!("\"{label}\"")));
    let mounts = guest.into_iter().flat_map(|guest| &guest.mountpoints);
    let mounts: Vec<_> = mounts
        .filter(|mount| mount.device == device.name)
        .map(|mount| mount.path.as_str())
        .collect();
    words.extend((!mounts.is_empty()).then(|| format!("on {}", mounts.join(", "))));
    words.retain(|word| !word.is_empty());
    rows.push((
        format!("{:indent$}{}", "", device.name, indent = 2 * depth),
        words.join("  "),
    ));
    for child in &storage.devices {
        let inside = match (&device.kind, &child.kind) {
            (DeviceKind::Disk { disk, .. }, DeviceKind::Partition { disk: of, .. }) => disk == of,
            (_, DeviceKind::Crypt { parent }) => {
                *parent == device.name && child.name != device.name
            }
            _ => false,
        };
        if inside {
            branch(rows, storage, child, depth + 1, guest);
        }
    }
}

fn plan(page: &mut Page, inspection: &Inspection) {
    if inspection.steps.is_empty() {
        return;
    }
    page.gap();
    page.line(
        "plan",
        &format!("{} files would be changed", inspection.changes.len()),
    );
    let width = inspection
        .steps
        .iter()
        .map(|step| step.name.len())
        .max()
        .unwrap_or(0);
    for step in &inspection.steps {
        let word = match step.outcome {
            StepOutcome::Applied => "yes",
            StepOutcome::NotNeeded => "no",
            StepOutcome::Skipped => "CANNOT",
        };
        page.line(
            "",
            &format!("{:width$}  {word:6}  {}", step.name, step.reason),
        );
        let files: Vec<_> = inspection
            .changes
            .iter()
            .filter(|change| change.step == step.name)
            .collect();
        for change in files.iter().take(FILES_SHOWN) {
            let sign = match (&change.before, &change.after) {
                (None, _) => '+',
                (_, None) => '-',
                _ => '~',
            };
            page.line("", &format!("  {sign} {}: {}", change.path, change.why));
        }
        if files.len() > FILES_SHOWN {
            page.line(
                "",
                &format!(
                    "  … and {} more (--json has all)",
                    files.len() - FILES_SHOWN
                ),
            );
        }
    }
}
