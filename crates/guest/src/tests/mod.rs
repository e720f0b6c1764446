//! Whole conversions on trees in temporary directories.

mod convert;
mod hostile;
mod initramfs;
mod inspect;
mod ko;
mod space;
pub(crate) mod tree;
