//! Creates an image of any format that can be written.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::formats::{qcow2, raw, vhd, vhdx, vmdk};
use crate::{BlockSink, Error, ErrorKind, Preallocation, Result};

/// A format that can be written (`-of`, `v2v image convert -O`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// Bytes as they are, with holes.
    Raw,
    /// qcow2 version 3.
    Qcow2,
    /// VMDK, streamOptimized.
    Vmdk,
    /// VHD, dynamic.
    Vpc,
    /// VHDX, dynamic.
    Vhdx,
}

impl OutputFormat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vpc, Self::Vhdx];

    /// The name in the words of qemu-img and libvirt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vpc => "vpc",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OutputFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let word = if name == "vhd" { "vpc" } else { name };
        Self::ALL
            .into_iter()
            .find(|format| format.name() == word)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "expected one of the output formats {}, found `{name}`",
                        Self::ALL.map(Self::name).join(", ")
                    ),
                )
            })
    }
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Raw deflate (RFC 1951), which every reader knows.
    Zlib,
    /// Zstandard (RFC 8878): faster, read by QEMU since 5.1.
    Zstd,
}

/// Everything that can be chosen of an image to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteOptions {
    /// Raw.
    Raw(raw::Allocation),
    /// qcow2.
    Qcow2(qcow2::Options),
    /// VMDK, streamOptimized.
    Vmdk(vmdk::Options),
    /// VHD.
    Vpc(vhd::Options),
    /// VHDX.
    Vhdx(vhdx::Options),
}

impl WriteOptions {
    /// The defaults of a format, with what `-c` and `-o KEY=VALUE` say. A key that the format does not have, and a
    /// value that it does not take, is an error of kind [`Usage`](ErrorKind::Usage) that names both.
    pub fn parse(format: OutputFormat, compress: bool, pairs: &[(String, String)]) -> Result<Self> {
        // A streamOptimized VMDK is always compressed.
        if compress && !matches!(format, OutputFormat::Qcow2 | OutputFormat::Vmdk) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the output format {format} has no compression"),
            ));
        }
        match format {
            OutputFormat::Raw => raw::parse_options(pairs).map(Self::Raw),
            OutputFormat::Qcow2 => qcow2::Options::parse(compress, pairs).map(Self::Qcow2),
            OutputFormat::Vmdk => vmdk::Options::parse(pairs).map(Self::Vmdk),
            OutputFormat::Vpc => vhd::Options::parse(pairs).map(Self::Vpc),
            OutputFormat::Vhdx => vhdx::Options::parse(pairs).map(Self::Vhdx),
        }
    }
}

/// Creates a new image file at `path`, which must not exist; a raw image may go to a block device that does. `virtual_size` is a
/// multiple of 512. A sink that is dropped unfinished leaves an incomplete file for the caller to remove.
pub fn create_with(
    path: &Path,
    virtual_size: u64,
    options: &WriteOptions,
) -> Result<Box<dyn BlockSink>> {
    Ok(match options {
        WriteOptions::Raw(allocation) => {
            Box::new(raw::Writer::create(path, virtual_size, *allocation)?)
        }
        WriteOptions::Qcow2(options) => {
            Box::new(qcow2::Writer::create(path, virtual_size, options.clone())?)
        }
        WriteOptions::Vmdk(options) => {
            Box::new(vmdk::Writer::create(path, virtual_size, *options)?)
        }
        WriteOptions::Vpc(options) => Box::new(vhd::Writer::create(path, virtual_size, *options)?),
        WriteOptions::Vhdx(options) => {
            Box::new(vhdx::Writer::create(path, virtual_size, *options)?)
        }
    })
}

/// The same with the defaults of the format and this preallocation, as a conversion writes its disks.
pub fn create(
    path: &Path,
    format: OutputFormat,
    virtual_size: u64,
    preallocation: Preallocation,
) -> Result<Box<dyn BlockSink>> {
    let mut options = WriteOptions::parse(format, false, &[])?;
    match &mut options {
        WriteOptions::Raw(chosen) => *chosen = preallocation.into(),
        WriteOptions::Qcow2(options) => options.preallocation = preallocation.into(),
        // A stream has no place for what is not there.
        WriteOptions::Vmdk(_) => {}
        WriteOptions::Vpc(options) => options.preallocate(preallocation),
        WriteOptions::Vhdx(options) => options.preallocation = preallocation,
    }
    create_with(path, virtual_size, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_formats_are_spelled_as_they_are_parsed() {
        for format in OutputFormat::ALL {
            assert_eq!(format.to_string().parse::<OutputFormat>().unwrap(), format);
        }
        assert_eq!("vhd".parse::<OutputFormat>().unwrap(), OutputFormat::Vpc);
        let error = "floppy".parse::<OutputFormat>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected one of the output formats raw, qcow2, vmdk, vpc, vhdx, found `floppy`"
        );
    }
}
