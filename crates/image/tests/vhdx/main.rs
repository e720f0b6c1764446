//! VHDX against Hyper-V's files, qemu-img, two other readers, an independent builder of images, and damage.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, which clippy's allowance for test functions does not reach"
)]

mod builder;
mod differencing;
mod fixtures;
mod logs;
mod mutation;
mod qemu;
mod refusals;
mod support;
mod writer;
