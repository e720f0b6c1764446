//! How a new image is laid out, and qemu-img's keys for it.

use super::metadata::BLOCK_SIZES;
use super::{MAX_VIRTUAL_SIZE, MIB};
use crate::{Error, ErrorKind, Preallocation, Result};

/// Longest log: its length has 32 bits.
const MAX_LOG_SIZE: u64 = u32::MAX as u64 + 1 - MIB;

/// Whether blocks get their place when they are written or beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subformat {
    /// When they are written.
    #[default]
    Dynamic,
    /// Beforehand, in order.
    Fixed,
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Block size in bytes: a power of two from 1 to 256 MiB.
    pub block_size: u64,
    /// Dynamic or fixed.
    pub subformat: Subformat,
    /// Logical sector size in bytes: 512 or 4096.
    pub logical_sector_size: u32,
    /// Bytes of the log, which stays empty: whole MiB, at least one.
    pub log_size: u64,
    /// What is allocated of the host's file beforehand; with [`Preallocation::Falloc`] every block has its place.
    pub preallocation: Preallocation,
}

impl Default for Options {
    /// What Hyper-V makes: dynamic, blocks of 32 MiB, sectors of 512 bytes, a log of 1 MiB.
    fn default() -> Self {
        Self {
            block_size: 32 * MIB,
            subformat: Subformat::Dynamic,
            logical_sector_size: 512,
            log_size: MIB,
            preallocation: Preallocation::Sparse,
        }
    }
}

impl Options {
    /// Takes over `-o KEY=VALUE` pairs in qemu-img's words.
    pub fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in pairs {
            let bad = |expected: &str| {
                Error::new(
                    ErrorKind::Usage,
                    format!("expected {expected} as vhdx option `{key}`, found `{value}`"),
                )
            };
            let size = || bytes_of(value).ok_or_else(|| bad("a size such as 32M"));
            match key.as_str() {
                // qemu-img: 0 lets the program choose.
                "block_size" => {
                    options.block_size = match size()? {
                        0 => Self::default().block_size,
                        size => size,
                    };
                }
                "log_size" => options.log_size = size()?,
                "logical_sector_size" => {
                    options.logical_sector_size =
                        u32::try_from(size()?).map_err(|_| bad("512 or 4096"))?;
                }
                "subformat" => {
                    options.subformat = match value.as_str() {
                        "dynamic" => Subformat::Dynamic,
                        "fixed" => Subformat::Fixed,
                        _ => return Err(bad("dynamic or fixed")),
                    };
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        format!(
                            "the output format vhdx has no option `{key}`; it has block_size, log_size, \
                             logical_sector_size and subformat"
                        ),
                    ));
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Checks what does not depend on the disk.
    pub(super) fn check(&self) -> Result<()> {
        let usage = |message: String| Err(Error::new(ErrorKind::Usage, message));
        if !self.block_size.is_power_of_two() || !BLOCK_SIZES.contains(&self.block_size) {
            return usage(format!(
                "expected a vhdx block_size that is a power of two from 1M to 256M, found {}",
                self.block_size
            ));
        }
        if !matches!(self.logical_sector_size, 512 | 4096) {
            return usage(format!(
                "expected a vhdx logical_sector_size of 512 or 4096, found {}",
                self.logical_sector_size
            ));
        }
        if !self.log_size.is_multiple_of(MIB) || !(MIB..=MAX_LOG_SIZE).contains(&self.log_size) {
            return usage(format!(
                "expected a vhdx log_size in whole MiB below 4 GiB, found {}",
                self.log_size
            ));
        }
        Ok(())
    }

    /// Checks that the format can hold the disk.
    pub(super) fn check_disk(&self, virtual_size: u64) -> Result<()> {
        self.check()?;
        if virtual_size > MAX_VIRTUAL_SIZE {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected a disk of at most 64 TiB for VHDX, found {virtual_size} bytes"),
            ));
        }
        if !virtual_size.is_multiple_of(self.logical_sector_size.into()) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected a disk in whole sectors of {} bytes, found {virtual_size} bytes",
                    self.logical_sector_size
                ),
            ));
        }
        Ok(())
    }
}

/// Bytes with an optional suffix of powers of 1024, as qemu-img takes them.
fn bytes_of(text: &str) -> Option<u64> {
    let (digits, shift) = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        b'b' => (&text[..text.len() - 1], 0),
        _ => (text, 0),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| plain)?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let pairs: Vec<_> = text
            .split(',')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Options::parse(&pairs)
    }

    #[test]
    fn keys_are_those_of_qemu_img() {
        let options =
            parse("block_size=4M,subformat=fixed,log_size=2097152,logical_sector_size=4k").unwrap();
        assert_eq!(options.block_size, 4 * MIB);
        assert_eq!(options.subformat, Subformat::Fixed);
        assert_eq!(options.log_size, 2 * MIB);
        assert_eq!(options.logical_sector_size, 4096);
        assert_eq!(parse("block_size=0").unwrap(), Options::default());
        for bad in [
            "block_size=3M",
            "block_size=512M",
            "block_size=",
            "block_size=-1",
            "block_size=99999999999G",
            "log_size=0",
            "log_size=1000000",
            "log_size=4G",
            "logical_sector_size=2048",
            "subformat=differencing",
            "cluster_size=1M",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}: {error}");
        }
    }
}
