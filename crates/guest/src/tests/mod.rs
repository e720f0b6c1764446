//! Whole conversions on trees in temporary directories.

mod boot;
mod convert;
pub(crate) mod fixtures;
mod generators;
mod hostile;
mod initramfs;
mod inspect;
mod ko;
pub(crate) mod pe;
mod phony;
mod space;
pub(crate) mod tree;
