//! Storage drivers as boot drivers, offline: what Windows needs to find its disk on the new bus at its first start.
//!
//! | file | what |
//! |---|---|
//! | `driver` | what the .inf says of a driver, every name checked before it becomes a path or a key |
//! | `add_reg` | the .inf's AddReg lines |
//! | `names` | which names and ids are taken from an .inf |
//! | `service` | Services\NAME, in every control set that Windows may fall back to |
//! | `critical_devices` | before Windows 8: which service drives a device that was never seen |
//! | `driver_database` | from Windows 8 on: the same, as a driver package |
//! | `oem` | its published name: `oemN.inf` |
//! | `version` | its rank: date and version |
//! | `driver_store` | the package's files: FileRepository, INF, CatRoot |
//! | `binary` | the .sys in System32\drivers |
//! | `inbox` | Windows' own disk drivers: IDE and AHCI, for when there is no virtio driver, and for the CD drive |
//!
//! Both storage drivers are made boot drivers when both are at hand, so that a disk may be moved from one bus to the
//! other later. All is read and checked before the first change. A driver that the guest has already and that drives
//! all devices that ours does is left alone, but started at boot.
//!
//! ## The driver package of Windows 8 and later
//!
//! At boot the kernel looks for a device without a driver in `SYSTEM\DriverDatabase`: `DeviceIds\ID` names an .inf,
//! `DriverInfFiles\INF` its active package, `DriverPackages\PACKAGE` the rank (`Version`, `SignerScore`), the section for
//! the id (`Descriptors`) and what that section does (`Configurations`). Packages there are those that may be needed to
//! boot; the others are in the hive DRIVERS. The shape written here is that of real hives: third-party boot drivers of
//! 8.1 (VirtualBox's) and what Windows 11 itself wrote for viostor and vioscsi. So the driver is known by its own .inf
//! as `oemN.inf`, and its files are where the database says, so that `pnputil /enum-drivers`, an upgrade of Windows and
//! a newer driver all find what they expect.
//!
//! What differs from a package that Windows imported, and why:
//! - The 16 digits of the folder's name. Windows makes them from the package by a rule that is not published; they need
//!   only be unique. Ours are the first of the .inf's SHA-256. An import of the same driver by Windows adds a second
//!   package of the same version, and none of the two ranks above the other.
//! - `SignerName` and `SignerScore` are written where the catalog names a publisher that is known, else left out (as
//!   for a package of an unknown signer, which ranks last).
//! - No `Tag` (place within the load group): only drivers that must start before others of their group need one.
//! - No .pnf (a cache) and no entry in CatRoot2 (rebuilt from CatRoot).
//! - A driver that runs from the store (`%13%` in its .inf) runs from System32\drivers: the boot must not depend on
//!   Windows' opinion of the folder.

mod add_reg;
mod binary;
mod critical_devices;
mod driver;
mod driver_database;
mod driver_store;
mod inbox;
mod keys;
mod names;
mod oem;
mod service;
mod version;

#[cfg(test)]
mod tests;

use crate::Result;
use crate::windows::convert::Context;
use crate::windows::drivers::Role;
use crate::windows::drivers::inf::Platform;
use driver::Driver;

/// From this version on Windows has the driver database, and critical devices no more.
const DATABASE: (u32, u32) = (6, 2);

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let sets = control_sets(context);
    let drivers = drivers(context)?;
    for driver in &drivers {
        if (context.windows.major, context.windows.minor) >= DATABASE {
            modern(context, driver, &sets)?;
        } else {
            classic(context, driver, &sets)?;
        }
    }
    inbox::apply(context, &sets)?;
    if drivers.is_empty() {
        let reason = "there is no virtio storage driver for this Windows: it starts on SATA or IDE";
        context.recorder.skip(reason);
    }
    let reason = "the storage drivers are boot drivers already";
    context.recorder.not_needed(reason);
    Ok(())
}

/// The storage drivers that were chosen, each checked.
fn drivers(context: &Context<'_>) -> Result<Vec<Driver>> {
    let Some(platform) = Platform::of(context.windows, context.guest.arch) else {
        return Ok(Vec::new());
    };
    [Role::Block, Role::Scsi]
        .into_iter()
        .filter_map(|role| context.drivers.role(role))
        .map(|package| {
            let driver = Driver::read(package, platform)?;
            driver_store::check(context, &driver)?;
            Ok(driver)
        })
        .collect()
}

/// Those of the guest's control sets that are in its hive, each once. A hostile hive names none that is no control set.
fn control_sets(context: &Context<'_>) -> Vec<String> {
    let system = context.registry.system();
    let mut sets: Vec<String> = Vec::new();
    for set in &context.windows.control_sets {
        let is_set = set.len() == "ControlSet001".len()
            && set
                .get(..10)
                .is_some_and(|word| word.eq_ignore_ascii_case("ControlSet"))
            && set.bytes().skip(10).all(|byte| byte.is_ascii_digit());
        let is_new = !sets.iter().any(|known| known.eq_ignore_ascii_case(set));
        if is_set && is_new && system.has(set).unwrap_or(false) {
            sets.push(set.clone());
        }
    }
    sets
}

/// Windows 8 and later.
fn modern(context: &mut Context<'_>, driver: &Driver, sets: &[String]) -> Result<()> {
    driver_database::remove_stub(context, driver)?;
    let kept = service::is_installed(context, driver, sets)
        && driver_database::drives_all(context.registry.system(), driver);
    if kept {
        return service::keep(context, driver, sets);
    }
    let own = driver_store::folder(driver);
    let oem = oem::name(context, &own)?;
    binary::install(context, driver)?;
    let bytes = driver_store::install(context, driver, &own, &oem)?;
    let names = driver_database::Names { own, oem: &oem };
    driver_database::register(context, driver, &names, bytes)?;
    service::register(context, driver, sets, Some(&oem))
}

/// Before Windows 8.
fn classic(context: &mut Context<'_>, driver: &Driver, sets: &[String]) -> Result<()> {
    let current = sets.first().map_or("", String::as_str);
    let kept = service::is_installed(context, driver, sets)
        && critical_devices::drives_all(context.registry.system(), driver, current);
    if kept {
        service::keep(context, driver, sets)?;
    } else {
        binary::install(context, driver)?;
        service::register(context, driver, sets, None)?;
    }
    critical_devices::register(context, driver, sets)
}
