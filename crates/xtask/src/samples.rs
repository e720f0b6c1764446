//! `cargo xtask samples [NAME…]`: builds the sample guests, or says where the cached ones are.

use std::time::Instant;

use anyhow::{Result, bail};
use testkit::guest::{Sample, sample};

use crate::packages;

/// Builds the samples named in `names` (`bios`, `uefi`, `lvm`, `md`; all if none is named) and prints where they are.
pub(crate) fn run(names: &[String]) -> Result<()> {
    packages::ensure(packages::Group::Demo)?;
    let mut wanted = Vec::new();
    for name in names {
        match Sample::ALL
            .into_iter()
            .find(|sample| sample.name().strip_prefix("sample-") == Some(name))
        {
            Some(sample) => wanted.push(sample),
            None => bail!("unknown sample guest {name:?}, expected bios, uefi, lvm or md"),
        }
    }
    if wanted.is_empty() {
        wanted.extend(Sample::ALL);
    }
    wanted.into_iter().try_for_each(build)
}

/// The samples that the tests want; only long stories want the one on an array.
pub(crate) fn for_tests(all: bool) -> impl Iterator<Item = Sample> {
    let wanted = move |sample: &Sample| all || matches!(sample, Sample::Bios | Sample::Uefi);
    Sample::ALL.into_iter().filter(wanted)
}

/// Builds it unless it is in the cache.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
pub(crate) fn build(which: Sample) -> Result<()> {
    let begin = Instant::now();
    let guest = sample(which)?;
    eprintln!(
        "{} ({:.1} s)",
        guest.raw.display(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
