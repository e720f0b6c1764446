//! Whole packages: made here, made by VirtualBox, and VMware's collection of descriptors.

pub(crate) mod descriptor;
pub(crate) mod fixtures;
mod packages;
mod packed;
mod print_source;
