//! How a conversion talks: stage lines and bars on a terminal, plain lines otherwise, JSON events for programs.
//!
//! Talk goes to stderr, JSON events to the stream of `--machine-readable` (stdout unless told).

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use convert::{DiskProgress, Events, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use types::{GuestInfo, StepOutcome, StepReport};

/// Time between two plain progress lines of one disk.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Time between two JSON progress events of one disk.
const JSON_EVERY: Duration = Duration::from_millis(500);

/// What is printed, and where.
pub(crate) struct Printer {
    start: Instant,
    quiet: bool,
    verbose: bool,
    /// Warnings come with the result.
    inspecting: bool,
    terminal: bool,
    bars: MultiProgress,
    json: Option<Mutex<Box<dyn Write + Send>>>,
    disks: Mutex<Vec<DiskState>>,
}

struct DiskState {
    started: Instant,
    bar: Option<ProgressBar>,
    last_json: Option<Instant>,
    last_plain: Instant,
    finished: bool,
}

impl Printer {
    /// `json` receives one JSON object a line.
    pub(crate) fn new(quiet: bool, verbose: bool, json: Option<Box<dyn Write + Send>>) -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            start: Instant::now(),
            quiet,
            verbose,
            inspecting: false,
            terminal,
            bars: MultiProgress::with_draw_target(target),
            json: json.map(Mutex::new),
            disks: Mutex::new(Vec::new()),
        }
    }

    /// Warnings are part of what is printed at the end, and not printed as they come.
    pub(crate) fn for_inspection(mut self) -> Self {
        self.inspecting = true;
        self
    }

    /// The last event of an inspection.
    pub(crate) fn inspected(&self, convertible: bool) {
        self.emit(&json!({"type": "inspected", "convertible": convertible}));
    }

    /// The last event: what was made, or the error.
    pub(crate) fn end(&self, result: Result<&convert::Outcome, &str>) {
        match result {
            Ok(outcome) => {
                let files: Vec<_> = outcome
                    .placed
                    .files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                self.emit(&json!({"type": "done", "files": files, "domain": outcome.placed.domain, "changes": outcome.changes.len(), "steps": outcome.steps}));
                for line in steps(&outcome.steps) {
                    self.line(&line);
                }
                self.line(&format!("finished: {}", files.join(" ")));
            }
            Err(message) => self.emit(&json!({"type": "error", "message": message})),
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let line = format!("[{:7.1}] {text}", self.start.elapsed().as_secs_f64());
        if self.terminal {
            // Above the bars, if there are any.
            let _ = self.bars.println(&line);
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn emit(&self, event: &Value) {
        if let Some(json) = &self.json {
            let mut out = lock(json);
            // A reader that went away does not end the conversion.
            let _ = writeln!(out, "{event}").and_then(|()| out.flush());
        }
    }

    fn new_disk(&self, progress: &DiskProgress) -> DiskState {
        let bar = (self.terminal && !self.quiet).then(|| {
            let style = ProgressStyle::with_template(
                "          {prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bars.add(
                ProgressBar::new(progress.total_bytes)
                    .with_style(style)
                    .with_prefix(format!("disk {}/{}", progress.disk + 1, progress.disks)),
            )
        });
        let now = Instant::now();
        DiskState {
            started: now,
            bar,
            last_json: None,
            last_plain: now,
            finished: false,
        }
    }
}

impl Events for Printer {
    fn stage(&self, stage: Stage, text: &str) {
        self.emit(&json!({"type": "stage", "stage": stage.word(), "text": text}));
        self.line(text);
    }

    fn step(&self, name: &str) {
        self.emit(&json!({"type": "step", "step": name}));
        if self.verbose {
            self.line(&format!("  step {name}"));
        }
    }

    fn appliance(&self, hello_ms: u64, accel: &str) {
        self.emit(&json!({"type": "appliance", "hello_ms": hello_ms, "accel": accel}));
        if self.verbose {
            self.line(&format!(
                "  appliance answered after {hello_ms} ms under {accel}"
            ));
        }
    }

    fn disk(&self, progress: DiskProgress) {
        let mut disks = lock(&self.disks);
        while disks.len() <= progress.disk {
            let state = self.new_disk(&progress);
            disks.push(state);
        }
        let state = &mut disks[progress.disk];
        let finished = progress.copied_bytes >= progress.total_bytes;
        if state.finished {
            return;
        }
        state.finished = finished;
        if let Some(bar) = &state.bar {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.copied_bytes);
            if finished {
                bar.finish();
            }
        }
        let seconds = state.started.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 {
            progress.copied_bytes as f64 / seconds
        } else {
            0.0
        };
        let left = progress.total_bytes.saturating_sub(progress.copied_bytes) as f64;
        let eta = (rate > 0.0).then(|| left / rate);
        if finished
            || state
                .last_json
                .is_none_or(|last| last.elapsed() >= JSON_EVERY)
        {
            state.last_json = Some(Instant::now());
            self.emit(&json!({
                "type": "disk",
                "disk": progress.disk,
                "disks": progress.disks,
                "bytes": progress.copied_bytes,
                "total": progress.total_bytes,
                "rate": rate.round(),
                "eta": eta.map(f64::round),
            }));
        }
        if state.bar.is_none() && (finished || state.last_plain.elapsed() >= PLAIN_EVERY) {
            state.last_plain = Instant::now();
            let percent = (progress.copied_bytes * 100)
                .checked_div(progress.total_bytes)
                .unwrap_or(100);
            self.line(&format!(
                "  disk {}/{}: {percent} %, {} MiB, {:.0} MiB/s{}",
                progress.disk + 1,
                progress.disks,
                progress.copied_bytes >> 20,
                rate / f64::from(1 << 20),
                if finished {
                    String::new()
                } else {
                    eta.map_or_else(String::new, |eta| format!(", {eta:.0} s left"))
                }
            ));
        }
    }

    fn note(&self, text: &str) {
        self.emit(&json!({"type": "note", "text": text}));
        self.line(text);
    }

    fn warning(&self, text: &str) {
        self.emit(&json!({"type": "warning", "text": text}));
        if !self.inspecting || self.verbose {
            self.line(&format!("warning: {text}"));
        }
    }

    fn log(&self, line: &str) {
        self.emit(&json!({"type": "log", "text": line}));
        if self.verbose {
            self.line(&format!("  {line}"));
        }
    }

    fn choose_root(&self, guests: &[GuestInfo]) -> Option<usize> {
        if !(io::stdin().is_terminal() && self.terminal) {
            return None;
        }
        let mut err = io::stderr();
        let _ = writeln!(err, "This machine holds several operating systems:");
        for (index, guest) in guests.iter().enumerate() {
            let _ = writeln!(
                err,
                "  [{}] {} {}",
                index + 1,
                guest.root,
                guest.product_name
            );
        }
        let _ = write!(err, "Convert which one (1-{})? ", guests.len());
        let _ = err.flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        let number: usize = answer.trim().parse().ok()?;
        number.checked_sub(1).filter(|index| *index < guests.len())
    }
}

/// What became of the steps, for people: how many did something, and each that could not.
fn steps(steps: &[StepReport]) -> Vec<String> {
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    let skipped: Vec<_> = steps
        .iter()
        .filter(|step| step.outcome == StepOutcome::Skipped)
        .collect();
    let first = format!(
        "steps: {} applied, {} not needed, {} skipped{}",
        count(StepOutcome::Applied),
        count(StepOutcome::NotNeeded),
        skipped.len(),
        if skipped.is_empty() { "" } else { ":" }
    );
    std::iter::once(first)
        .chain(
            skipped
                .iter()
                .map(|step| format!("  {}: {}", step.name, step.reason)),
        )
        .collect()
}

/// Opens the stream that `--machine-readable=FORMAT` names.
pub(crate) fn json_stream(format: &str) -> io::Result<Box<dyn Write + Send>> {
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "expected stream:stdout, stream:stderr, fd:N or file:NAME",
        )
    };
    match format.split_once(':').ok_or_else(wrong)? {
        ("stream", "stdout") => Ok(Box::new(io::stdout())),
        ("stream", "stderr") => Ok(Box::new(io::stderr())),
        ("fd", number) => {
            let number: u32 = number.parse().map_err(|_| wrong())?;
            Ok(Box::new(
                File::options()
                    .append(true)
                    .open(format!("/dev/fd/{number}"))?,
            ))
        }
        ("file", name) => Ok(Box::new(File::create(name)?)),
        _ => Err(wrong()),
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_steps_are_named_with_their_reasons() {
        let step = |name: &str, outcome, reason: &str| StepReport {
            name: name.into(),
            outcome,
            reason: reason.into(),
        };
        let lines = steps(&[
            step("initramfs", StepOutcome::Applied, ""),
            step("console", StepOutcome::NotNeeded, "it has one"),
            step("network", StepOutcome::Skipped, "two files disagree"),
        ]);
        let want = [
            "steps: 1 applied, 1 not needed, 1 skipped:",
            "  network: two files disagree",
        ];
        assert_eq!(lines, want);
        assert_eq!(steps(&[]), ["steps: 0 applied, 0 not needed, 0 skipped"]);
    }
}
