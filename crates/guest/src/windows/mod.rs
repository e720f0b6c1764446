//! Windows guests: everything is done offline, in the registry and beside it, before the first boot.

pub(crate) mod bcd;
pub(crate) mod caps;
pub(crate) mod concerns;
pub(crate) mod convert;
pub(crate) mod drivers;
pub(crate) mod files;
pub(crate) mod firstboot;
pub(crate) mod hibernation;
pub(crate) mod hives;
pub(crate) mod inspect;
pub(crate) mod steps;

#[cfg(test)]
pub(crate) mod tests;
