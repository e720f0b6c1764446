//! What can be chosen of an image to be written, in the words of `qemu-img create -o`.

use std::ffi::OsString;

use crate::formats::Format;
use crate::formats::create::Compression;
use crate::formats::raw::{Allocation, is_on, parse_size};
use crate::{Error, ErrorKind, Result};

use super::geometry::{Geometry, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS, SUBCLUSTERS};

/// Bytes of header and extensions before the name of the backing file, at most.
const HEADER_ROOM: u64 = 160;

/// How an image is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Cluster size in bytes: a power of two from 512 to 2 MiB.
    pub cluster_size: u32,
    /// What is allocated beforehand.
    pub preallocation: Allocation,
    /// Version 2, which QEMU before 1.1 reads (`compat=0.10`), instead of 3.
    pub version_2: bool,
    /// Whoever writes to the image may postpone refcount updates.
    pub lazy_refcounts: bool,
    /// Extended L2 entries: a cluster is allocated in 32 parts.
    pub extended_l2: bool,
    /// Bits of a refcount: 16, 32 or 64.
    pub refcount_bits: u32,
    /// The image that is read where this one holds nothing.
    pub backing: Option<Backing>,
    /// Compress clusters (`-c`).
    pub compress: bool,
    /// How clusters are compressed, now and by whoever writes to the image later.
    pub compression: Compression,
}

/// A backing file, written as it is given: neither looked for nor opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name, relative to the image.
    pub name: OsString,
    /// Its format in qemu-img's word.
    pub format: Option<String>,
}

impl Default for Options {
    /// Clusters of 64 KiB, as qemu-img makes them, and nothing allocated beforehand.
    fn default() -> Self {
        Self {
            cluster_size: 64 << 10,
            preallocation: Allocation::Off,
            version_2: false,
            lazy_refcounts: false,
            extended_l2: false,
            refcount_bits: 16,
            backing: None,
            compress: false,
            compression: Compression::Zlib,
        }
    }
}

impl Options {
    /// The defaults with what `-c` and `-o KEY=VALUE` say.
    pub fn parse(compress: bool, pairs: &[(String, String)]) -> Result<Self> {
        let mut options = Self {
            compress,
            ..Self::default()
        };
        let mut backing_format = None;
        for (key, value) in pairs {
            match key.as_str() {
                "cluster_size" => {
                    options.cluster_size = parse_size(value)
                        .and_then(|size| u32::try_from(size).ok())
                        .ok_or_else(|| wrong(key, value, "a size such as 64k"))?;
                }
                "compat" => {
                    options.version_2 = match value.as_str() {
                        "0.10" | "v2" => true,
                        "1.1" | "v3" => false,
                        _ => return Err(wrong(key, value, "1.1 or 0.10")),
                    }
                }
                "lazy_refcounts" => options.lazy_refcounts = on(key, value)?,
                "extended_l2" => options.extended_l2 = on(key, value)?,
                "refcount_bits" => {
                    options.refcount_bits = value
                        .parse()
                        .map_err(|_| wrong(key, value, "16, 32 or 64"))?;
                }
                "preallocation" => {
                    options.preallocation = Allocation::parse(value)
                        .ok_or_else(|| wrong(key, value, "off, metadata, falloc or full"))?;
                }
                "compression_type" => {
                    options.compression = match value.as_str() {
                        "zlib" => Compression::Zlib,
                        "zstd" => Compression::Zstd,
                        _ => return Err(wrong(key, value, "zlib or zstd")),
                    }
                }
                "backing_file" => {
                    options.backing = Some(Backing {
                        name: value.into(),
                        format: None,
                    });
                }
                "backing_fmt" => {
                    backing_format = Some(value.parse::<Format>()?.name().to_owned());
                }
                "data_file" | "data_file_raw" | "encryption" => {
                    return Err(Error::unsupported(format!(
                        "qcow2 with the option `{key}` is not written"
                    )));
                }
                _ if key.starts_with("encrypt.") => {
                    return Err(Error::unsupported(format!(
                        "encrypted qcow2 (option `{key}`) is not written"
                    )));
                }
                _ => {
                    return Err(usage(format!(
                        "the output format qcow2 has no option `{key}`"
                    )));
                }
            }
        }
        match (&mut options.backing, backing_format) {
            (Some(backing), format) => backing.format = format,
            (None, Some(_)) => {
                return Err(usage(
                    "expected `backing_file` beside `backing_fmt`, found none",
                ));
            }
            (None, None) => {}
        }
        options.geometry()?;
        Ok(options)
    }

    /// Checks all of it and returns cluster size and form of the L2 entries.
    pub(super) fn geometry(&self) -> Result<Geometry> {
        let cluster_bits = self.cluster_size.trailing_zeros();
        if !self.cluster_size.is_power_of_two()
            || !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&cluster_bits)
        {
            return Err(usage(format!(
                "expected a cluster size that is a power of two from 512 bytes to 2 MiB, found {}",
                self.cluster_size
            )));
        }
        if !matches!(self.refcount_bits, 16 | 32 | 64) {
            return Err(usage(format!(
                "expected refcount_bits of 16, 32 or 64, found {}",
                self.refcount_bits
            )));
        }
        if self.extended_l2 && u64::from(self.cluster_size) < SUBCLUSTERS << MIN_CLUSTER_BITS {
            return Err(usage(format!(
                "expected clusters of at least 16 KiB with extended_l2, found {}",
                self.cluster_size
            )));
        }
        // The name must fit the first cluster, behind the header and the extensions.
        let name_len = self
            .backing
            .as_ref()
            .map_or(0, |backing| backing.name.len());
        if name_len > 1023 || name_len as u64 + HEADER_ROOM > u64::from(self.cluster_size) {
            return Err(usage(format!(
                "expected a backing file name of at most 1023 bytes that fits the first cluster, found {name_len} bytes"
            )));
        }
        let newer = self.lazy_refcounts
            || self.extended_l2
            || self.refcount_bits != 16
            || self.compression != Compression::Zlib;
        if self.version_2 && newer {
            return Err(usage(
                "compat=0.10 has no lazy_refcounts, extended_l2, refcount_bits or compression_type",
            ));
        }
        if self.preallocation != Allocation::Off && (self.compress || self.backing.is_some()) {
            return Err(usage(
                "preallocation goes neither with compression nor with a backing file",
            ));
        }
        Ok(Geometry {
            cluster_bits,
            extended_l2: self.extended_l2,
        })
    }
}

fn on(key: &str, value: &str) -> Result<bool> {
    is_on(value).ok_or_else(|| wrong(key, value, "on or off"))
}

fn wrong(key: &str, value: &str, expected: &str) -> Error {
    usage(format!(
        "expected {expected} for the option `{key}`, found `{value}`"
    ))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let pairs: Vec<_> = text
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Options::parse(false, &pairs)
    }

    #[test]
    fn the_keys_of_qemu_img_are_understood() {
        let options = parse(
            "cluster_size=128k,compat=1.1,lazy_refcounts=on,extended_l2=on,refcount_bits=32,backing_file=b.vmdk,\
             backing_fmt=vmdk,preallocation=off,compression_type=zstd",
        )
        .unwrap();
        let expected = Options {
            cluster_size: 128 << 10,
            lazy_refcounts: true,
            extended_l2: true,
            refcount_bits: 32,
            backing: Some(Backing {
                name: "b.vmdk".into(),
                format: Some("vmdk".to_owned()),
            }),
            compression: Compression::Zstd,
            ..Options::default()
        };
        assert_eq!(options, expected);
        assert!(parse("compat=0.10").unwrap().version_2);
        assert_eq!(
            parse("preallocation=metadata").unwrap().preallocation,
            Allocation::Metadata
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_key_and_value() {
        for (text, words) in [
            ("cluster_size=1000", "found 1000"),
            ("cluster_size=x", "cluster_size`, found `x`"),
            ("compat=1.2", "compat`, found `1.2`"),
            ("lazy_refcounts=maybe", "on or off"),
            ("refcount_bits=8", "16, 32 or 64"),
            ("extended_l2=on,cluster_size=8k", "16 KiB"),
            ("compat=0.10,compression_type=zstd", "compat=0.10 has no"),
            ("backing_fmt=raw", "backing_file"),
            ("backing_file=b,backing_fmt=floppy", "floppy"),
            ("backing_file=b,preallocation=full", "preallocation"),
            ("data_file=x", "`data_file` is not written"),
            ("encrypt.format=luks", "encrypted qcow2"),
            ("colour=red", "no option `colour`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let pairs = [("preallocation".to_owned(), "full".to_owned())];
        assert!(Options::parse(true, &pairs).is_err());
    }
}
