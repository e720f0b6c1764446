//! How a kernel was configured: what is built in, and which compressions of an initramfs it reads.
//!
//! Distributions put the file beside the kernel or into its module directory. A kernel with CONFIG_IKCONFIG carries it
//! itself: gzip between `IKCFG_ST` and `IKCFG_ED` in the unpacked image (kernel/configs.c).

use std::io::{self, Read};

use crate::Root;
use crate::linux::initrd::Compression;
use crate::linux::initrd::compress::unpack;
use crate::linux::kernels::major_minor;

/// A packed kernel image is at most this long.
const IMAGE_MAX: u64 = 64 << 20;
/// An unpacked one.
const UNPACKED_MAX: u64 = 256 << 20;
/// A configuration.
const CONFIG_MAX: u64 = 4 << 20;
/// Stands before the configuration in the image.
const IKCFG_START: &[u8] = b"IKCFG_ST";
/// Each compression has a symbol since Linux 2.6.30; before, there was gzip only. The last number of that.
const SYMBOLS_SINCE: u64 = 30;

/// A kernel's configuration, as far as it is to be had.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelConfig {
    text: String,
    older: bool,
}

impl KernelConfig {
    /// Reads the file, wherever distributions have it.
    pub(crate) fn read(root: &Root, kver: &str) -> Self {
        let paths = [
            format!("/boot/config-{kver}"),
            format!("/lib/modules/{kver}/config"),
            format!("/usr/lib/modules/{kver}/config"),
            format!("/lib/modules/{kver}/build/.config"),
            format!("/usr/src/linux-{kver}/.config"),
            format!("/boot/kernel-config-{kver}"),
        ];
        let found = paths.iter().filter(|path| root.is_file(path));
        let text = found.filter_map(|path| root.text(path)).next();
        Self::of(kver, text.unwrap_or_default())
    }

    /// Looks into the kernel's image.
    pub(crate) fn embedded(root: &Root, kver: &str, vmlinuz: &str) -> Self {
        let image = root.read(vmlinuz, IMAGE_MAX).unwrap_or_default();
        Self::of(kver, embedded(&image).unwrap_or_default())
    }

    fn of(kver: &str, text: String) -> Self {
        let minor = kver.strip_prefix("2.6.").map(|rest| major_minor(rest).0);
        let older = minor.is_some_and(|minor| minor < SYMBOLS_SINCE);
        Self { text, older }
    }

    /// True when nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// True when it is built in.
    pub(crate) fn is_yes(&self, symbol: &str) -> bool {
        self.lines()
            .any(|line| line.strip_suffix("=y") == Some(symbol))
    }

    /// Lines without blanks around them.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(str::trim)
    }

    /// Whether the kernel reads an archive that is packed so; `None` when that is not known.
    pub(crate) fn reads(&self, kind: Compression) -> Option<bool> {
        match kind.symbol() {
            None => Some(true),
            Some(_) if self.older => Some(kind == Compression::Gzip),
            Some(_) if self.is_empty() => None,
            Some(symbol) => Some(self.is_yes(symbol)),
        }
    }
}

/// The configuration inside an x86 bzImage (Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, `HdrS` at 0x202,
/// payload_offset at 0x248 and payload_length at 0x24c, both since protocol 2.08), or inside an image that is not packed.
fn embedded(image: &[u8]) -> Option<String> {
    let unpacked = match payload(image) {
        None => return configuration(image),
        Some(payload) => unpacked(payload)?,
    };
    configuration(&unpacked)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match image.get(0x1f1)? {
        0 => 4,
        count => usize::from(*count),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

fn unpacked(payload: &[u8]) -> Option<Vec<u8>> {
    let kind = Compression::detect(payload)?;
    let mut out = Vec::new();
    let mut reader = payload;
    let read = &mut |data: &mut dyn Read| {
        data.take(UNPACKED_MAX)
            .read_to_end(&mut out)
            .map(|_: usize| ())
    };
    // The unpacked length follows the stream, which some readers complain of when they have given everything.
    let result: io::Result<()> = unpack(kind, &mut reader, read);
    if let Err(error) = result {
        tracing::debug!("unpacking a kernel: {error}");
    }
    Some(out)
}

fn configuration(image: &[u8]) -> Option<String> {
    let len = IKCFG_START.len();
    let at = image.windows(len).position(|bytes| bytes == IKCFG_START)?;
    let packed = image.get(at + len..)?;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .take(CONFIG_MAX)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::initrd::compress::{Effort, pack};

    #[test]
    fn a_configuration_is_found_in_a_packed_kernel() {
        let text = "CONFIG_IKCONFIG=y\nCONFIG_VIRTIO_BLK=y\n";
        let config = pack(Compression::Gzip, Effort::Normal, text.as_bytes()).unwrap();
        let kernel = [
            b"code".repeat(99),
            IKCFG_START.to_vec(),
            config,
            b"IKCFG_ED".to_vec(),
        ]
        .concat();
        for kind in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let packed = pack(kind, Effort::Normal, &kernel).unwrap();
            let mut image = vec![0u8; 512 * 3 + 16];
            image[0x1f1] = 2;
            image[0x202..0x206].copy_from_slice(b"HdrS");
            image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
            let len = u32::try_from(packed.len() + 4).unwrap();
            image[0x24c..0x250].copy_from_slice(&len.to_le_bytes());
            image.extend_from_slice(&packed);
            image.extend_from_slice(&[9, 9, 0, 0]);
            assert_eq!(embedded(&image).as_deref(), Some(text), "{kind:?}");
            // Cut anywhere, it is no panic.
            for len in [0, 0x205, 0x249, 600, image.len() - 40] {
                embedded(&image[..len]);
            }
        }
    }

    #[test]
    fn old_kernels_read_gzip_only() {
        let old = KernelConfig::of("2.6.18-398.el5", "CONFIG_BLK_DEV_INITRD=y\n".into());
        assert_eq!(old.reads(Compression::Gzip), Some(true));
        assert_eq!(old.reads(Compression::Xz), Some(false));
        let new = KernelConfig::of("6.1.0-18-amd64", "CONFIG_RD_ZSTD=y\n".into());
        assert_eq!(new.reads(Compression::Zstd), Some(true));
        assert_eq!(new.reads(Compression::Gzip), Some(false));
        assert_eq!(
            KernelConfig::of("6.1", String::new()).reads(Compression::Gzip),
            None
        );
        assert_eq!(new.reads(Compression::None), Some(true));
    }
}
