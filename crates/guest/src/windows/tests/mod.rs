//! Phony Windows guests: trees with a registry of the real layout, made by our own engine.
//!
//! ```text
//!   machine("2k19") ──> Machine ──> set, put ──> save ──> inspect, convert
//! ```

pub(crate) mod bcd;
mod inspect;
pub(crate) mod machine;
mod storage;
mod version;

pub(crate) use machine::machine;
