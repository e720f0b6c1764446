//! What the firmware starts: UEFI's fallback loader, the boot configuration data, the entry in the new machine's boot menu.
//!
//! The BCD stays as it is but for one element: a boot manager without graphics shows nothing on the firmware of the new
//! machine. Its entries name partitions by GUIDs and signatures, which are copied with the disks; whether they are there is
//! looked at.
//!
//! Control\CrashControl\AutoReboot is left alone, unlike virt-v2v, which sets it to 0: a server that restarts by itself
//! after a crash is to do so on its new host, too, and a Windows that cannot start ends in its recovery environment after
//! three times, with or without it.

use std::io::Read;

use types::{Arch, BlockDevice, BootEntry, DeviceKind};

use crate::windows::bcd::{Bcd, GRAPHICS_MODE_DISABLED, Loader};
use crate::windows::convert::Context;
use crate::windows::files;
use crate::windows::inspect::boot::{BIOS_BCD, EFI_BCD, EFI_MANAGER};
use crate::{BootVolume, Recorder, Result, Root};

/// A boot manager is 1 to 3 MiB.
const MANAGER_MAX: u64 = 64 << 20;
/// What is replaced is kept beside it.
const KEPT: &str = ".pre-v2v";

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    if let Some(boot) = context.boot
        && files::find(&boot.root, EFI_MANAGER).is_some()
    {
        // The new machine's boot menu starts it without them: none of these failing is the end of a conversion.
        fallback(context, boot);
        boot_data(context, boot);
        entry(context, boot);
        context.recorder.not_needed(
            "the fallback loader and the boot configuration data are as they should be",
        );
        return Ok(());
    }
    let is_lost = context.windows.boot_device.is_some() && context.boot.is_none();
    if is_lost {
        context
            .recorder
            .skip("the volume that it boots from could not be mounted");
        context.recorder.warn(
            "the volume with the boot manager could not be mounted, and was left as it is; if the firmware does not start Windows, choose \\EFI\\Microsoft\\Boot\\bootmgfw.efi in its menu",
        );
        return Ok(());
    }
    let boot_root = context.boot.map_or(context.root, |boot| &boot.root);
    if let Some(bcd) = read(context, boot_root, BIOS_BCD) {
        check(context, &bcd);
    }
    context
        .recorder
        .not_needed("it starts by BIOS: its boot files are as they should be");
    Ok(())
}

/// Runs a change of the boot volume; what it changed is written down as `DEVICE:PATH`.
fn on_volume(
    context: &mut Context<'_>,
    boot: &BootVolume,
    change: impl FnOnce(&mut Recorder<'_>) -> Result<()>,
) {
    let mut recorder = Recorder::new(&boot.root);
    let done = change(&mut recorder);
    let (changes, ..) = recorder.finish();
    for change in changes {
        let path = format!("{}:{}", boot.device, change.path);
        let (before, after) = (change.before, change.after);
        context.recorder.record(&path, before, after, &change.why);
    }
    if let Err(error) = done {
        let message = format!("{}: {}", boot.device, error.chain());
        context.recorder.warn(message.clone());
        context.recorder.skip(message);
    }
}

/// \EFI\BOOT\BOOT….EFI is what firmware starts whose boot menu is empty (UEFI 2.10, section 3.5.1.1): after a restore, or a
/// move to another host without its variables.
fn fallback(context: &mut Context<'_>, boot: &BootVolume) {
    let guest_arch = context.guest.arch;
    on_volume(context, boot, |recorder| {
        let Some(manager) = files::find(&boot.root, EFI_MANAGER) else {
            return Ok(());
        };
        let arch = arch(&boot.root, &manager).unwrap_or(guest_arch);
        let name = match arch {
            Arch::X86_64 => "bootx64.efi",
            Arch::Aarch64 => "bootaa64.efi",
            Arch::I686 => "bootia32.efi",
            _ => return Ok(()),
        };
        let path = files::place(&boot.root, &format!("/EFI/BOOT/{name}"));
        let there = files::read(&boot.root, &path, MANAGER_MAX)?;
        let why = match &there {
            None => "firmware without a boot menu of its own starts it",
            Some(old) if is_microsofts(old) => return Ok(()),
            Some(_) => "firmware without a boot menu of its own started another system's loader",
        };
        let content = boot.root.read(&manager, MANAGER_MAX)?;
        if there.as_deref() == Some(content.as_slice()) {
            return Ok(());
        }
        let kept = format!("{path}{KEPT}");
        if let Some(old) = there.filter(|_| !boot.root.exists(&kept)) {
            recorder.write(
                &kept,
                &old,
                "the fallback loader as it was before the conversion",
            )?;
        }
        recorder.write(&path, &content, why)?;
        Ok(())
    });
}

/// Machine type of a program (Microsoft PE Format, "Machine Types").
fn arch(root: &Root, path: &str) -> Option<Arch> {
    let mut start = Vec::new();
    let file = root.open_file(path).ok()?;
    file.take(4096).read_to_end(&mut start).ok()?;
    crate::windows::inspect::version::program_arch(&start)
}

/// A boot manager says in its version resource, in UTF-16, whose it is.
fn is_microsofts(program: &[u8]) -> bool {
    let words: Vec<u8> = "bootmgr.exe"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let other: Vec<u8> = "bootmgfw.efi"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let holds = |words: &[u8]| program.windows(words.len()).any(|part| part == words);
    holds(&words) || holds(&other)
}

/// Opens a BCD, and says so where that is impossible.
fn read(context: &mut Context<'_>, root: &Root, path: &str) -> Option<Bcd> {
    Bcd::open(root, path).unwrap_or_else(|error| {
        let message = format!(
            "the boot configuration data can't be read, and is left as it is: {}",
            error.chain()
        );
        context.recorder.warn(message);
        None
    })
}

/// The BCD of a machine with UEFI.
fn boot_data(context: &mut Context<'_>, boot: &BootVolume) {
    let Some(mut bcd) = read(context, &boot.root, EFI_BCD) else {
        return;
    };
    check(context, &bcd);
    on_volume(context, boot, |recorder| {
        let objects = bcd.without_graphics();
        if objects.is_empty() {
            return Ok(());
        }
        for object in &objects {
            bcd.delete_element(object, GRAPHICS_MODE_DISABLED)?;
        }
        let path = bcd.path().to_owned();
        let kept = format!("{path}{KEPT}");
        if !boot.root.exists(&kept) {
            let content = boot.root.read(&path, MANAGER_MAX)?;
            recorder.write(&kept, &content, "the BCD as it was before the conversion")?;
        }
        let why = "a boot manager without graphics shows nothing on UEFI (graphicsmodedisabled)";
        recorder.write(&path, &bcd.to_bytes()?, why)?;
        Ok(())
    });
}

/// Looks whether the entry that starts by default leads to this Windows.
fn check(context: &mut Context<'_>, bcd: &Bcd) {
    let loaders = bcd.loaders();
    let Some(loader) = loaders.first() else {
        context.recorder.warn(
            "the boot configuration data has no entry that starts Windows; run `bcdboot C:\\Windows` from an installation medium if it does not start",
        );
        return;
    };
    let devices = &context.storage.devices;
    let places = partitions(loader, devices);
    let own = context.guest.root.as_str();
    let message = match &loader.os_device {
        None => None,
        Some(device) if !device.is_partition() => None,
        Some(_) if places.is_empty() => Some(format!(
            "the boot entry \"{}\" starts Windows from a partition that is on none of the disks; run `bcdboot` from an installation medium if it does not start",
            loader.description
        )),
        Some(_) if !places.contains(&own) && context.storage.get(own).is_some_and(is_partition) => {
            Some(format!(
                "by default the boot menu starts \"{}\" on {}, not the Windows that was converted",
                loader.description,
                places.join(" or ")
            ))
        }
        Some(_) => None,
    };
    if let Some(message) = message {
        context.recorder.warn(message);
    }
}

fn is_partition(device: &BlockDevice) -> bool {
    matches!(device.kind, DeviceKind::Partition { .. })
}

/// Partitions that a loader may mean.
fn partitions<'a>(loader: &Loader, devices: &'a [BlockDevice]) -> Vec<&'a str> {
    let matches = |device: &&BlockDevice| {
        let partuuid = device.partuuid.as_deref();
        loader
            .os_device
            .as_ref()
            .zip(partuuid)
            .is_some_and(|(wanted, partuuid)| wanted.may_be(partuuid))
    };
    let found = devices.iter().filter(matches);
    found.map(|device| device.name.as_str()).collect()
}

/// The entry that Windows itself makes in the firmware's menu.
fn entry(context: &mut Context<'_>, boot: &BootVolume) {
    let device = context.storage.get(&boot.device);
    let Some((disk, partition)) = device.and_then(|device| match device.kind {
        DeviceKind::Partition { disk, number } => Some((disk, number)),
        _ => None,
    }) else {
        context
            .recorder
            .skip("the EFI system partition is on no partition of a disk");
        return;
    };
    let Some(manager) = files::find(&boot.root, EFI_MANAGER) else {
        return;
    };
    context.boot_entries.push(BootEntry {
        description: "Windows Boot Manager".to_owned(),
        disk,
        partition,
        path: manager.replace('/', "\\"),
        arguments: None,
    });
}
