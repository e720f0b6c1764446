//! Builds sample guests, boots images, injects faults. Development only.
//!
//! | module | what a test gets from it |
//! |---|---|
//! | [`guest`] | a VMware-like Debian as raw disk, VMDK and OVA, built once and cached |
//! | [`guest::matrix`] | guests of Debian 11 to 13 that differ in what decides how Linux boots |
//! | [`guest::windows`] | Windows machines made of real hives, which do not boot |
//! | [`boot`] | a disk image running under QEMU, its serial console as text |
//! | [`physical`] | a machine without any virtio, booted from an ISO: firmware, disks, read errors, reset |
//! | [`terminal`] | what a person would see on a serial console |
//! | [`net`] | a proxy that cuts, delays, slows and counts |
//! | [`server`], [`agent`] | `v2v serve` and `p2v-agent` as processes |
//! | `liar` | an agent that lies (feature `p2v`) |
//! | [`browser`] | headless Chromium |
//! | [`fault`] | a file system that fills up, a child killed at a random moment |
//! | [`firstboot`] | the program of a Windows guest's first boot, compiled |
//! | [`measure`] | a program's time and peak memory |
//! | [`apt`] | the archive that the host's apt configuration names |
//! | [`places`] | where the repository, its build products and the fixtures are |
//! | [`skip()`] | the only way not to run a test: loud, recorded, fatal in CI |

pub mod agent;
pub mod apt;
pub mod boot;
pub mod browser;
pub mod cmd;
pub mod fault;
pub mod firstboot;
pub mod guest;
#[cfg(feature = "p2v")]
pub mod liar;
mod libvirtd;
pub mod measure;
pub mod net;
pub mod physical;
pub mod places;
mod process;
pub mod server;
mod skips;
pub mod terminal;

pub use boot::{Boot, Bus, Running};
pub use fault::{SmallFs, kill_at_random};
pub use guest::{Sample, SampleGuest, sample};
pub use libvirtd::Libvirtd;
pub use places::{cache_dir, fixture, fixtures, p2v_agent, p2v_iso, repo, target_dir, v2v};
pub use skips::{
    LONG, has_tool, is_root, long_story, require_root, require_tool, skip, skip_log, tells_all, uid,
};
