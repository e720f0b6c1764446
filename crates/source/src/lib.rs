//! Machines and their disks from OVA archives, OVF folders, VMware, Hyper-V, VirtualBox and libvirt machines, and
//! bare disk files.
//!
//! ```text
//! path ──> package (archive | folder) ──> ovf ──> Machine + files ──> image::formats ──> Opened
//!                    └──> manifest ──> Verification, run beside the conversion
//! ```
//!
//! Nothing is unpacked or copied: a disk in an archive is a byte range of the archive. Sources are only ever read.

mod archive;
mod below;
mod describe;
mod disk;
mod error;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod href;
mod hyperv;
mod ids;
mod libvirt;
mod manifest;
mod open;
mod ova;
mod ovf;
mod package;
mod sniff;
mod text;
mod vbox;
mod vmx;
mod xmldoc;

pub use describe::describe;
pub use error::{Error, ErrorKind, Result};
pub use libvirt::parse_domain_xml;
pub use manifest::Verification;
pub use open::{Opened, SourceKind, SourceOptions, SshPlace, VmxPlace, open};
pub use vmx::{PASSWORD_FILE_VARIABLE, parse_vmx};

pub(crate) use open::{Prepared, PreparedDisk};

#[cfg(test)]
mod tests;
