//! The firmware's boot menu of the new machine: what the old one's UEFI variables named, as far as the ESP tells.
//!
//! Changes nothing in the guest; the entries go into the new machine's variable store. A vendor's BOOTX64.CSV says how
//! it calls itself there, as its installer and fbx64.efi do.

use types::{BootEntry, DeviceKind};

use crate::Result;
use crate::linux::boot::efi::{self, Image};
use crate::linux::boot::{self, find_ci};
use crate::linux::convert::Context;
use crate::linux::mounts::{ESP_MBR_TYPE, ESP_TYPE};
use crate::root::join;

use super::uefi;

/// More entries than any machine has vendors.
const ENTRIES_MAX: usize = 16;

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(esp) = context.esp() else {
        return Ok(());
    };
    let Some((disk, partition)) = partition(context, &esp) else {
        context
            .recorder
            .skip("the EFI system partition is on no partition of a disk");
        return Ok(());
    };
    let mut entries: Vec<BootEntry> = Vec::new();
    let mut add = |description: String, path: String, arguments: Option<String>| {
        if entries.len() < ENTRIES_MAX
            && !entries
                .iter()
                .any(|entry| entry.path.eq_ignore_ascii_case(&path))
        {
            entries.push(BootEntry {
                description,
                disk,
                partition,
                path,
                arguments,
            });
        }
    };
    for dir in uefi::vendor_dirs(context, &esp) {
        for (description, path) in vendor(context, &esp, &dir) {
            add(description, path, None);
        }
    }
    if entries_are_none_of(context, &esp)
        && let Some(kernel) = efi::stub_kernel(context.root, &esp)
    {
        let arguments = stub_arguments(context, &esp, &kernel);
        add(
            context.guest.product_name.clone(),
            efi_path(&esp, &kernel),
            Some(arguments),
        );
    }
    if let Some(manager) = find_ci(context.root, &esp, "EFI/Microsoft/Boot/bootmgfw.efi") {
        add(
            "Windows Boot Manager".to_owned(),
            efi_path(&esp, &manager),
            None,
        );
    }
    let reason = match entries.len() {
        0 => "no vendor's loader is on the EFI system partition".to_owned(),
        count => format!(
            "{count} boot entries are for the new machine's firmware, nothing for the guest"
        ),
    };
    context.boot_entries = entries;
    context.recorder.not_needed(reason);
    Ok(())
}

/// Neither a vendor's loader nor a fallback one: the firmware started the kernel itself.
fn entries_are_none_of(context: &Context<'_>, esp: &str) -> bool {
    let programs = efi::images(context.root, esp);
    programs
        .iter()
        .all(|program| matches!(program.kind, Image::Kernel | Image::Windows))
}

/// Disk and number of the ESP. One on a RAID array is on several; the first has the same content.
fn partition(context: &Context<'_>, esp: &str) -> Option<(u32, u32)> {
    let storage = context.devices.storage();
    let mount = context
        .guest
        .mountpoints
        .iter()
        .find(|mount| mount.path == esp)?;
    let number = |kind: &DeviceKind| match kind {
        DeviceKind::Partition { disk, number } => Some((*disk, *number)),
        _ => None,
    };
    let device = storage.get(&mount.device)?;
    number(&device.kind).or_else(|| {
        let member = |kind: &str| {
            kind.eq_ignore_ascii_case(ESP_TYPE) || kind.eq_ignore_ascii_case(ESP_MBR_TYPE)
        };
        let mut devices = storage.devices.iter();
        let esp = devices.find(|device| device.parttype.as_deref().is_some_and(member))?;
        number(&esp.kind)
    })
}

/// Descriptions and paths of a vendor's loaders.
fn vendor(context: &Context<'_>, esp: &str, dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (arch, suffix) in uefi::ARCHS {
        for line in efi::boot_csv(context.root, dir, arch) {
            if let Some(path) = find_ci(context.root, dir, &line.file) {
                found.push((line.label, efi_path(esp, &path)));
            }
        }
        if !found.is_empty() {
            break;
        }
        if let Some(loader) = uefi::loader_in(context, dir, suffix) {
            let description = match loader.main.kind {
                // What bootctl and kernel-install call theirs.
                Image::SystemdBoot => "Linux Boot Manager".to_owned(),
                _ => uefi::label(context, dir),
            };
            let first = loader.shim.as_ref().unwrap_or(&loader.main);
            found.push((description, efi_path(esp, &first.path)));
            break;
        }
    }
    found
}

/// `\EFI\debian\shimx64.efi` for a file on the ESP.
pub(crate) fn efi_path(esp: &str, path: &str) -> String {
    let below = path.strip_prefix(esp.trim_end_matches('/')).unwrap_or(path);
    join("/", below).replace('/', "\\")
}

/// Arguments for a kernel that was started by a boot entry which is lost: those of /etc/kernel/cmdline, else the root's
/// UUID; and the initramfs beside the kernel.
pub(crate) fn stub_arguments(context: &Context<'_>, esp: &str, kernel: &str) -> String {
    let root = context.root;
    let written = ["/etc/kernel/cmdline", "/etc/cmdline"]
        .iter()
        .find_map(|path| root.text(path))
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut args = written
        .filter(|text| text.contains("root="))
        .unwrap_or_else(|| {
            let storage = context.devices.storage();
            let device = storage.get(&context.guest.root);
            match device.and_then(|device| device.uuid.as_ref()) {
                Some(uuid) => format!("root=UUID={uuid} rw"),
                None => format!("root={} rw", context.guest.root),
            }
        });
    let (dir, name) = crate::root::split(kernel).unwrap_or(("", kernel));
    let suffix = name.trim_start_matches("vmlinuz").trim_start_matches('-');
    let suffix = suffix.trim_end_matches(".efi");
    let names = [
        format!("initramfs-{suffix}.img"),
        format!("initramfs-{suffix}"),
        format!("initrd.img-{suffix}"),
        format!("initrd-{suffix}"),
        "initrd.img".to_owned(),
        "initrd".to_owned(),
    ];
    let initrd = names.iter().find_map(|name| boot::find_ci(root, dir, name));
    if let Some(initrd) = initrd.filter(|_| !args.contains("initrd=")) {
        args.push_str(&format!(" initrd={}", efi_path(esp, &initrd)));
    }
    args
}
