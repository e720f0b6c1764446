//! `cargo xtask bench [--skip-virt-v2v] [--only-images|--only-p2v]`: the figures that README.md states, measured side by side
//! in one run.
//!
//! Both programs read and write on the same file system: `/dev/shm`, where neither waits for a disk, or
//! `target/bench`. Each figure is the best of three, the programs taking turns; virt-v2v, which needs minutes, runs
//! once. What is read is in the page cache (*warm*), but where a line says *cold*. Result: a table and
//! `target/bench.json`.

mod grains;
mod images;
mod p2v;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::cmd;
use testkit::guest::{Sample, SampleGuest, sample};
use testkit::measure::{Measured, measure};

use crate::{dist, packages, run as build};

const ROUNDS: usize = 3;
const MIB: u64 = 1 << 20;

struct Bench {
    v2v: PathBuf,
    guest: SampleGuest,
    dir: PathBuf,
    lines: Vec<Line>,
}

/// A figure and whether it is as good as promised.
struct Line {
    what: String,
    figure: String,
    good: Option<bool>,
}

#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut skip_virt_v2v, mut only_images, mut only_p2v) = (false, false, false);
    for arg in args {
        match arg.as_str() {
            "--skip-virt-v2v" => skip_virt_v2v = true,
            "--only-images" => only_images = true,
            "--only-p2v" => only_p2v = true,
            other => bail!(
                "unknown option {other}, expected --skip-virt-v2v, --only-images or --only-p2v"
            ),
        }
    }
    let whole = !only_images && !only_p2v;
    packages::ensure(if skip_virt_v2v || !whole {
        packages::Group::Demo
    } else {
        packages::Group::Bench
    })?;
    let dir = testkit::target_dir().join("bench");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let v2v = if whole {
        dist::build()?.join("v2v")
    } else {
        build::build("v2v", "v2v", build::Profile::Release)?
    };
    let mut bench = Bench {
        v2v,
        guest: sample(Sample::Bios)?,
        dir,
        lines: Vec::new(),
    };
    let mut result = json!({"host": host()?});
    if whole {
        let whole = bench.whole(!skip_virt_v2v)?;
        result["huge_disk"] = bench.huge(whole.best)?;
        result["whole"] = whole.json;
    }
    if !only_p2v {
        result["images"] = bench.images()?;
    }
    if !only_images {
        result["p2v"] = bench.p2v()?;
    }
    let host = &result["host"];
    println!("{}", host["text"].as_str().unwrap_or_default());
    for line in &bench.lines {
        let verdict = line.good.map_or("", |good| {
            if good {
                "as promised"
            } else {
                "NOT AS PROMISED"
            }
        });
        println!("{:<62} {:>12}  {verdict}", line.what, line.figure);
    }
    let path = testkit::target_dir().join("bench.json");
    fs::write(&path, serde_json::to_string_pretty(&result)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    fs::remove_dir_all(&bench.dir).context("removing target/bench")?;
    ensure!(
        bench.lines.iter().all(|line| line.good != Some(false)),
        "a figure is not as good as promised"
    );
    Ok(())
}

impl Bench {
    fn line(&mut self, what: &str, figure: String, good: Option<bool>) {
        self.lines.push(Line {
            what: what.to_owned(),
            figure,
            good,
        });
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    /// Makes reading `source` cost nothing but memory, and waits for what was written before.
    fn warm(&self, source: &Path) -> Result<()> {
        cmd::output(cmd::command("sync", ["-f"]).arg(&self.dir))?;
        let mut read = Command::new("sh");
        read.args(["-c", "exec cat \"$1\" > /dev/null", "sh"]);
        measure(read.arg(source)).map(drop)
    }
}

fn host() -> Result<Value> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, name)| name);
    let cores = std::thread::available_parallelism()
        .context("counting cores")?
        .get();
    let qemu = cmd::output(&mut cmd::command("qemu-img", ["--version"]))?;
    let qemu = qemu.lines().next().unwrap_or_default();
    let text =
        format!("{model}, {cores} cores, {qemu}; warm page cache; best of {ROUNDS}, virt-v2v once");
    Ok(json!({"text": text, "cpu": model, "cores": cores, "qemu": qemu, "rounds": ROUNDS}))
}

fn check_image(path: &Path) -> Result<()> {
    cmd::output(cmd::command("qemu-img", ["check"]).arg(path)).map(drop)
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn best(runs: &[Measured]) -> Duration {
    runs.iter()
        .map(|run| run.elapsed)
        .min()
        .unwrap_or(Duration::MAX)
}

fn peak(runs: &[Measured]) -> u64 {
    runs.iter()
        .map(|run| run.peak_rss_bytes)
        .max()
        .unwrap_or(u64::MAX)
}

fn all_seconds(runs: &[Measured]) -> Vec<f64> {
    runs.iter().map(|run| run.elapsed.as_secs_f64()).collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_best_time_and_the_worst_memory() {
        let run = |seconds, peak_rss_bytes| Measured {
            elapsed: Duration::from_secs(seconds),
            peak_rss_bytes,
            user: Duration::ZERO,
            system: Duration::ZERO,
            stdout: String::new(),
        };
        let runs = [run(3, 5), run(2, 9), run(4, 1)];
        assert_eq!((best(&runs), peak(&runs)), (Duration::from_secs(2), 9));
        assert_eq!(mib(256 * MIB), "256 MiB");
    }
}
