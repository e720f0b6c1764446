//! What Windows says of itself: the registry read, nothing changed.

mod adapters;
pub(crate) mod boot;
mod nsi;
pub(crate) mod reader;
mod roots;
mod tools;
pub(crate) mod version;

pub(crate) use adapters::hex_bytes;

use types::{GuestInfo, Mountpoint, OsType, StorageMap, WindowsInfo};

use crate::windows::concerns;
use crate::windows::hives::Registry;
use crate::{BootVolume, Error, ErrorKind, Result, Root};
use reader::Reader;

/// Control sets that are looked for: Windows makes a handful.
const CONTROL_SETS_MAX: usize = 32;

/// True when this file system holds a Windows.
pub(crate) fn is_root(root: &Root) -> bool {
    system_root(root).is_some()
}

/// Its directory as it is spelled on the disk; it need not be called Windows.
pub(crate) fn system_root(root: &Root) -> Option<String> {
    roots::system_roots(root).into_iter().next()
}

/// Describes it.
pub(crate) fn inspect(
    root: &Root,
    storage: &StorageMap,
    mountpoints: &[Mountpoint],
    boot: &[BootVolume],
) -> Result<GuestInfo> {
    let roots = roots::system_roots(root);
    let Some(system_root) = roots.first() else {
        let message = "expected a folder with System32/config/SYSTEM";
        return Err(Error::new(ErrorKind::NotFound, message));
    };
    let registry = Registry::open(root, system_root)?;
    let control_sets = control_sets(&registry)?;
    let current = control_sets.first().map_or("", String::as_str);
    let reader = Reader::new(&registry, current);
    let device = mountpoints.iter().find(|mount| mount.path == "/");
    let device = device.map_or("", |mount| mount.device.as_str());
    let partuuid = storage.get(device).and_then(|own| own.partuuid.as_deref());
    let boot = boot::choose(root, system_root, partuuid, boot);
    let mut info = WindowsInfo {
        system_root: system_root.clone(),
        drive: drive(&reader, partuuid),
        rtc_utc: reader
            .control()
            .is_set("Control\\TimeZoneInformation", "RealTimeIsUniversal"),
        boot_device: boot.map(|volume| volume.device.clone()),
        ..WindowsInfo::default()
    };
    version::read(&reader, &mut info);
    info.adapters = adapters::adapters(&reader);
    info.tools = tools::tools(&reader);
    info.sha2 = version::sha2(&reader, &info);
    info.control_sets.clone_from(&control_sets);
    let product_name = version::product_name(&reader, &info);
    let mut guest = GuestInfo {
        root: device.to_owned(),
        os: OsType::Windows,
        distro: "windows".to_owned(),
        version: format!("{}.{}.{}", info.major, info.minor, info.build),
        osinfo_id: version::osinfo_id(&info, &product_name),
        product_name,
        hostname: hostname(&reader),
        arch: version::arch(&reader, root, system_root),
        mountpoints: mountpoints.to_vec(),
        boot_loaders: boot::boot_loaders(root, boot),
        hypervisor_tools: info.tools.iter().map(|tool| tool.name.clone()).collect(),
        has_guest_agent: tools::has_guest_agent(&reader),
        windows: Some(info),
        ..GuestInfo::default()
    };
    guest.concerns = concerns::concerns(root, storage, &reader, &guest, &roots);
    Ok(guest)
}

/// The one that runs first, then those that Windows may fall back to.
fn control_sets(registry: &Registry) -> Result<Vec<String>> {
    let system = reader::Keys::new(registry.system());
    let mut sets: Vec<String> = ["Current", "Default", "LastKnownGood"]
        .iter()
        .filter_map(|name| system.number("Select", name))
        .map(|number| format!("ControlSet{number:03}"))
        .filter(|set| system.has(set))
        .collect();
    let is_set = |name: &String| {
        let number = name.get(..10).zip(name.get(10..));
        number.is_some_and(|(start, number)| {
            start.eq_ignore_ascii_case("ControlSet")
                && number.len() == 3
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    sets.extend(system.keys("").into_iter().filter(is_set));
    let mut once: Vec<String> = Vec::new();
    for set in sets {
        if !once.iter().any(|known| known.eq_ignore_ascii_case(&set)) {
            once.push(set);
        }
    }
    once.truncate(CONTROL_SETS_MAX);
    if once.is_empty() {
        return Err(Error::corrupt(
            "expected a control set in the registry, found none",
        ));
    }
    Ok(once)
}

fn hostname(reader: &Reader<'_>) -> Option<String> {
    let control = reader.control();
    let tcpip = "Services\\Tcpip\\Parameters";
    control
        .text(tcpip, "NV Hostname")
        .or_else(|| control.text(tcpip, "Hostname"))
        .or_else(|| control.text("Control\\ComputerName\\ComputerName", "ComputerName"))
}

/// The letter of its own volume: the one that the partition is known by (a GPT's GUID is unique), else the one that Windows
/// writes down at each start.
fn drive(reader: &Reader<'_>, partuuid: Option<&str>) -> String {
    let mounted = reader.system().values("MountedDevices");
    let by_partition = mounted.iter().find_map(|(name, value)| {
        let letter = name.strip_prefix("\\DosDevices\\")?.strip_suffix(':')?;
        let guid = value.data.strip_prefix(b"DMIO:ID:")?.first_chunk::<16>()?;
        let same = partuuid?.eq_ignore_ascii_case(&types::Guid(*guid).to_string());
        (same && is_letter(letter)).then(|| letter.to_ascii_uppercase())
    });
    let written = || {
        let key = "Microsoft\\Windows NT\\CurrentVersion";
        let software = reader.software();
        let path = software
            .text(key, "SystemRoot")
            .or_else(|| software.text(key, "PathName"))?;
        let (letter, _) = path.split_once(':')?;
        is_letter(letter).then(|| letter.to_ascii_uppercase())
    };
    by_partition
        .or_else(written)
        .unwrap_or_else(|| "C".to_owned())
}

fn is_letter(text: &str) -> bool {
    text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}
