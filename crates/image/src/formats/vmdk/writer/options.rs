//! What can be chosen of a VMDK, in the words of `qemu-img convert -O vmdk -o`.

use libdeflater::CompressionLvl;

use crate::{Error, ErrorKind, Result};

/// The disk's adapter, `ddb.adapterType`: what an importing program attaches the disk to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterType {
    /// IDE.
    Ide,
    /// BusLogic parallel SCSI.
    BusLogic,
    /// LSI Logic parallel SCSI or SAS, and in practice every SCSI adapter.
    #[default]
    LsiLogic,
    /// The adapter of ESX 2.
    LegacyEsx,
    /// VMware paravirtual SCSI.
    PvScsi,
}

impl AdapterType {
    const ALL: [Self; 5] = [
        Self::Ide,
        Self::BusLogic,
        Self::LsiLogic,
        Self::LegacyEsx,
        Self::PvScsi,
    ];

    /// VMware's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::BusLogic => "buslogic",
            Self::LsiLogic => "lsilogic",
            Self::LegacyEsx => "legacyESX",
            Self::PvScsi => "pvscsi",
        }
    }
}

/// How a `streamOptimized` VMDK is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `adapter_type`.
    pub adapter_type: AdapterType,
    /// `hwversion`: `ddb.virtualHWVersion`, the oldest virtual hardware that can take the disk.
    pub hw_version: u32,
    /// `compression_level`: 1, fastest, to 12, smallest.
    pub compression_level: i32,
}

/// Virtual hardware versions that there are or may come to be.
const HW_VERSIONS: std::ops::RangeInclusive<u32> = 3..=99;
/// The hardware of Workstation 5 and ESX 3, which everything takes.
const DEFAULT_HW_VERSION: u32 = 4;
/// Measured on 524 MB of programs and libraries, CPU seconds and MB of file: level 1 3.7/200, 2 5.2/191, 3 6.0/189,
/// 4 5.4/188, 6 8.2/184; qemu-img 21.6/186.
const DEFAULT_LEVEL: i32 = 4;

impl Default for Options {
    fn default() -> Self {
        Self {
            adapter_type: AdapterType::default(),
            hw_version: DEFAULT_HW_VERSION,
            compression_level: DEFAULT_LEVEL,
        }
    }
}

impl Options {
    /// The defaults with what `-o KEY=VALUE` says.
    pub(in crate::formats) fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in pairs {
            let bad = |expected: &str| {
                Error::new(
                    ErrorKind::Usage,
                    format!("expected {key} of {expected}, found `{value}`"),
                )
            };
            match key.as_str() {
                "adapter_type" => {
                    let mut all = AdapterType::ALL.into_iter();
                    options.adapter_type = all
                        .find(|adapter| adapter.name().eq_ignore_ascii_case(value))
                        .ok_or_else(|| bad(&AdapterType::ALL.map(AdapterType::name).join(", ")))?;
                }
                "hwversion" => {
                    options.hw_version = value
                        .parse()
                        .ok()
                        .filter(|version| HW_VERSIONS.contains(version))
                        .ok_or_else(|| bad("3 to 99"))?;
                }
                "compression_level" => {
                    options.compression_level = value
                        .parse()
                        .ok()
                        .filter(|level| (1..=12).contains(level))
                        .ok_or_else(|| bad("1 (fastest) to 12 (smallest)"))?;
                }
                "subformat" if value.eq_ignore_ascii_case("streamOptimized") => {}
                "subformat" => {
                    return Err(Error::unsupported(format!(
                        "VMDK subformat {value} is not written (streamOptimized is)"
                    )));
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        format!("the output format vmdk has no option `{key}`"),
                    ));
                }
            }
        }
        Ok(options)
    }

    pub(super) fn level(&self) -> Result<CompressionLvl> {
        CompressionLvl::new(self.compression_level).map_err(|_| {
            Error::new(
                ErrorKind::Usage,
                format!(
                    "expected a compression level of 1 to 12, found {}",
                    self.compression_level
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_and_bad_ones_named() {
        let parse = |key: &str, value: &str| Options::parse(&[(key.to_owned(), value.to_owned())]);
        assert_eq!(
            parse("adapter_type", "IDE").unwrap().adapter_type,
            AdapterType::Ide
        );
        assert_eq!(parse("hwversion", "13").unwrap().hw_version, 13);
        assert_eq!(
            parse("compression_level", "12").unwrap().compression_level,
            12
        );
        assert_eq!(
            parse("subformat", "streamOptimized").unwrap(),
            Options::default()
        );
        for (key, value, text) in [
            ("adapter_type", "nvme", "buslogic"),
            ("hwversion", "2", "3 to 99"),
            ("compression_level", "0", "found `0`"),
            ("subformat", "monolithicFlat", "monolithicFlat"),
            ("fish", "1", "`fish`"),
        ] {
            let error = parse(key, value).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
