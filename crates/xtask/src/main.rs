//! What a developer or CI runs: cargo xtask test, demo, bench, dist.

fn main() {}
