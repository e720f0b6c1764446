//! Windows' own drivers of disks: on, so that the guest starts on SATA or IDE too, and its CD drive works.
//!
//! - A physical machine with its disk on a RAID controller, or a guest on VMware's SCSI, has AHCI and IDE switched off:
//!   STOP 0x7B on the first start elsewhere (KB 922976; from Windows 8 on it is StartOverride that does it).
//! - Windows XP and Server 2003 know only the IDE controller that they were installed on (KB 314082).
//! - XP's and 2003's processor drivers manage power states that a virtual processor has not. On a processor of another
//!   make than the old one they end in STOP 0x7E (KB 953356).
//!
//! Nothing is started whose file is not there: a boot driver with ErrorControl=3 that cannot be loaded stops Windows.

use registry::Value;

use super::binary;
use super::critical_devices;
use super::keys::{Keys, below};
use super::service::{self, BOOT_START, KERNEL_DRIVER};
use crate::Result;
use crate::windows::convert::Context;
use crate::windows::files;

/// No disk of any bus works without these.
const BELOW_ALL: [&str; 6] = ["disk", "partmgr", "mountmgr", "volmgr", "ftdisk", "pci"];
/// Vista to 7 / 2008 R2, and 8 and later.
const CONTROLLERS_6: [&str; 4] = ["msahci", "atapi", "intelide", "pciide"];
const CONTROLLERS_8: [&str; 4] = ["storahci", "atapi", "intelide", "pciide"];
/// Managers of the processor's power states in XP and 2003.
const PROCESSORS: [&str; 8] = [
    "intelppm",
    "AmdPPM",
    "AmdK8",
    "AmdK7",
    "AmdK6",
    "P3",
    "Crusoe",
    "Processor",
];
/// SERVICE_DISABLED (winnt.h).
const DISABLED: u32 = 4;

const HDC: &str = "{4D36E96A-E325-11CE-BFC1-08002BE10318}";
const DISK_DRIVE: &str = "{4D36E967-E325-11CE-BFC1-08002BE10318}";

/// IDE of XP and 2003: service, load order group, place in it (KB 314082).
const IDE_SERVICES: [(&str, &str, u32); 3] = [
    ("atapi", "SCSI miniport", 25),
    ("intelide", "System Bus Extender", 4),
    ("pciide", "System Bus Extender", 3),
];
/// Loaded with those.
const IDE_LIBRARY: &str = "pciidex.sys";
/// What QEMU's machines have: PIIX3 (i440FX), PIIX4, any other controller by its class.
const CRITICAL: [(&str, &str, &str); 7] = [
    ("Primary_IDE_Channel", "atapi", HDC),
    ("Secondary_IDE_Channel", "atapi", HDC),
    ("GenDisk", "disk", DISK_DRIVE),
    ("PCI\\CC_0101", "pciide", HDC),
    ("PCI\\VEN_8086&DEV_7010", "intelide", HDC),
    ("PCI\\VEN_8086&DEV_7111", "intelide", HDC),
    // Vista and 7 have a driver for it.
    ("PCI\\CC_010601", "msahci", HDC),
];
/// Where XP and 2003 keep their drivers besides, unpacked.
const COPIES: [&str; 4] = [
    "System32/dllcache",
    "ServicePackFiles/i386",
    "ServicePackFiles/amd64",
    "Driver Cache/i386",
];

/// All of it, in every control set.
pub(super) fn apply(context: &mut Context<'_>, sets: &[String]) -> Result<()> {
    let version = (context.windows.major, context.windows.minor);
    let old = version < (6, 0);
    if old {
        ide_files(context)?;
    }
    for set in sets {
        for name in BELOW_ALL {
            start(context, set, name)?;
        }
        if old {
            ide_services(context, set)?;
            processors(context, set)?;
        }
        let controllers = if version < super::DATABASE {
            CONTROLLERS_6
        } else {
            CONTROLLERS_8
        };
        for name in controllers {
            start(context, set, name)?;
        }
        if version < super::DATABASE {
            critical(context, set)?;
        }
    }
    Ok(())
}

/// Starts a service at boot, if it is there and its file is.
fn start(context: &mut Context<'_>, set: &str, name: &str) -> Result<()> {
    let key = service::key(set, name);
    let system = context.registry.system();
    let start = system.value(&key, "Start").ok().flatten();
    let starts = start.and_then(|start| start.as_u32()) == Some(BOOT_START);
    let overridden = system.has(&below(&key, "StartOverride")).unwrap_or(false);
    if (starts && !overridden) || !is_usable(context, set, name) {
        return Ok(());
    }
    let why =
        format!("{name} is needed at boot: the disk or the CD drive is on another controller");
    service::start_at_boot(&mut Keys::system(context, why), &key)
}

/// It is a driver, and its file is there.
fn is_usable(context: &Context<'_>, set: &str, name: &str) -> bool {
    let key = service::key(set, name);
    let value = |value: &str| context.registry.system().value(&key, value).ok().flatten();
    let image = value("ImagePath").and_then(|image| image.as_text());
    let file = match &image {
        Some(image) => service::file_name(image).to_owned(),
        None => format!("{name}.sys"),
    };
    let kind = value("Type").and_then(|kind| kind.as_u32());
    kind == Some(KERNEL_DRIVER) && binary::is_there(context, &file)
}

/// Drivers of IDE that XP or 2003 did not install, from the copies that it keeps.
fn ide_files(context: &mut Context<'_>) -> Result<()> {
    let mut missing = Vec::new();
    let names = IDE_SERVICES.iter().map(|(name, ..)| format!("{name}.sys"));
    for file in names.chain([IDE_LIBRARY.to_owned()]) {
        if binary::is_there(context, &file) {
            continue;
        }
        let root = &context.windows.system_root;
        let copy = COPIES
            .iter()
            .find_map(|dir| files::find(context.root, &format!("{root}/{dir}/{file}")));
        match copy {
            Some(copy) => {
                let path = binary::place(context, &file);
                let why = "IDE, which the machine had not";
                context.recorder.copy(&copy, &path, why)?;
            }
            None => missing.push(file),
        }
    }
    if !missing.is_empty() {
        context.recorder.warn(format!(
            "Windows has no {}: it does not start from an IDE disk; copy the file from its CD (DRIVER.CAB, SP3.CAB) to \
             System32\\drivers and convert again",
            missing.join(", ")
        ));
    }
    Ok(())
}

/// Services of IDE that XP or 2003 did not install.
fn ide_services(context: &mut Context<'_>, set: &str) -> Result<()> {
    for (name, group, tag) in IDE_SERVICES {
        let key = service::key(set, name);
        let file = format!("{name}.sys");
        let library = name == "atapi" || binary::is_there(context, IDE_LIBRARY);
        let there = context.registry.system().has(&key).unwrap_or(false);
        if !there && library && binary::is_there(context, &file) {
            let mut keys = Keys::system(context, "IDE, which the machine had not");
            keys.dword(&key, "Type", KERNEL_DRIVER)?;
            keys.dword(&key, "Start", BOOT_START)?;
            keys.dword(&key, "ErrorControl", 1)?;
            keys.text(&key, "Group", group)?;
            keys.dword(&key, "Tag", tag)?;
            let image = Value::expand(&format!("System32\\DRIVERS\\{file}"));
            keys.set(&key, "ImagePath", &image)?;
        }
    }
    Ok(())
}

/// Devices that this Windows does not know; what it knows stays.
fn critical(context: &mut Context<'_>, set: &str) -> Result<()> {
    for (id, name, class) in CRITICAL {
        let key = critical_devices::key(set, id);
        let system = context.registry.system();
        let known = system.value(&key, "Service").ok().flatten().is_some();
        if !known && is_usable(context, set, name) {
            let why = "a controller that the machine had not";
            let mut keys = Keys::system(context, why);
            keys.text(&key, "ClassGUID", class)?;
            keys.text(&key, "Service", name)?;
        }
    }
    Ok(())
}

/// Off.
fn processors(context: &mut Context<'_>, set: &str) -> Result<()> {
    for name in PROCESSORS {
        let key = service::key(set, name);
        let mut keys = Keys::system(context, "a virtual processor has no power states");
        if keys.has(&key)? {
            keys.dword(&key, "Start", DISABLED)?;
        }
    }
    Ok(())
}
