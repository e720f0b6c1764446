//! Builds sample guests, boots images, injects faults. Development only.
//!
//! | module | what a test gets from it |
//! |---|---|
//! | [`guest`] | a VMware-like Debian as raw disk, VMDK and OVA, built once and cached |
//! | [`boot`] | a disk image running under QEMU, its serial console as text |
//! | [`fault`] | a file system that fills up, a child killed at a random moment |
//! | [`measure`] | a program's time and peak memory |
//! | [`apt`] | the archive that the host's apt configuration names |
//! | [`places`] | where the repository, its build products and the fixtures are |
//! | [`skip()`] | the only way not to run a test: loud, recorded, fatal in CI |

pub mod apt;
pub mod boot;
pub mod cmd;
pub mod fault;
pub mod guest;
mod libvirtd;
pub mod measure;
pub mod places;
mod skips;

pub use boot::{Boot, Bus, Running};
pub use fault::{SmallFs, kill_at_random};
pub use libvirtd::Libvirtd;
pub use guest::{Sample, SampleGuest, sample};
pub use places::{cache_dir, fixture, fixtures, repo, target_dir, v2v};
pub use skips::{has_tool, is_root, require_root, require_tool, skip, skip_log, uid};
