//! What is on an EFI system partition: programs by kind, and the names that vendors give them.

use std::io::{Read, Seek, SeekFrom};

use crate::Root;
use crate::root::{join, split};

use super::uki::{self, Sections};
use super::{find_ci, vendors};

/// Programs of one directory that are looked at.
const PROGRAMS_MAX: usize = 64;
/// A BOOT.CSV is a line or two.
const CSV_MAX: u64 = 64 << 10;

/// What an EFI program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Checks GRUB's signature and starts it.
    Shim,
    /// GRUB.
    Grub,
    /// systemd-boot.
    SystemdBoot,
    /// A unified kernel image.
    Uki,
    /// A kernel that the firmware can start (EFI stub).
    Kernel,
    /// Windows' boot manager.
    Windows,
    /// Anything else: shells, memory tests, other managers.
    Other,
}

/// One program on an ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) kind: Image,
    /// Path in the guest.
    pub(crate) path: String,
    /// Directory of it.
    pub(crate) dir: String,
}

/// The programs in the directories below EFI.
pub(crate) fn images(root: &Root, esp: &str) -> Vec<Program> {
    vendors(root, esp)
        .iter()
        .flat_map(|dir| programs(root, dir))
        .collect()
}

/// The programs of one directory; Windows' are one below.
pub(crate) fn programs(root: &Root, dir: &str) -> Vec<Program> {
    let mut found = Vec::new();
    let efi = |name: &&String| name.to_ascii_lowercase().ends_with(".efi");
    for name in root.names(dir).iter().filter(efi).take(PROGRAMS_MAX) {
        let path = join(dir, name);
        found.push(Program {
            kind: kind(root, &path),
            path,
            dir: dir.to_owned(),
        });
    }
    if let Some(path) = find_ci(root, dir, "Boot/bootmgfw.efi") {
        found.push(Program {
            kind: Image::Windows,
            dir: split(&path).map_or("", |(dir, _)| dir).to_owned(),
            path,
        });
    }
    found
}

/// By its content where that tells, else by its name.
pub(crate) fn kind(root: &Root, path: &str) -> Image {
    by_content(root, path).unwrap_or_else(|| by_name(path))
}

fn by_name(path: &str) -> Image {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let starts = |prefix: &str| name.starts_with(prefix);
    if starts("shim") {
        Image::Shim
    } else if starts("grub") || starts("gcdx64") {
        Image::Grub
    } else if starts("systemd-boot") || starts("gummiboot") {
        Image::SystemdBoot
    } else if starts("bootmgfw") {
        Image::Windows
    } else {
        Image::Other
    }
}

/// Sections tell: shim has its vendor's certificate and an SBAT line, GRUB a section of modules, systemd-boot its magic,
/// a unified kernel image the kernel (UAPI.5; shim's SBAT.md).
fn by_content(root: &Root, path: &str) -> Option<Image> {
    let file = root.open_file(path).ok()?;
    if is_kernel(file.try_clone().ok()?).unwrap_or(false) {
        return Some(Image::Kernel);
    }
    let sections = uki::sections(file, &[".sbat", ".sdmagic"])?;
    if sections.contains(".linux") {
        return Some(Image::Uki);
    }
    if sections.text(".sdmagic").contains("systemd-boot") {
        return Some(Image::SystemdBoot);
    }
    if sections.contains("mods") {
        return Some(Image::Grub);
    }
    is_shim(&sections).then_some(Image::Shim)
}

fn is_shim(sections: &Sections) -> bool {
    let sbat = sections.text(".sbat");
    let named = sbat.lines().any(|line| line.starts_with("shim,"));
    named || sections.contains(".vendor_cert")
}

/// The x86 boot protocol's header: "HdrS" at 0x202 (Documentation/arch/x86/boot.rst); "ARM\x64" at 56 for arm64
/// (Documentation/arch/arm64/booting.rst). Either is a PE program too when it begins with "MZ".
fn is_kernel(mut file: std::fs::File) -> std::io::Result<bool> {
    let mut head = [0u8; 0x206];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let at = |range: std::ops::Range<usize>| head.get(range).unwrap_or_default();
    Ok(at(0..2) == b"MZ" && (at(0x202..0x206) == b"HdrS" || at(56..60) == b"ARM\x64"))
}

/// A kernel on the ESP that only the firmware's variables can start, newest name last.
pub(crate) fn stub_kernel(root: &Root, esp: &str) -> Option<String> {
    let mut dirs = vec![esp.to_owned()];
    dirs.extend(vendors(root, esp));
    let kernel = |dir: &String| {
        let names = root.names(dir);
        let named = |name: &&String| {
            let lower = name.to_ascii_lowercase();
            lower.starts_with("vmlinuz")
                || lower.starts_with("linux")
                || lower.starts_with("bzimage")
        };
        names
            .iter()
            .filter(named)
            .take(PROGRAMS_MAX)
            .map(|name| join(dir, name))
            .filter(|path| kind(root, path) == Image::Kernel)
            .last()
    };
    dirs.iter().find_map(kernel)
}

/// One line of a BOOT.CSV: `FILE,LABEL,OPTIONS,COMMENT` in UTF-16 (shim's README.fallback).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CsvLine {
    pub(crate) file: String,
    pub(crate) label: String,
}

/// The vendor's BOOTX64.CSV (or BOOT.CSV): what fbx64.efi makes boot entries of.
pub(crate) fn boot_csv(root: &Root, dir: &str, arch: &str) -> Vec<CsvLine> {
    let names = [format!("BOOT{arch}.CSV"), "BOOT.CSV".to_owned()];
    let path = names.iter().find_map(|name| find_ci(root, dir, name));
    let bytes = path.and_then(|path| root.read(&path, CSV_MAX).ok());
    let text = bytes.map(|bytes| utf16(&bytes)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(',');
            let (file, label) = (fields.next()?.trim(), fields.next()?.trim());
            let plain = !file.is_empty() && !file.contains(['/', '\\']);
            plain.then(|| CsvLine {
                file: file.to_owned(),
                label: label.to_owned(),
            })
        })
        .collect()
}

/// Content of a BOOT.CSV of one line.
pub(crate) fn csv(file: &str, label: &str) -> Vec<u8> {
    let label = label.replace([',', '\n', '\r'], " ");
    let text = format!("\u{feff}{file},{label},,This is the boot entry for {label}\n");
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Little endian, with a byte order mark or without; some are plain ASCII.
fn utf16(bytes: &[u8]) -> String {
    let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.get(1) == Some(&0);
    if !wide {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.trim_start_matches('\u{feff}').to_owned()
}
