//! Whole conversions on trees in temporary directories.

mod convert;
mod generators;
mod hostile;
mod initramfs;
mod inspect;
mod ko;
mod space;
mod tree;
