//! VHD, VDI and Parallels disks against files that Windows, Virtual PC and VirtualBox made, against qemu-img where it
//! is a valid oracle, against independent builders where it is not, and against damage.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, which clippy's allowance for test functions does not reach"
)]

mod builder;
mod chains;
mod fixtures;
mod mutation;
mod qemu;
mod refusals;
mod scale;
mod support;
mod writer;
