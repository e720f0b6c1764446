//! The p2v-agent program.

fn main() {}
