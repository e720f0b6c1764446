//! What a developer or CI runs: `cargo xtask test`, `demo`, `bench`, `fuzz`, `dist`, `iso`, `check`.

mod appliance_image;
mod bench;
mod debian;
mod demo;
mod dist;
mod fuzz;
mod iso;
mod lanes;
mod matrix;
mod packages;
mod room;
mod run;
mod samples;
mod suites;
mod test;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--all] [FILTER]
                 install what the tests need, then run the tests (CI calls this); with --all the long ones, too
  demo           from nothing to a VMware-like guest converted and booted on virtio
  bench          the figures of README.md, measured again
  fuzz [TARGET…] [--seconds N] [--jobs N]
                 the fuzz targets, 10 minutes each; table and target/fuzz/summary.json
  dist           target/dist: v2v and its appliance, relocatable
  check          formatting and lints
  appliance      only the appliance image
  iso [--agent PATH]
                 target/iso: p2v.iso, and its kernel and initrd for PXE
  matrix [--build | --unconverted | --converted] [--jobs N] [NAME…]
                 every guest of the matrix converted and booted: a table, and
                 target/matrix/matrix.json; --build: only made, --unconverted:
                 only booted as they are, --converted: not booted before
  samples        only the sample guests
  packages       only the Debian packages";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => bail!("{USAGE}"),
    };
    match command {
        "test" => test::run(rest),
        "demo" => demo::run(),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "dist" => dist::run(),
        "check" => test::check(),
        "appliance" => dist::appliance(run::Profile::Dev).map(|_| ()),
        "iso" => iso::run(rest),
        "matrix" => matrix::run(rest),
        "samples" => samples::run(rest),
        "packages" => packages::ensure(packages::Group::Test),
        _ => bail!("no such command: {command}\n\n{USAGE}"),
    }
}
