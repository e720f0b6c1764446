//! Creates an image of any format that can be written.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::formats::{qcow2, raw};
use crate::{BlockSink, Error, ErrorKind, Preallocation, Result};

/// A format that can be written (`-of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Bytes as they are, with holes.
    Raw,
    /// qcow2 version 3.
    Qcow2,
}

impl OutputFormat {
    /// The name in the words of qemu-img and libvirt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
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
        [Self::Raw, Self::Qcow2]
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!("expected the output format raw or qcow2, found `{name}`"),
                )
            })
    }
}

/// Creates a new image file at `path`, which must not exist. `virtual_size` is a multiple of 512. A sink that is
/// dropped unfinished leaves an incomplete file for the caller to remove.
pub fn create(
    path: &Path,
    format: OutputFormat,
    virtual_size: u64,
    preallocation: Preallocation,
) -> Result<Box<dyn BlockSink>> {
    Ok(match format {
        OutputFormat::Raw => Box::new(raw::Writer::create(path, virtual_size, preallocation)?),
        OutputFormat::Qcow2 => {
            let options = qcow2::Options {
                preallocation,
                ..Default::default()
            };
            Box::new(qcow2::Writer::create(path, virtual_size, options)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_formats_are_spelled_as_they_are_parsed() {
        for format in [OutputFormat::Raw, OutputFormat::Qcow2] {
            assert_eq!(format.to_string().parse::<OutputFormat>().unwrap(), format);
        }
        let error = "vmdk".parse::<OutputFormat>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected the output format raw or qcow2, found `vmdk`"
        );
    }
}
