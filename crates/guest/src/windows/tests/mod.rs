//! Phony Windows guests: trees with a registry of the real layout, made by our own engine.
//!
//! ```text
//!   machine("2k19") ──> Machine ──> set, put ──> save ──> inspect, convert
//! ```

pub(crate) mod bcd;
mod beside_virt_v2v;
mod boot;
mod concerns;
mod convert;
mod golden;
mod hostile;
mod inspect;
pub(crate) mod machine;
pub(crate) mod regdiff;
pub(crate) mod storage;
pub(crate) mod version;

pub(crate) use machine::machine;
