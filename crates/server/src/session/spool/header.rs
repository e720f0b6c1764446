//! `spool.json`: whose disks the folder holds.

use std::path::Path;

use image::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// Largest header that is read: some hundred disks with long names.
const MAX_FILE_LEN: u64 = 1 << 20;
/// Largest disk: the bitmap of its blocks is 1 GiB of address space then, touched only where there are data.
const MAX_VIRTUAL_SIZE: u64 = 256 << 40;
/// Disks of a machine that are received.
const MAX_DISKS: usize = 256;

/// What a disk is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::session) struct DiskIdentity {
    /// Kernel name; may change from boot to boot.
    pub(in crate::session) name: String,
    pub(in crate::session) serial: String,
    pub(in crate::session) wwid: String,
    /// Bytes.
    pub(in crate::session) virtual_size: u64,
}

impl DiskIdentity {
    pub(in crate::session) fn of(disk: &wire::inventory::Disk) -> Self {
        Self {
            name: disk.name.clone(),
            serial: disk.serial.clone(),
            wwid: disk.wwid.clone(),
            virtual_size: disk.virtual_size,
        }
    }

    /// True when both may be one disk: nothing that is known of both differs.
    pub(in crate::session) fn may_be(&self, other: &Self) -> bool {
        let agree = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        self.virtual_size == other.virtual_size
            && agree(&self.serial, &other.serial)
            && agree(&self.wwid, &other.wwid)
    }

    /// True when a name of its own says that it is the same disk.
    pub(in crate::session) fn surely_is(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| !a.is_empty() && a == b;
        self.may_be(other) && (same(&self.wwid, &other.wwid) || same(&self.serial, &other.serial))
    }

    /// A disk that can be received at all.
    pub(in crate::session) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Limit, what).in_file(&self.name));
        if self.virtual_size == 0 || !self.virtual_size.is_multiple_of(512) {
            return wrong(format!(
                "expected a disk of whole sectors of 512 bytes, found one of {} bytes",
                self.virtual_size
            ));
        }
        if self.virtual_size > MAX_VIRTUAL_SIZE {
            return wrong(format!(
                "expected a disk of at most {MAX_VIRTUAL_SIZE} bytes, found one of {}",
                self.virtual_size
            ));
        }
        Ok(())
    }
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    block_len: u32,
    pub(super) disks: Vec<DiskIdentity>,
}

impl Header {
    pub(super) fn new(disks: Vec<DiskIdentity>) -> Result<Self> {
        if disks.len() > MAX_DISKS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_DISKS} disks, found {}", disks.len()),
            ));
        }
        disks.iter().try_for_each(DiskIdentity::check)?;
        Ok(Self {
            version: VERSION,
            block_len: wire::BLOCK_LEN,
            disks,
        })
    }

    /// Reads a header; `None` when there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>> {
        let Some(text) = super::read_small(path, MAX_FILE_LEN)? else {
            return Ok(None);
        };
        let header: Self = serde_json::from_slice(&text).map_err(|error| {
            Error::corrupt(format!("expected the header of a spool: {error}")).in_path(path)
        })?;
        if (header.version, header.block_len) != (VERSION, wire::BLOCK_LEN) {
            return Err(Error::unsupported(format!(
                "expected a spool of version {VERSION} with blocks of {} bytes, found version {} with {}",
                wire::BLOCK_LEN,
                header.version,
                header.block_len
            ))
            .in_path(path));
        }
        let checked = Self::new(header.disks).map_err(|error| error.in_path(path))?;
        Ok(Some(checked))
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorKind::Io, error.to_string()))?;
        super::write_whole(path, &text)
    }

    /// Refuses to go on with what other disks left.
    pub(super) fn expect(&self, wanted: &Self, path: &Path) -> Result<()> {
        let refuse = |what: String| {
            let hint = "remove the spool's folder to begin anew";
            Err(Error::new(ErrorKind::Usage, format!("{what}; {hint}")).in_path(path))
        };
        if self.disks.len() != wanted.disks.len() {
            return refuse(format!(
                "expected a spool of {} disks, found {}",
                wanted.disks.len(),
                self.disks.len()
            ));
        }
        for (had, has) in self.disks.iter().zip(&wanted.disks) {
            if had.virtual_size != has.virtual_size {
                return refuse(format!(
                    "disk {} has {} bytes, and the spool is of one with {}",
                    has.name, has.virtual_size, had.virtual_size
                ));
            }
            if !had.may_be(has) {
                return refuse(format!(
                    "disk {} has serial {:?}, and the spool is of {:?}",
                    has.name, has.serial, had.serial
                ));
            }
        }
        Ok(())
    }
}
