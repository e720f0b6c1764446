//! The VMDK reader against qemu-img, against files that VMware and VirtualBox made, and against damage.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, which clippy's allowance for test functions does not reach"
)]

mod builder;
mod chain;
mod compare;
mod damage;
mod damaged_streams;
mod esx;
mod fixtures;
mod mutation;
mod qemu;
mod scale;
mod support;
mod writer;
