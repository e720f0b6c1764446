//! What a developer or CI runs: cargo xtask test, demo, bench, dist.

mod samples;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        Some(("samples", rest)) => samples::run(rest).map(drop),
        _ => bail!("expected: cargo xtask samples [NAME...]"),
    }
}
