//! `-p`: a bar on a terminal, a line now and then otherwise.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use image::copy::CopyProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

/// Time between two lines where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What `-p` shows.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    plain: Option<Mutex<Instant>>,
}

impl Progress {
    /// Shows nothing unless `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (wanted && terminal).then(|| {
            let style = ProgressStyle::with_template(
                "{bar:30} {percent}% {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar
        });
        Self {
            bar,
            plain: (wanted && !terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// So far.
    pub(super) fn at(&self, progress: CopyProgress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.copied_bytes);
        }
        if let Some(Ok(mut last)) = self.plain.as_ref().map(Mutex::try_lock)
            && last.elapsed() >= PLAIN_EVERY
        {
            *last = Instant::now();
            let percent = (u128::from(progress.copied_bytes) * 100)
                .checked_div(u128::from(progress.total_bytes))
                .unwrap_or(100);
            say(&format!("{percent}% of {} MiB", progress.total_bytes >> 20));
        }
    }

    /// The end, good or bad.
    pub(super) fn end(&self, whole: bool) {
        match &self.bar {
            Some(bar) if whole => bar.finish(),
            Some(bar) => bar.abandon(),
            None => {}
        }
        if self.plain.is_some() && whole {
            say("100%");
        }
    }
}
