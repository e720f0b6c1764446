//! `cargo xtask demo`: from nothing to a converted guest that boots on virtio, with the timings.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::boot::{Boot, Bus};
use testkit::guest::{Sample, sample};

use crate::{dist, packages, run};

/// TCG on a small machine.
const LOGIN: Duration = Duration::from_secs(600);

#[expect(clippy::print_stdout, reason = "the demo's result")]
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    packages::ensure(packages::Group::Demo)?;
    let dist = dist::build()?;
    let built = begun.elapsed();
    let guest = sample(Sample::Bios)?;
    let sampled = begun.elapsed();

    let out = testkit::target_dir().join("demo");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let report = out.join("report.json");
    let mut convert = Command::new(dist.join("v2v"));
    convert
        .args(["-i", "ova"])
        .arg(&guest.ova)
        .args(["-o", "local", "-of", "qcow2", "-os"])
        .arg(&out);
    convert.arg("--report").arg(&report);
    let started = Instant::now();
    run::run(&mut convert)?;
    let converted = started.elapsed();

    let disk = out.join(format!("{}-sda", guest.name));
    let started = Instant::now();
    let xml = fs::read_to_string(out.join(format!("{}.xml", guest.name)))
        .context("reading the domain XML")?;
    let mac = xml
        .split("<mac address=")
        .nth(1)
        .map(|rest| rest.chars().skip(1).take(17).collect::<String>());
    let boot = Boot::new(&disk, "qcow2").bus(Bus::Virtio).net(
        guest.static_ip,
        guest.gateway,
        mac.as_deref(),
    );
    let mut boot = boot.start()?;
    boot.wait_login(LOGIN)?;
    let booted = started.elapsed();
    let banner = boot.ssh_banner(Duration::from_secs(120))?;
    let transcript = boot.transcript();
    let login = transcript
        .lines()
        .rev()
        .find(|line| line.contains("login:"))
        .unwrap_or_default();

    println!();
    println!("{}", login.trim());
    println!("{} answers: {}", guest.static_ip, banner.trim());
    println!();
    println!("built      {:6.1} s", built.as_secs_f64());
    println!("sample OVA {:6.1} s", (sampled - built).as_secs_f64());
    println!(
        "converted  {:6.1} s   {}",
        converted.as_secs_f64(),
        disk.display()
    );
    println!(
        "booted     {:6.1} s   on virtio, to the login",
        booted.as_secs_f64()
    );
    println!("changes in {}", report.display());
    Ok(())
}
