//! `v2v image …` beside qemu-img on the same files: output, exit status, and what is left behind.
#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod check;
mod compare;
mod convert;
mod info;
mod map;
mod resize;
mod support;
