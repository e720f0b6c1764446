//! The parsers of this crate as the fuzzer calls them: bytes in, nothing out. Not for other use.

use crate::{archive, hyperv, manifest, ovf, text, vbox};

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

/// A tar or zip archive, its members opened.
pub fn archive(data: &[u8]) {
    let _ = archive::list(data);
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
    let _ = vbox::read_flash(&flash);
}
