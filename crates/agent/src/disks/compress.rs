//! When chunks are compressed: when that is measured to be faster.
//!
//! Whether zstd pays depends on the line, the processor, what else runs on it, and the data; so it is tried. The unit
//! of measuring is an epoch: some chunks made in one mode, and the rate of *disk* bytes at which they left. Only an
//! epoch in which chunks had to wait for the network says anything about it: while the network takes whatever there is
//! (a slow disk, a server that asks for little, a 10 Gbit/s line), plain is right and nothing is tried.
//!
//! ```text
//! plain ──the network limits, a trial is due──> zstd for one epoch ──faster by a tenth──> zstd stays
//!   ^                                                │ not                                  │ plain is tried again
//!   └────────────────────────────────────────────────┴──────────────────────────────────────┘ after 4, 8, … 256 epochs
//! ```
//!
//! A trial that loses is not repeated soon, so a line that is faster than zstd pays
//! two percent in the first seconds and then nothing to speak of. A line that any
//! processor can outrun (`SLOW_LINE`) is not measured first in the plain mode for long.

use std::time::Duration;

use wire::chunk::Compress;

/// Chunks and time of an epoch.
const EPOCH_CHUNKS: u64 = 12;
const EPOCH_TIME: Duration = Duration::from_millis(250);
/// An epoch on a slow line ends after this and two chunks.
const EPOCH_MAX: Duration = Duration::from_secs(3);
/// Share of an epoch's chunks, in 1/8, that must have found others waiting.
const WAITING_EIGHTHS: u64 = 6;
/// How much faster the other mode must be: 11/10.
const FASTER: (u64, u64) = (11, 10);
/// Epochs before the other mode is tried again: at first, at most.
const FIRST_WAIT: u32 = 4;
const MAX_WAIT: u32 = 256;
/// Bytes a second that zstd surpasses on any processor.
const SLOW_LINE: u64 = 20 << 20;

/// The mode of the next chunk, and what was measured.
#[derive(Debug)]
pub(super) struct CompressPolicy {
    mode: Compress,
    /// Goes up with every change of mode; chunks carry it, so that those of the old mode are not counted.
    tag: u64,
    epoch: Option<Epoch>,
    /// Disk bytes a second of the last epoch in each mode.
    plain_rate: u64,
    zstd_rate: u64,
    /// The present epoch is the first of its mode.
    trial: bool,
    /// Epochs until the other mode is tried, and how many it will be next time.
    due: u32,
    wait: u32,
}

#[derive(Debug)]
struct Epoch {
    begun: Duration,
    chunks: u64,
    bytes: u64,
    waiting: u64,
}

/// A chunk that left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    /// Tag of its making.
    pub(super) tag: u64,
    /// Bytes of disk that travelled in it, uncompressed.
    pub(super) plain_bytes: u64,
    /// Others were ready and waiting.
    pub(super) waiting: bool,
    /// On any clock that only goes forward.
    pub(super) now: Duration,
}

impl CompressPolicy {
    pub(super) fn new() -> Self {
        Self {
            mode: Compress::Never,
            tag: 0,
            epoch: None,
            plain_rate: 0,
            zstd_rate: 0,
            trial: false,
            due: 0,
            wait: FIRST_WAIT,
        }
    }

    /// How the next chunk is made, and its tag.
    pub(super) fn choose(&self) -> (Compress, u64) {
        (self.mode, self.tag)
    }

    /// A chunk left.
    pub(super) fn left(&mut self, chunk: Departure) {
        if chunk.tag != self.tag || chunk.plain_bytes == 0 {
            return;
        }
        let Some(epoch) = &mut self.epoch else {
            // The first one only starts the clock.
            self.epoch = Some(Epoch {
                begun: chunk.now,
                chunks: 0,
                bytes: 0,
                waiting: 0,
            });
            return;
        };
        epoch.chunks += 1;
        epoch.bytes += chunk.plain_bytes;
        epoch.waiting += u64::from(chunk.waiting);
        let time = chunk.now.saturating_sub(epoch.begun);
        // A trial is short, since it may cost.
        let full = epoch.chunks >= EPOCH_CHUNKS && (self.trial || time >= EPOCH_TIME);
        if full || (epoch.chunks >= 2 && time >= EPOCH_MAX) {
            let nanos = time.as_nanos().max(1);
            let rate = u128::from(epoch.bytes) * 1_000_000_000 / nanos;
            let limited = epoch.waiting * 8 >= epoch.chunks * WAITING_EIGHTHS;
            self.epoch = None;
            self.decide(u64::try_from(rate).unwrap_or(u64::MAX), limited);
        }
    }

    fn decide(&mut self, rate: u64, limited: bool) {
        self.due = self.due.saturating_sub(1);
        let faster = |new: u64, old: u64| {
            u128::from(new) * u128::from(FASTER.1) > u128::from(old) * u128::from(FASTER.0)
        };
        let trial = std::mem::replace(&mut self.trial, false);
        match self.mode {
            Compress::Never => {
                self.plain_rate = rate;
                if trial {
                    // Back to zstd unless plain has become as good.
                    let keep = !limited || !faster(self.zstd_rate, rate);
                    self.settle(if keep {
                        Compress::Never
                    } else {
                        Compress::Zstd
                    });
                } else if limited && (self.due == 0 || (rate < SLOW_LINE && self.zstd_rate == 0)) {
                    self.switch(Compress::Zstd);
                    self.trial = true;
                }
            }
            Compress::Zstd => {
                self.zstd_rate = rate;
                if trial {
                    let keep = faster(rate, self.plain_rate);
                    self.settle(if keep {
                        Compress::Zstd
                    } else {
                        Compress::Never
                    });
                } else if self.due == 0 && rate >= SLOW_LINE {
                    self.switch(Compress::Never);
                    self.trial = true;
                } else if self.due == 0 {
                    self.due = self.wait;
                }
            }
        }
    }

    /// A trial ended; the next comes later.
    fn settle(&mut self, mode: Compress) {
        self.due = self.wait;
        self.wait = (self.wait * 2).min(MAX_WAIT);
        if mode != self.mode {
            self.switch(mode);
        }
    }

    fn switch(&mut self, mode: Compress) {
        self.mode = mode;
        self.tag += 1;
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 1 << 20;

    /// Sends 4000 chunks over a line of `line` bytes a second from a processor that makes `plain` bytes a second plain
    /// and `zstd` compressed to half. Returns seconds and the share of chunks that were compressed.
    fn run(line: f64, plain: f64, zstd: f64) -> (f64, f64) {
        let mut policy = CompressPolicy::new();
        let (mut now, mut compressed) = (0.0, 0);
        for _ in 0..4000 {
            let (mode, tag) = policy.choose();
            let (cpu, wire) = match mode {
                Compress::Never => (plain, 1.0),
                Compress::Zstd => (zstd, 0.5),
            };
            compressed += u32::from(mode == Compress::Zstd);
            #[expect(clippy::cast_precision_loss, reason = "a simulation")]
            let chunk = CHUNK as f64;
            let (making, sending) = (chunk / cpu, chunk * wire / line);
            now += making.max(sending);
            policy.left(Departure {
                tag,
                plain_bytes: CHUNK,
                waiting: sending > making,
                now: Duration::from_secs_f64(now),
            });
        }
        (now, f64::from(compressed) / 4000.0)
    }

    #[test]
    fn a_line_slower_than_zstd_gets_compressed_chunks() {
        let (seconds, share) = run(100e6, 2e9, 400e6);
        assert!(share > 0.9, "{share}");
        assert!(seconds < 4000.0 * 1.05 / 200.0 * 1.1, "{seconds}");
        let (_, share) = run(1e6, 2e9, 400e6);
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn a_line_faster_than_zstd_pays_next_to_nothing() {
        for line in [1.2e9, 10e9] {
            let (seconds, share) = run(line, 2e9, 300e6);
            let best = 4000.0 * 1.048_576e6 / line.min(2e9);
            assert!(share < 0.05, "{share}");
            assert!(seconds < best * 1.05, "{seconds} against {best}");
        }
    }

    #[test]
    fn a_disk_that_is_slower_than_the_line_is_never_compressed() {
        let (_, share) = run(100e6, 50e6, 50e6);
        assert!(share.abs() < f64::EPSILON, "{share}");
    }

    #[test]
    fn chunks_of_another_mode_and_empty_ones_are_not_counted() {
        let mut policy = CompressPolicy::new();
        for n in 0..1000 {
            let now = Duration::from_secs(n);
            policy.left(Departure {
                tag: 7,
                plain_bytes: CHUNK,
                waiting: true,
                now,
            });
            policy.left(Departure {
                tag: 0,
                plain_bytes: 0,
                waiting: true,
                now,
            });
        }
        assert_eq!(policy.choose(), (Compress::Never, 0));
    }
}
