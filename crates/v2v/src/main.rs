//! The v2v program.

fn main() {}
