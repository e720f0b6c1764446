//! `v2v image convert` against `qemu-img convert` and `cp`: the table of issue 3.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::cmd;
use testkit::measure::{Measured, measure};

use super::grains::inflate_all;
use super::{Bench, MIB, ROUNDS, all_seconds, best, check_image, mib, peak, remove, seconds};

const VMDK_FACTOR: f64 = 4.0;
const COMPRESS_FACTOR: f64 = 2.0;
/// Against libdeflate alone, and against `cp --sparse=always`.
const NEAR: f64 = 1.3;
const RSS_LIMIT: u64 = 128 * MIB;
/// A disk whose size says nothing of what is on it.
const VAST_DISK: u64 = 10 << 40;
const VAST_USED: u64 = 1 << 30;
/// The same data on a disk of an ordinary size, for comparison.
const PLAIN_DISK: u64 = 10 << 30;
/// What walking the tables of 10 TiB may cost.
const VAST_EXTRA: Duration = Duration::from_secs(1);
/// How often the kernel is asked to forget what it has read.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// One copy that several programs make.
struct Contest {
    name: &'static str,
    source: PathBuf,
    /// Options that both programs take, before the files.
    options: &'static [&'static str],
    /// At least as many times faster than qemu-img.
    factor: f64,
    /// Copied by `cp --sparse=always` too.
    cp: bool,
}

/// Which cache the source is read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Warm,
    Cold,
}

impl Bench {
    /// The whole table.
    pub(super) fn images(&mut self) -> Result<Value> {
        let memory = tempfile::tempdir_in("/dev/shm").context("making a folder in /dev/shm")?;
        let contests = self.contests(memory.path())?;
        let mut results = Vec::new();
        for contest in &contests {
            results.push(self.contest(contest, memory.path(), "in memory", Cache::Warm, true)?);
        }
        let vmdk = &contests[0];
        let floor = inflate_all(&vmdk.source, ROUNDS)?;
        let ours = results[0]["v2v_best_s"].as_f64().unwrap_or(f64::MAX);
        self.line(
            "libdeflate alone on the grains of that VMDK",
            seconds(floor),
            None,
        );
        let over = ours / floor.as_secs_f64();
        self.line(
            "v2v's time, writing included, against that",
            format!("{over:.2} x"),
            None,
        );
        // What v2v itself adds to libdeflate is judged; what the kernel needs to take the bytes is cp's business.
        let threads = std::thread::available_parallelism()?.get() as f64;
        let user = results[0]["v2v_user_s"].as_f64().unwrap_or(f64::MAX);
        let over = user / (floor.as_secs_f64() * threads);
        self.line(
            "v2v's user processor time against libdeflate's",
            format!("{over:.2} x"),
            Some(over <= NEAR),
        );
        results[0]["libdeflate_s"] = json!(floor.as_secs_f64());
        results.push(self.vast(memory.path())?);

        let folder = self.fresh("copy")?;
        for cache in [Cache::Warm, Cache::Cold] {
            if cache == Cache::Cold && !testkit::is_root() {
                self.line(
                    "cold page cache: not measured, it needs root",
                    String::new(),
                    None,
                );
                break;
            }
            for contest in self.contests(&folder)?.iter().take(2) {
                let place = if cache == Cache::Warm {
                    "on disk"
                } else {
                    "on disk, cold"
                };
                results.push(self.contest(contest, &folder, place, cache, false)?);
            }
        }
        fs::remove_dir_all(&folder).context("removing the copies")?;
        Ok(Value::Array(results))
    }

    /// The sources, each in `folder`.
    fn contests(&self, folder: &Path) -> Result<Vec<Contest>> {
        let raw = folder.join("source.raw");
        if !raw.exists() {
            cmd::output(
                cmd::command("cp", ["--sparse=always"])
                    .arg(&self.guest.raw)
                    .arg(&raw),
            )?;
            let vmdk = self.guest.unpack_vmdk(folder)?;
            fs::rename(vmdk, folder.join("source.vmdk")).context("naming the VMDK")?;
            for format in ["qcow2", "vhdx"] {
                let to = folder.join(format!("source.{format}"));
                cmd::output(
                    cmd::command("qemu-img", ["convert", "-f", "raw", "-O", format])
                        .arg(&raw)
                        .arg(to),
                )?;
            }
        }
        let contest = |name, extension: &str, options, factor, cp| Contest {
            name,
            source: folder.join(format!("source.{extension}")),
            options,
            factor,
            cp,
        };
        const ZSTD: &[&str] = &["-c", "-o", "compression_type=zstd"];
        Ok(vec![
            contest(
                "streamOptimized VMDK to qcow2",
                "vmdk",
                &[],
                VMDK_FACTOR,
                false,
            ),
            contest("raw to qcow2", "raw", &[], 1.0, true),
            contest("qcow2 to qcow2", "qcow2", &[], 1.0, true),
            contest("VHDX to qcow2", "vhdx", &[], 1.0, true),
            contest(
                "raw to qcow2 -c zlib",
                "raw",
                &["-c"],
                COMPRESS_FACTOR,
                false,
            ),
            contest("raw to qcow2 -c zstd", "raw", ZSTD, COMPRESS_FACTOR, false),
        ])
    }

    /// All programs make the copy in turns; the results are compared.
    fn contest(
        &mut self,
        contest: &Contest,
        folder: &Path,
        place: &str,
        cache: Cache,
        judged: bool,
    ) -> Result<Value> {
        let file = |name: &str| folder.join(name);
        let (ours, theirs, copied) = (file("v2v.qcow2"), file("qemu-img.qcow2"), file("cp"));
        let (mut our_runs, mut their_runs, mut cp_runs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut v2v = Command::new(&self.v2v);
            v2v.args(["image", "convert"]);
            our_runs.push(self.turn(&mut v2v, contest, &ours, cache)?);
            let mut qemu_img = Command::new("qemu-img");
            qemu_img.args(["convert", "-m", "16", "-W"]);
            let mut run = self.turn(&mut qemu_img, contest, &theirs, cache)?;
            if !judged {
                // On a disk both results are to be durable; v2v's is.
                run.elapsed += measure(Command::new("sync").arg(&theirs))?.elapsed;
            }
            their_runs.push(run);
            if contest.cp {
                remove(&copied)?;
                self.prepare(&contest.source, cache)?;
                let mut cp = Command::new("cp");
                cp.arg("--sparse=always").arg(&contest.source).arg(&copied);
                let mut run = measure(&mut cp)?;
                if !judged {
                    run.elapsed += measure(Command::new("sync").arg(&copied))?.elapsed;
                }
                cp_runs.push(run);
            }
        }
        check_image(&ours)?;
        cmd::output(
            cmd::command("qemu-img", ["compare"])
                .arg(&ours)
                .arg(&theirs),
        )
        .context("comparing the copies")?;
        let size = |path: &Path| fs::metadata(path).map(|meta| meta.blocks() * 512);
        let sizes = (size(&ours)?, size(&theirs)?);
        for path in [&ours, &theirs, &copied] {
            remove(path)?;
        }
        self.report(
            contest,
            place,
            judged,
            [&our_runs, &their_runs, &cp_runs],
            sizes,
        );
        Ok(json!({
            "name": contest.name, "place": place, "v2v_best_s": best(&our_runs).as_secs_f64(), "v2v_user_s": user(&our_runs), "v2v_s": all_seconds(&our_runs),
            "qemu_img_s": all_seconds(&their_runs), "cp_s": all_seconds(&cp_runs), "v2v_bytes": sizes.0, "qemu_img_bytes": sizes.1,
            "peak_rss_bytes": peak(&our_runs), "cores_busy": cores_busy(&our_runs),
        }))
    }

    fn turn(
        &self,
        program: &mut Command,
        contest: &Contest,
        to: &Path,
        cache: Cache,
    ) -> Result<Measured> {
        remove(to)?;
        self.prepare(&contest.source, cache)?;
        let extension = contest.source.extension().unwrap_or_default();
        program
            .arg("-f")
            .arg(extension)
            .args(["-O", "qcow2"])
            .args(contest.options);
        measure(program.arg(&contest.source).arg(to))
    }

    fn report(
        &mut self,
        contest: &Contest,
        place: &str,
        judged: bool,
        runs: [&[Measured]; 3],
        sizes: (u64, u64),
    ) {
        let [ours, theirs, cp] = runs;
        let name = format!("{}, {place}", contest.name);
        let judge = |good: bool| judged.then_some(good);
        let synced = if judged { "" } else { ", then sync" };
        self.line(&format!("{name}: v2v (fsynced)"), seconds(best(ours)), None);
        self.line(
            &format!("{name}: qemu-img -m 16 -W{synced}"),
            seconds(best(theirs)),
            None,
        );
        let times = best(theirs).as_secs_f64() / best(ours).as_secs_f64();
        self.line(
            &format!("{name}: times faster"),
            format!("{times:.2} x"),
            judge(times >= contest.factor),
        );
        if contest.cp {
            let over = best(ours).as_secs_f64() / best(cp).as_secs_f64();
            self.line(
                &format!("{name}: cp --sparse=always{synced}"),
                seconds(best(cp)),
                None,
            );
            self.line(
                &format!("{name}: v2v's time against cp's"),
                format!("{over:.2} x"),
                judge(over <= NEAR),
            );
        }
        if contest.options.contains(&"-c") {
            let ratio = sizes.0 as f64 / sizes.1 as f64;
            self.line(
                &format!("{name}: v2v's size against qemu-img's"),
                format!("{ratio:.3} x"),
                judge(ratio <= 1.0),
            );
        }
        let rss = peak(ours);
        self.line(
            &format!("{name}: v2v's peak memory"),
            mib(rss),
            judge(rss <= RSS_LIMIT),
        );
        self.line(
            &format!("{name}: v2v's cores busy"),
            format!("{:.2}", cores_busy(ours)),
            None,
        );
    }

    /// 1 GiB of data on a disk of 10 TiB, and on one of 10 GiB.
    fn vast(&mut self, folder: &Path) -> Result<Value> {
        let mut runs = Vec::new();
        for len in [PLAIN_DISK, VAST_DISK] {
            let (disk, copy) = (folder.join("vast.raw"), folder.join("vast.qcow2"));
            scattered(&disk, len)?;
            let mut best_run: Option<Measured> = None;
            for _ in 0..ROUNDS {
                remove(&copy)?;
                let mut v2v = Command::new(&self.v2v);
                let run = measure(
                    v2v.args(["image", "convert", "-f", "raw", "-O", "qcow2"])
                        .arg(&disk)
                        .arg(&copy),
                )?;
                if best_run
                    .as_ref()
                    .is_none_or(|best| run.elapsed < best.elapsed)
                {
                    best_run = Some(run);
                }
            }
            check_image(&copy)?;
            remove(&copy)?;
            remove(&disk)?;
            runs.extend(best_run);
        }
        let (plain, vast) = (&runs[0], &runs[1]);
        self.line(
            "1 GiB used of 10 GiB, raw to qcow2",
            seconds(plain.elapsed),
            None,
        );
        self.line(
            "1 GiB used of 10 TiB, raw to qcow2",
            seconds(vast.elapsed),
            Some(vast.elapsed <= plain.elapsed + VAST_EXTRA),
        );
        self.line(
            "1 GiB used of 10 TiB: peak memory",
            mib(vast.peak_rss_bytes),
            Some(vast.peak_rss_bytes <= RSS_LIMIT),
        );
        Ok(json!({
            "name": "10 TiB virtual, 1 GiB used", "v2v_s": vast.elapsed.as_secs_f64(), "peak_rss_bytes": vast.peak_rss_bytes,
            "same_data_on_10_gib_s": plain.elapsed.as_secs_f64(),
        }))
    }

    fn prepare(&self, source: &Path, cache: Cache) -> Result<()> {
        self.warm(source)?;
        if cache == Cache::Cold {
            fs::write(DROP_CACHES, "3").context("dropping the page cache")?;
        }
        Ok(())
    }
}

/// A raw disk of `len` bytes with [`VAST_USED`] of data in pieces of 1 MiB all over it.
fn scattered(path: &Path, len: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(len).context("making the disk long")?;
    let pieces = VAST_USED / MIB;
    let mut piece = vec![0; usize::try_from(MIB)?];
    for number in 0..pieces {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all_at(&piece, len / pieces / MIB * MIB * number)
            .context("writing the disk")?;
    }
    Ok(())
}

/// Least processor time in user mode, in seconds.
fn user(runs: &[Measured]) -> f64 {
    runs.iter()
        .map(|run| run.user.as_secs_f64())
        .fold(f64::MAX, f64::min)
}

/// Processors in use on average, in the best run.
fn cores_busy(runs: &[Measured]) -> f64 {
    runs.iter()
        .min_by_key(|run| run.elapsed)
        .map_or(0.0, |run| {
            (run.user + run.system).as_secs_f64() / run.elapsed.as_secs_f64()
        })
}
