//! Services\NAME of a storage driver, in every control set that Windows may fall back to.

use registry::Value;

use super::binary;
use super::driver::Driver;
use super::keys::{Keys, below};
use crate::Result;
use crate::windows::convert::Context;

/// SERVICE_KERNEL_DRIVER (winnt.h).
pub(super) const KERNEL_DRIVER: u32 = 1;
/// SERVICE_BOOT_START: the loader reads it with the kernel.
pub(super) const BOOT_START: u32 = 0;

/// True when the current control set has the service and its file is there.
pub(super) fn is_installed(context: &Context<'_>, driver: &Driver, sets: &[String]) -> bool {
    let system = context.registry.system();
    let there = |set: &String| {
        let image = system.value(&key(set, &driver.service), "ImagePath");
        let image = image.ok().flatten().and_then(|value| value.as_text());
        image.is_some_and(|image| file_name(&image).eq_ignore_ascii_case(&driver.file))
    };
    sets.first().is_some_and(there) && binary::is_there(context, &driver.file)
}

/// Leaves the guest's own driver as it is, but starts it at boot in every control set.
pub(super) fn keep(context: &mut Context<'_>, driver: &Driver, sets: &[String]) -> Result<()> {
    for set in sets {
        let key = key(set, &driver.service);
        if !context.registry.system().has(&key).unwrap_or(false) {
            write(context, driver, set, None)?;
        }
        let why = format!("{} drives the disk that Windows is on", driver.service);
        start_at_boot(&mut Keys::system(context, why), &key)?;
    }
    Ok(())
}

/// Writes the service as the .inf has it; `oem` is the published name of the .inf from Windows 8 on.
pub(super) fn register(
    context: &mut Context<'_>,
    driver: &Driver,
    sets: &[String],
    oem: Option<&str>,
) -> Result<()> {
    sets.iter()
        .try_for_each(|set| write(context, driver, set, oem))
}

fn write(context: &mut Context<'_>, driver: &Driver, set: &str, oem: Option<&str>) -> Result<()> {
    let why = format!("{} is a boot driver", driver.service);
    let mut keys = Keys::system(context, why);
    let key = key(set, &driver.service);
    keys.dword(&key, "Type", KERNEL_DRIVER)?;
    keys.dword(&key, "ErrorControl", driver.error_control)?;
    if let Some(group) = &driver.group {
        keys.text(&key, "Group", group)?;
    }
    // Relative to SystemRoot, as Windows writes it for boot drivers: the loader has no \SystemRoot yet.
    let image = format!("system32\\drivers\\{}", driver.file);
    keys.set(&key, "ImagePath", &Value::expand(&image))?;
    if let Some(name) = &driver.display {
        let name = match (oem, driver.token(name)) {
            (Some(oem), Some(token)) => format!("@{oem},%{token}%;{name}"),
            _ => name.clone(),
        };
        keys.text(&key, "DisplayName", &name)?;
    }
    if let Some(oem) = oem {
        keys.set(&key, "Owners", &Value::multi(&[oem]))?;
    }
    keys.apply(&key, &driver.settings)?;
    let log = format!("{set}\\Services\\EventLog\\System\\{}", driver.service);
    keys.apply(&log, &driver.events)?;
    start_at_boot(&mut keys, &key)
}

/// Start=0, and no StartOverride: Windows 8 and later put one beside boot drivers that the hardware did not need, by the
/// number of the hardware configuration; with 3 in it the driver is not loaded at boot.
pub(super) fn start_at_boot(keys: &mut Keys<'_, '_>, key: &str) -> Result<()> {
    keys.dword(key, "Start", BOOT_START)?;
    keys.delete_key(&below(key, "StartOverride"))?;
    Ok(())
}

/// Of a service.
pub(super) fn key(set: &str, service: &str) -> String {
    format!("{set}\\Services\\{service}")
}

/// Last component of an ImagePath.
pub(super) fn file_name(image: &str) -> &str {
    image.rsplit(['\\', '/']).next().unwrap_or_default()
}
