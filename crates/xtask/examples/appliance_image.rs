//! Builds the appliance image: `cargo run -p xtask --example appliance_image [SUITE]`.

#[path = "../src/appliance_image/mod.rs"]
mod appliance_image;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."));
    let mut options = appliance_image::BuildOptions::new(workspace);
    options.suite = std::env::args().nth(1);
    appliance_image::build(&options)?;
    Ok(())
}
