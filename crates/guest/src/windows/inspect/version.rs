//! Which Windows it is: versions, the name for people, the architecture, libosinfo's id.

use std::io::Read;

use types::{Arch, WindowsInfo};

use super::reader::Reader;
use crate::Root;
use crate::windows::files;

const CURRENT_VERSION: &str = "Microsoft\\Windows NT\\CurrentVersion";
/// The first build of Windows 11; its ProductName still says 10.
const WINDOWS_11: u32 = 22000;
/// Headers of a program are in its first 4 KiB.
const PE_START: u64 = 4096;

/// Versions, edition and kind of installation.
pub(super) fn read(reader: &Reader<'_>, info: &mut WindowsInfo) {
    let software = reader.software();
    let text = |name: &str| software.text(CURRENT_VERSION, name);
    let number = |name: &str| software.number(CURRENT_VERSION, name);
    let written = text("CurrentVersion").unwrap_or_default();
    let mut parts = written.split('.').map(|part| part.trim().parse().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    // From Windows 10 on CurrentVersion stays 6.3, and the truth is in numbers of their own.
    info.major = number("CurrentMajorVersionNumber").or(major).unwrap_or(0);
    info.minor = match number("CurrentMajorVersionNumber") {
        Some(_) => number("CurrentMinorVersionNumber").unwrap_or(0),
        None => minor.unwrap_or(0),
    };
    let build = number("CurrentBuildNumber").or_else(|| number("CurrentBuild"));
    info.build = build.unwrap_or(0);
    info.revision = number("UBR").unwrap_or(0);
    let release = ["DisplayVersion", "ReleaseId", "CSDVersion"];
    info.release = release.into_iter().find_map(text).unwrap_or_default();
    info.edition = text("EditionID").unwrap_or_default();
    info.core = text("InstallationType").is_some_and(|kind| kind.contains("Core"));
    let product_type = reader
        .control()
        .text("Control\\ProductOptions", "ProductType");
    info.product_type = product_type.unwrap_or_else(|| "WinNT".to_owned());
}

/// The name for people.
pub(super) fn product_name(reader: &Reader<'_>, info: &WindowsInfo) -> String {
    let name = reader.software().text(CURRENT_VERSION, "ProductName");
    let name = name.unwrap_or_else(|| "Windows".to_owned());
    let mut name = name.strip_prefix("Microsoft ").unwrap_or(&name).to_owned();
    if is_client(info) && info.build >= WINDOWS_11 {
        name = name.replacen("Windows 10", "Windows 11", 1);
    }
    name
}

fn is_client(info: &WindowsInfo) -> bool {
    info.product_type.eq_ignore_ascii_case("WinNT")
}

/// libosinfo's id (osinfo-db, data/os/microsoft.com).
pub(super) fn osinfo_id(info: &WindowsInfo, product_name: &str) -> Option<String> {
    let client = is_client(info);
    let short = match (info.major, info.minor, client) {
        (4, 0, _) => return Some("http://microsoft.com/winnt/4.0".to_owned()),
        (5, 0, _) => "2k",
        (5, 1, _) | (5, 2, true) => "xp",
        (5, 2, false) if product_name.contains("R2") => "2k3r2",
        (5, 2, false) => "2k3",
        (6, 0, true) => "vista",
        (6, 0, false) => "2k8",
        (6, 1, true) => "7",
        (6, 1, false) => "2k8r2",
        (6, 2, true) => "8",
        (6, 2, false) => "2k12",
        (6, 3, true) => "8.1",
        (6, 3, false) => "2k12r2",
        (10, _, true) if info.build >= WINDOWS_11 => "11",
        (10, _, true) => "10",
        // Releases between two of the long-term ones are called after the older one.
        (10, _, false) => match info.build {
            0..17763 => "2k16",
            17763..20348 => "2k19",
            20348..26100 => "2k22",
            _ => "2k25",
        },
        _ => return None,
    };
    Some(format!("http://microsoft.com/win/{short}"))
}

/// By the registry; where that is silent, by the kernel's program.
pub(super) fn arch(reader: &Reader<'_>, root: &Root, system_root: &str) -> Arch {
    let written = reader.control().text(
        "Control\\Session Manager\\Environment",
        "PROCESSOR_ARCHITECTURE",
    );
    match written.map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("x86") => Arch::I686,
        Some("amd64") => Arch::X86_64,
        Some("arm64") => Arch::Aarch64,
        Some(_) => Arch::Other,
        None => kernel_arch(root, system_root).unwrap_or(Arch::Other),
    }
}

fn kernel_arch(root: &Root, system_root: &str) -> Option<Arch> {
    let path = files::find(root, &format!("{system_root}/System32/ntoskrnl.exe"))?;
    let mut start = Vec::new();
    let file = root.open_file(&path).ok()?;
    file.take(PE_START).read_to_end(&mut start).ok()?;
    program_arch(&start)
}

/// Machine type of a program, by its first bytes (Microsoft PE Format, "Machine Types").
pub(crate) fn program_arch(start: &[u8]) -> Option<Arch> {
    let at = start.get(0x3c..0x40)?.first_chunk::<4>()?;
    let at = usize::try_from(u32::from_le_bytes(*at)).ok()?;
    let header = start.get(at..at.checked_add(6)?)?;
    let machine = header.strip_prefix(b"PE\0\0")?.first_chunk::<2>()?;
    Some(match u16::from_le_bytes(*machine) {
        0x14c => Arch::I686,
        0x8664 => Arch::X86_64,
        0xaa64 => Arch::Aarch64,
        _ => Arch::Other,
    })
}

/// True when programs signed with SHA-2 only are believed: from Windows 8 on, with KB4474419 (or the earlier KB3033929)
/// on Windows 7 and Server 2008 R2, with KB4474419 on Server 2008 (Microsoft, "2019 SHA-2 Code Signing Support
/// requirement"); drivers of XP and Server 2003 need SHA-1.
pub(super) fn sha2(reader: &Reader<'_>, info: &WindowsInfo) -> bool {
    if (info.major, info.minor) >= (6, 2) {
        return true;
    }
    if info.major < 6 {
        return false;
    }
    let packages = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages";
    // One key per package and version: far more than other lists are read of.
    let hive = reader.software();
    let names = hive.all_keys(packages);
    names.iter().any(|name| {
        let wanted: &[&str] = if info.minor == 0 {
            &["KB4474419"]
        } else {
            &["KB4474419", "KB3033929"]
        };
        wanted.iter().any(|update| name.contains(update)) && is_installed(reader, packages, name)
    })
}

/// CurrentState of a package: 0x70 is installed, 0x80 permanent, 0x50 superseded by a later update that holds the same.
fn is_installed(reader: &Reader<'_>, packages: &str, name: &str) -> bool {
    let state = reader
        .software()
        .number(&format!("{packages}\\{name}"), "CurrentState");
    matches!(state, Some(0x50 | 0x70 | 0x80))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(major: u32, minor: u32, build: u32, product_type: &str) -> WindowsInfo {
        WindowsInfo {
            major,
            minor,
            build,
            product_type: product_type.to_owned(),
            ..WindowsInfo::default()
        }
    }

    #[test]
    fn each_release_has_its_id() {
        for (windows, name, want) in [
            (info(5, 2, 3790, "WinNT"), "Windows XP", Some("xp")),
            (
                info(5, 2, 3790, "ServerNT"),
                "Windows Server 2003 R2",
                Some("2k3r2"),
            ),
            (info(6, 1, 7601, "LanmanNT"), "", Some("2k8r2")),
            (info(10, 0, 19045, "WinNT"), "", Some("10")),
            (info(10, 0, 26100, "WinNT"), "", Some("11")),
            (info(10, 0, 16299, "ServerNT"), "", Some("2k16")),
            (info(10, 0, 25398, "ServerNT"), "", Some("2k22")),
            (info(10, 0, 26100, "ServerNT"), "", Some("2k25")),
            (info(7, 0, 1, "WinNT"), "", None),
        ] {
            let id = osinfo_id(&windows, name);
            let short = id.as_deref().and_then(|id| id.rsplit('/').next());
            assert_eq!(short, want, "{windows:?}");
        }
    }
}
