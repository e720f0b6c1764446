//! Builds sample guests, boots images, injects faults. Development only.
