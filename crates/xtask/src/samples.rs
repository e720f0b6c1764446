//! `cargo xtask samples [NAME…]`: builds the sample guests, or says where the cached ones are.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};
use testkit::{Sample, SampleGuest};

/// Builds the samples named in `names` (`bios`, `uefi`, `lvm`; all if none is named) and prints where they are.
pub(crate) fn run(names: &[String]) -> Result<Vec<SampleGuest>> {
    let mut wanted = Vec::new();
    for name in names {
        match Sample::ALL
            .into_iter()
            .find(|sample| sample.name().strip_prefix("sample-") == Some(name))
        {
            Some(sample) => wanted.push(sample),
            None => bail!("unknown sample guest {name:?}, expected bios, uefi or lvm"),
        }
    }
    if wanted.is_empty() {
        wanted.extend(Sample::ALL);
    }
    let mut guests = Vec::new();
    for sample in wanted {
        let begin = Instant::now();
        let guest = testkit::sample(sample)?;
        writeln!(
            std::io::stdout(),
            "{} ({:.1} s)",
            guest.ova.display(),
            begin.elapsed().as_secs_f64()
        )?;
        guests.push(guest);
    }
    Ok(guests)
}
