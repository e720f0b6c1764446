//! Hives as a whole: random edits against a map, hostile bytes, the fixtures' real ones, hivex as a second reader.

#![expect(
    clippy::cast_possible_truncation,
    reason = "random numbers are cut on purpose"
)]

#[cfg(test)]
mod edits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod real;
