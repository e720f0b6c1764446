//! Hives as a whole: random edits against a map, hostile bytes, the fixtures' real ones, hivex as a second reader.

mod edits;
mod model;
mod real;
