//! The parsers of this crate as the fuzzer calls them: bytes in, nothing out. Not for other use.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;

use crate::archive::Archive;
use crate::{hyperv, manifest, ovf, text, vbox};

/// Size of VirtualBox's flash, in bytes.
const FLASH_SIZE: usize = 540_672;

/// An OVF descriptor.
pub fn ovf(data: &[u8]) {
    if let Ok(text) = text::decode(data) {
        let _ = ovf::parse(&text, "fuzz", None);
    }
}

/// An OVF manifest.
pub fn manifest(data: &[u8]) {
    let _ = manifest::parse(&String::from_utf8_lossy(data), "fuzz");
}

/// A tar archive: its members, and a byte of each.
pub fn tar(data: &[u8]) {
    let Some((_file, path)) = in_memory(data) else {
        return;
    };
    let Ok(archive) = Archive::open(&path) else {
        return;
    };
    let names: Vec<String> = archive.names().map(str::to_owned).collect();
    for name in names {
        if let Ok(Some(range)) = archive.get(&name) {
            assert!(
                range.len() <= data.len() as u64,
                "a member is longer than its archive"
            );
            if let Some(last) = range.len().checked_sub(1) {
                range
                    .read_vec(last, 1)
                    .expect("a member lies within its archive");
            }
        }
    }
}

/// A Hyper-V configuration of either kind.
pub fn hyperv(data: &[u8]) {
    let _ = hyperv::parse(data);
}

/// The settings of a VirtualBox machine.
pub fn vbox(data: &[u8]) {
    if let Ok(text) = text::decode(data) {
        let _ = vbox::parse(&text);
    }
}

/// The flash of an EFI machine of VirtualBox.
pub fn nvram(data: &[u8]) {
    let mut flash = data.to_vec();
    // What was never written is ones; short inputs are enough then.
    flash.resize(flash.len().max(FLASH_SIZE), 0xff);
    let _ = vbox::secure_boot(&flash);
}

/// A file that lives as long as its handle, and its path.
fn in_memory(data: &[u8]) -> Option<(File, PathBuf)> {
    let fd = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).ok()?;
    let mut file = File::from(fd);
    file.write_all(data).ok()?;
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    Some((file, path))
}
