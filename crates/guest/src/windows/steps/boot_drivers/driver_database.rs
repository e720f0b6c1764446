//! DriverDatabase of SYSTEM (Windows 8 and later): the driver package as Windows registers one that it has imported.
//! There is no specification; the layout is that of real hives (see the module above).
//!
//! ```text
//! DeviceIds\PCI\VEN_…          oemN.inf = 01 ff 00 00      kind of id, feature score, place among the compatible ids
//! DeviceIds\{class}            oemN.inf = (none)
//! DriverInfFiles\oemN.inf      Active = viostor.inf_amd64_…
//! DriverPackages\viostor.inf_amd64_…                       Version, signer, InfName …
//!     Descriptors\PCI\VEN_…    Configuration = scsi_inst   and names for people
//!     Configurations\scsi_inst Service = viostor           what the section sets for the device and the service
//!     Strings                  texts behind %token%
//! ```

use registry::{Hive, Kind, Value};

use super::driver::Driver;
use super::driver_store;
use super::keys::Keys;
use super::names;
use super::oem;
use super::version;
use crate::windows::convert::Context;
use crate::{Error, Result};

const DEVICE_IDS: &str = "DriverDatabase\\DeviceIds";
pub(super) const INF_FILES: &str = "DriverDatabase\\DriverInfFiles";
pub(super) const PACKAGES: &str = "DriverDatabase\\DriverPackages";
/// Where Windows notes which files the installation of drivers protects.
const LOCKED_FILES: &str = "Microsoft\\Windows\\CurrentVersion\\Setup\\PnpLockdownFiles";
/// Of a package that can be installed, as nearly all inbox packages of 8.1 and viostor's of 11 have it.
const STATUS_FLAGS: u32 = 0x12;
/// What virt-v2v registers in place of a driver package; there are no files behind it.
const STUB: &str = "guestor.inf";

/// By which names the package is known.
#[derive(Clone, Debug)]
pub(super) struct Names<'n> {
    /// Of its folder and its key: `viostor.inf_amd64_0123456789abcdef`.
    pub(super) own: String,
    /// Of its published .inf: `oem3.inf`.
    pub(super) oem: &'n str,
}

/// True when each model has an id for which a package of this driver is active.
pub(super) fn drives_all(system: &Hive, driver: &Driver) -> bool {
    let prefix = format!("{}_", driver.inf_name);
    let is_ours = |inf: &str| {
        let active = system.value(&format!("{INF_FILES}\\{inf}"), "Active");
        let active = active.ok().flatten().and_then(|value| value.as_text());
        active.is_some_and(|active| {
            active.to_lowercase().starts_with(&prefix)
                && system
                    .has(&format!("{PACKAGES}\\{active}"))
                    .unwrap_or(false)
        })
    };
    let drives = |id: &String| {
        let infs = system
            .values(&format!("{DEVICE_IDS}\\{id}"))
            .unwrap_or_default();
        infs.iter().any(|(inf, _)| is_ours(inf))
    };
    driver
        .models
        .iter()
        .all(|model| model.ids.iter().any(drives))
}

/// Writes all of it; `bytes` is what the package's files have together.
pub(super) fn register(
    context: &mut Context<'_>,
    driver: &Driver,
    names: &Names<'_>,
    bytes: u64,
) -> Result<()> {
    let why = format!("{} is the driver package of the disk", driver.inf_name);
    let is_new = !context
        .registry
        .system()
        .has(&package(names))
        .unwrap_or(false);
    let facts = Facts {
        ten: context.windows.major >= 10,
        is_new,
        bytes,
        scope: config_scope(context.registry.system()),
        signer: driver_store::signer(context, driver),
        oem_path: oem_path(context),
    };
    let mut keys = Keys::system(context, why);
    oem::claim(&mut keys, names.oem)?;
    inf_file(&mut keys, driver, names)?;
    device_ids(&mut keys, driver, names.oem)?;
    describe(&mut keys, driver, names, &facts)?;
    configurations(&mut keys, driver, names, &facts)?;
    descriptors(&mut keys, driver, names)?;
    lock(context, driver, names)
}

/// What the guest and the package say besides the .inf.
struct Facts {
    /// Windows 10 or later.
    ten: bool,
    /// The package was not there.
    is_new: bool,
    bytes: u64,
    scope: Option<u32>,
    signer: Option<(String, u32)>,
    oem_path: String,
}

fn package(names: &Names<'_>) -> String {
    format!("{PACKAGES}\\{}", names.own)
}

fn inf_file(keys: &mut Keys<'_, '_>, driver: &Driver, names: &Names<'_>) -> Result<()> {
    let key = format!("{INF_FILES}\\{}", names.oem);
    keys.set(&key, "", &Value::multi(&[&names.own]))?;
    keys.text(&key, "Active", &names.own)?;
    keys.set(&key, "Configurations", &Value::multi(&[&driver.section]))?;
    Ok(())
}

fn device_ids(keys: &mut Keys<'_, '_>, driver: &Driver, oem: &str) -> Result<()> {
    const HARDWARE: u8 = 1;
    const COMPATIBLE: u8 = 2;
    const FEATURE_SCORE: u8 = 0xff;
    for (id, place) in driver.ids() {
        let (kind, order) = match place.checked_sub(1) {
            None => (HARDWARE, 0),
            Some(order) => (COMPATIBLE, u16::try_from(order).unwrap_or(u16::MAX)),
        };
        let [low, high] = order.to_le_bytes();
        let value = Value::binary([kind, FEATURE_SCORE, low, high]);
        keys.set(&format!("{DEVICE_IDS}\\{id}"), oem, &value)?;
    }
    let none = Value {
        kind: Kind::NONE,
        data: Vec::new(),
    };
    keys.set(&format!("{DEVICE_IDS}\\{}", driver.class_guid), oem, &none)?;
    Ok(())
}

fn describe(
    keys: &mut Keys<'_, '_>,
    driver: &Driver,
    names: &Names<'_>,
    facts: &Facts,
) -> Result<()> {
    let key = package(names);
    keys.text(&key, "", names.oem)?;
    keys.text(&key, "InfName", &driver.inf_name)?;
    keys.text(&key, "OemPath", &facts.oem_path)?;
    keys.text(&key, "Provider", &driver.provider)?;
    if let Some((name, score)) = &facts.signer {
        keys.text(&key, "SignerName", name)?;
        keys.dword(&key, "SignerScore", *score)?;
    }
    keys.dword(&key, "StatusFlags", STATUS_FLAGS)?;
    keys.set(&key, "Version", &Value::binary(version::of(driver)?))?;
    if !facts.ten {
        return Ok(());
    }
    if let Some(catalog) = driver_store::catalog(driver)? {
        keys.text(&key, "Catalog", &catalog)?;
    }
    keys.set(&key, "FileSize", &Value::qword(facts.bytes))?;
    if facts.is_new {
        let now = Value::binary(version::filetime_now().to_le_bytes());
        keys.set(&key, "ImportDate", &now)?;
        keys.set("DriverDatabase", "UpdateDate", &now)?;
    }
    Ok(())
}

fn configurations(
    keys: &mut Keys<'_, '_>,
    driver: &Driver,
    names: &Names<'_>,
    facts: &Facts,
) -> Result<()> {
    let key = format!("{}\\Configurations\\{}", package(names), driver.section);
    keys.dword(&key, "ConfigFlags", 0)?;
    if let Some(scope) = facts.scope {
        keys.dword(&key, "ConfigScope", scope)?;
    }
    keys.text(&key, "Service", &driver.service)?;
    keys.keep(&format!("{key}\\Device"), &driver.device)?;
    let services = format!("{key}\\Services\\{}", driver.service);
    keys.create(&services)?;
    keys.keep(&services, &driver.settings)
}

fn descriptors(keys: &mut Keys<'_, '_>, driver: &Driver, names: &Names<'_>) -> Result<()> {
    let base = package(names);
    let mut named = |text: &str| match driver.token(text) {
        Some(token) => {
            keys.text(&format!("{base}\\Strings"), &token, text)?;
            Ok::<_, Error>(format!("%{token}%"))
        }
        None => Ok(text.to_owned()),
    };
    let manufacturer = named(&driver.manufacturer)?;
    let mut described: Vec<(&String, String)> = Vec::new();
    for model in &driver.models {
        let description = named(&model.description)?;
        described.extend(model.ids.iter().map(|id| (id, description.clone())));
    }
    for (id, description) in described {
        let key = format!("{base}\\Descriptors\\{id}");
        keys.text(&key, "Configuration", &driver.section)?;
        keys.text(&key, "Description", &description)?;
        keys.text(&key, "Manufacturer", &manufacturer)?;
    }
    Ok(())
}

/// The driver's file belongs to the package: it goes when the package is deleted.
fn lock(context: &mut Context<'_>, driver: &Driver, names: &Names<'_>) -> Result<()> {
    /// Of the files of a third-party package whose .inf has PnpLockdown=1 in [Version], and of others.
    const PROTECTED: u32 = 4;
    const PLAIN: u32 = 5;
    let section = driver.package.inf.section("Version");
    let lines = section.map_or(&[][..], |section| &section.lines);
    let is_locked = lines.iter().any(|line| {
        let key = line.key.as_deref().unwrap_or_default();
        key.eq_ignore_ascii_case("PnpLockdown") && line.fields.first().is_some_and(|on| on == "1")
    });
    let key = format!(
        "{LOCKED_FILES}\\%SystemRoot%/System32/drivers/{}",
        driver.file
    );
    let source = format!(
        "%SystemRoot%\\System32\\DriverStore\\FileRepository\\{}\\{}",
        names.own, driver.file
    );
    let why = format!("{} belongs to {}", driver.file, names.oem);
    let mut keys = Keys::software(context, why);
    keys.dword(&key, "Class", if is_locked { PROTECTED } else { PLAIN })?;
    keys.set(&key, "Owners", &Value::multi(&[names.oem]))?;
    keys.set(&key, "Source", &Value::expand(&source))?;
    Ok(())
}

/// Removes what virt-v2v registered in an earlier conversion.
pub(super) fn remove_stub(context: &mut Context<'_>, driver: &Driver) -> Result<()> {
    let why = "stands for a driver package that does not exist, which stops upgrades of Windows";
    let mut keys = Keys::system(context, why);
    keys.delete_key(&format!("{INF_FILES}\\{STUB}"))?;
    keys.delete_key(&format!("{PACKAGES}\\{STUB}_tmp"))?;
    for (id, _) in driver.ids() {
        keys.delete_value(&format!("{DEVICE_IDS}\\{id}"), STUB)?;
    }
    Ok(())
}

/// ConfigScope as this Windows writes it for a disk driver of its own: Windows 8.1 has none, 10 and 11 differ.
fn config_scope(system: &Hive) -> Option<u32> {
    ["mshdc.inf", "disk.inf"].into_iter().find_map(|inf| {
        let active = system.value(&format!("{INF_FILES}\\{inf}"), "Active");
        let active = names::key(&active.ok().flatten()?.as_text()?).ok()?;
        let base = format!("{PACKAGES}\\{active}\\Configurations");
        let sections = system.keys(&base).ok()?;
        sections.iter().find_map(|section| {
            let scope = system.value(&format!("{base}\\{section}"), "ConfigScope");
            scope.ok().flatten()?.as_u32()
        })
    })
}

/// Where the administrator finds the drivers in the guest (the step driver-store puts them there).
fn oem_path(context: &Context<'_>) -> String {
    let root = context.windows.system_root.replace('/', "\\");
    format!("{}:{root}\\Drivers\\VirtIO", context.windows.drive)
}
