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

use std::time::{SystemTime, UNIX_EPOCH};

use registry::{Hive, Kind, Value};

use super::driver::Driver;
use super::driver_store;
use super::keys::Keys;
use super::names;
use crate::windows::convert::Context;
use crate::windows::drivers::inf::Platform;
use crate::windows::files;
use crate::{Error, ErrorKind, Result};

const DEVICE_IDS: &str = "DriverDatabase\\DeviceIds";
const INF_FILES: &str = "DriverDatabase\\DriverInfFiles";
const PACKAGES: &str = "DriverDatabase\\DriverPackages";
/// Where Windows notes which files the installation of drivers protects.
const LOCKED_FILES: &str = "Microsoft\\Windows\\CurrentVersion\\Setup\\PnpLockdownFiles";
/// Of a package that can be installed, as nearly all inbox packages of 8.1 and viostor's of 11 have it.
const STATUS_FLAGS: u32 = 0x12;
/// Windows numbers its published .inf files from 0; more are refused.
const OEM_MAX: usize = 10_000;
/// What virt-v2v registers in place of a driver package; there are no files behind it.
const STUB: &str = "guestor.inf";
/// Seconds from 1601 to 1970, and units of a FILETIME in a second.
const EPOCHS: u64 = 11_644_473_600;
const FILETIME_SECOND: u64 = 10_000_000;

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

/// The published name: that which the package has already, else `oemN.inf` with the lowest free number, as Windows
/// chooses it.
pub(super) fn oem_name(context: &Context<'_>, own: &str) -> Result<String> {
    let system = context.registry.system();
    let known = system.value(&format!("{PACKAGES}\\{own}"), "");
    let known = known.ok().flatten().and_then(|value| value.as_text());
    if let Some(name) = known.filter(|name| number(name).is_some()) {
        return Ok(name);
    }
    let used = used(context);
    let free = (0..OEM_MAX).find(|at| !used.contains(at)).ok_or_else(|| {
        let message = format!("expected fewer than {OEM_MAX} third-party drivers");
        Error::new(ErrorKind::Limit, message)
    })?;
    Ok(format!("oem{free}.inf"))
}

/// Numbers that are taken: by the database's map, by its keys, by files.
fn used(context: &Context<'_>) -> Vec<usize> {
    let system = context.registry.system();
    let dir = format!("{}/INF", context.windows.system_root);
    let dir = files::place(context.root, &dir);
    let names = context.root.names(&dir).into_iter();
    let names = names.chain(system.keys(INF_FILES).unwrap_or_default());
    let mut used: Vec<usize> = names.filter_map(|name| number(&name)).collect();
    let map = map(system);
    used.extend(
        (0..OEM_MAX.min(map.len().saturating_mul(8)))
            .filter(|at| map.get(at / 8).is_some_and(|byte| byte & bit(*at) != 0)),
    );
    used
}

/// OemInfMap: a bit for each number, the highest of a byte first.
fn map(system: &Hive) -> Vec<u8> {
    let map = system.value("DriverDatabase", "OemInfMap").ok().flatten();
    map.filter(|map| map.kind == Kind::BINARY)
        .map(|map| map.data)
        .unwrap_or_default()
}

fn bit(at: usize) -> u8 {
    0x80 >> (at % 8)
}

/// N of `oemN.inf`.
fn number(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let digits = name.strip_prefix("oem")?.strip_suffix(".inf")?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
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
    claim_number(&mut keys, names.oem)?;
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

fn claim_number(keys: &mut Keys<'_, '_>, oem: &str) -> Result<()> {
    let at = number(oem).unwrap_or(0);
    let map = keys.value("DriverDatabase", "OemInfMap")?;
    let mut map = map.map(|map| map.data).unwrap_or_default();
    if map.len() <= at / 8 {
        map.resize(at / 8 + 1, 0);
    }
    if let Some(byte) = map.get_mut(at / 8) {
        *byte |= bit(at);
    }
    keys.set("DriverDatabase", "OemInfMap", &Value::binary(map))?;
    Ok(())
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
    keys.set(&key, "Version", &Value::binary(version(driver)?))?;
    if !facts.ten {
        return Ok(());
    }
    if let Some(catalog) = driver_store::catalog(driver)? {
        keys.text(&key, "Catalog", &catalog)?;
    }
    keys.set(&key, "FileSize", &Value::qword(facts.bytes))?;
    if facts.is_new {
        let now = Value::binary(filetime_now().to_le_bytes());
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

/// 48 bytes: the processor, the class, date and version of the driver. The first two bytes are 00 ff for a third
/// party's package (ff ff for Windows' own), the last 8 are 0.
fn version(driver: &Driver) -> Result<Vec<u8>> {
    let ((year, month, day), numbers) = driver.version;
    let mut value = vec![0x00, 0xff];
    value.extend(processor(driver.platform).to_le_bytes());
    value.extend([0; 4]);
    value.extend(guid(&driver.class_guid)?);
    value.extend(filetime_of(year, month, day)?.to_le_bytes());
    value.extend(numbers.iter().rev().flat_map(|number| number.to_le_bytes()));
    value.extend([0; 8]);
    Ok(value)
}

/// PROCESSOR_ARCHITECTURE_* (winnt.h).
fn processor(platform: Platform) -> u16 {
    match platform.arch {
        "amd64" => 9,
        "arm64" => 12,
        _ => 0,
    }
}

/// A GUID in memory: its first three numbers are little-endian.
fn guid(text: &str) -> Result<[u8; 16]> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16);
    let number = number.map_err(|_| Error::corrupt("expected a GUID"))?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = number.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    Ok([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// Midnight (UTC) of a day of the Gregorian calendar.
fn filetime_of(year: u16, month: u16, day: u16) -> Result<u64> {
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = match month {
        1 | 2 => (u64::from(year).checked_sub(1), u64::from(month) + 9),
        _ => (Some(u64::from(year)), u64::from(month).saturating_sub(3)),
    };
    let days = year.map(|year| {
        let leap = year / 4 + year / 400 - year / 100;
        year * 365 + leap + (153 * month + 2) / 5 + u64::from(day)
    });
    /// The same count for 1601-01-01.
    const FIRST: u64 = 584_695;
    let since = days.and_then(|days| days.checked_sub(FIRST));
    since
        .map(|days| days * 24 * 60 * 60 * FILETIME_SECOND)
        .ok_or_else(|| Error::corrupt("expected a date of DriverVer after 1600"))
}

fn filetime_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_secs() + EPOCHS) * FILETIME_SECOND
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_guids_are_those_of_real_hives() {
        // viostor 100.90.104.21500 of 2021-12-02 as Windows 11 wrote it, VirtualBox 5.0.26 of 2016-07-18 as 8.1 did.
        assert_eq!(
            filetime_of(2021, 12, 2).unwrap().to_le_bytes(),
            [0x00, 0xc0, 0x97, 0x8c, 0x0f, 0xe7, 0xd7, 0x01]
        );
        assert_eq!(
            filetime_of(2016, 7, 18).unwrap().to_le_bytes(),
            [0x00, 0x80, 0xb4, 0x53, 0x87, 0xe0, 0xd1, 0x01]
        );
        assert_eq!(filetime_of(1601, 1, 1).unwrap(), 0);
        assert_eq!(filetime_of(1970, 1, 1).unwrap(), EPOCHS * FILETIME_SECOND);
        assert!(filetime_of(1600, 12, 31).is_err() && filetime_of(0, 1, 1).is_err());
        let scsi = [
            0x7b, 0xe9, 0x36, 0x4d, 0x25, 0xe3, 0xce, 0x11, 0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1,
            0x03, 0x18,
        ];
        assert_eq!(
            guid("{4d36e97b-e325-11ce-bfc1-08002be10318}").unwrap(),
            scsi
        );
    }

    #[test]
    fn published_names_have_a_number() {
        assert_eq!(number("OEM12.INF"), Some(12));
        for name in [
            "oem.inf",
            "oem1.pnf",
            "oem-1.inf",
            "oem1x.inf",
            "disk.inf",
            "oem+1.inf",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
        assert_eq!((bit(0), bit(2), bit(8)), (0x80, 0x20, 0x80));
    }
}
