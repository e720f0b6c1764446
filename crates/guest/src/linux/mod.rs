//! Linux guests, by rule and not by distribution name wherever possible.

pub(crate) mod boot;
pub(crate) mod caps;
pub(crate) mod concerns;
pub(crate) mod convert;
pub(crate) mod customise;
pub(crate) mod devices;
pub(crate) mod escapes;
pub(crate) mod fstab;
pub(crate) mod hibernation;
pub(crate) mod initrd;
pub(crate) mod inspect;
pub(crate) mod kargs;
pub(crate) mod kernel_config;
pub(crate) mod kernels;
pub(crate) mod kmod_index;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod os_release;
pub(crate) mod osinfo;
pub(crate) mod packages;
pub(crate) mod steps;
