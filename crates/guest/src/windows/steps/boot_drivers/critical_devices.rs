//! CriticalDeviceDatabase (before Windows 8): a device with one of these ids gets this service before there is any
//! installation, because the disk behind it is needed for that. A key per id, `#` for `\`.

use registry::Hive;

use super::driver::Driver;
use super::keys::Keys;
use crate::Result;
use crate::windows::convert::Context;

/// Every id of the driver, in every control set.
pub(super) fn register(context: &mut Context<'_>, driver: &Driver, sets: &[String]) -> Result<()> {
    let why = format!("{} drives the disk from the first start on", driver.service);
    let mut keys = Keys::system(context, why);
    for set in sets {
        for (id, _) in driver.ids() {
            let key = key(set, id);
            keys.text(&key, "ClassGUID", &driver.class_guid.to_uppercase())?;
            keys.text(&key, "Service", &driver.service)?;
            // Names the package that the entry came from, and that is another one's.
            keys.delete_value(&key, "DriverPackageId")?;
        }
    }
    Ok(())
}

/// True when each model has an id that this service is for.
pub(super) fn drives_all(system: &Hive, driver: &Driver, set: &str) -> bool {
    let drives = |id: &String| {
        let service = system.value(&key(set, id), "Service");
        let service = service.ok().flatten().and_then(|value| value.as_text());
        service.is_some_and(|service| service.eq_ignore_ascii_case(&driver.service))
    };
    driver
        .models
        .iter()
        .all(|model| model.ids.iter().any(drives))
}

/// Of a device id.
pub(super) fn key(set: &str, id: &str) -> String {
    let id = id.replace('\\', "#");
    format!("{set}\\Control\\CriticalDeviceDatabase\\{id}")
}
