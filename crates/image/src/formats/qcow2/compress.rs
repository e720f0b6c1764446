//! Compresses clusters: each to a raw deflate stream (RFC 1951) or a zstd frame (RFC 8878) of its own, qcow2
//! "Compressed Clusters Descriptor".
//!
//! QEMU inflates with a window of 4 KiB declared, yet in one call from the first byte to the last of a cluster; then
//! zlib copies from the output itself, and distances up to the cluster's length are good. So the matches here may be
//! as far as deflate allows, which makes the result smaller than QEMU's own.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use zstd::zstd_safe::{CParameter, Strategy};

use crate::formats::create::Compression;
use crate::{Error, ErrorKind, Result};

/// libdeflate's level. On a Debian 12 system (`examples/qcow2_write_speed.rs`) it takes a quarter of the processor time
/// of `qemu-img convert -c`, and the image is 4 % smaller. Level 6 would take 22 % more time for 3 % less.
const DEFLATE_LEVEL: i32 = 4;
/// zstd's level, QEMU's own.
const ZSTD_LEVEL: i32 = 3;
/// Clusters for which the tables below are better than the level's own.
const ZSTD_TUNED: RangeInclusive<u64> = 32 << 10..=128 << 10;
/// What level 3 does, with tables that stay in the processor's nearer caches. On the same system, wall time and size
/// (`cargo xtask bench`; qemu-img -m 16 -W takes 3.1 s, 255 096 KiB): hash 15, chain 14, match 5: 1.33 s, 255 012;
/// 14, 13, 5: 1.39 s, 255 700; 14, 13, 4: 1.5 s, 252 344.
const ZSTD_PARAMETERS: [CParameter; 4] = [
    CParameter::Strategy(Strategy::ZSTD_dfast),
    CParameter::HashLog(15),
    CParameter::ChainLog(14),
    CParameter::MinMatch(5),
];

/// Compressors, kept between uses, as many as threads ever write at once.
pub(super) struct Encoders {
    compression: Compression,
    cluster_size: u64,
    idle: Mutex<Vec<Encoder>>,
}

/// One thread's compressor.
pub(super) struct Encoder {
    engine: Engine,
    /// Compressed clusters end to end.
    pub(super) packed: Vec<u8>,
}

enum Engine {
    Deflate(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoders {
    pub(super) fn new(compression: Compression, cluster_size: u64) -> Self {
        Self {
            compression,
            cluster_size,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Lends an encoder to `work`.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Encoder) -> Result<T>) -> Result<T> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut encoder = match idle {
            Some(encoder) => encoder,
            None => Encoder {
                engine: Engine::new(self.compression, self.cluster_size)?,
                packed: Vec::new(),
            },
        };
        encoder.packed.clear();
        let result = work(&mut encoder);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(encoder);
        result
    }
}

impl Encoder {
    /// Appends a compressed cluster to `packed` and returns its length; `None` where it would not be smaller.
    pub(super) fn compress(&mut self, cluster: &[u8]) -> Result<Option<usize>> {
        let start = self.packed.len();
        self.packed.resize(start + cluster.len() - 1, 0);
        let len = self.engine.compress(cluster, &mut self.packed[start..])?;
        self.packed.truncate(start + len.unwrap_or(0));
        Ok(len)
    }
}

impl Engine {
    fn new(compression: Compression, cluster_size: u64) -> Result<Self> {
        Ok(match compression {
            Compression::Zlib => {
                let level = CompressionLvl::new(DEFLATE_LEVEL).unwrap_or_default();
                Self::Deflate(Compressor::new(level))
            }
            Compression::Zstd => {
                let starting = |e| Error::io("starting the zstd encoder", e);
                let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(starting)?;
                if ZSTD_TUNED.contains(&cluster_size) {
                    for parameter in ZSTD_PARAMETERS {
                        compressor.set_parameter(parameter).map_err(starting)?;
                    }
                }
                Self::Zstd(compressor)
            }
        })
    }

    /// Bytes written to `target`; `None` where it is too short for them.
    fn compress(&mut self, cluster: &[u8], target: &mut [u8]) -> Result<Option<usize>> {
        match self {
            Self::Deflate(compressor) => Ok(compressor
                .deflate_compress(cluster, target)
                .ok()
                .filter(|&len| len > 0)),
            Self::Zstd(compressor) => match compressor.compress_to_buffer(cluster, target) {
                Ok(0) => Err(Error::new(ErrorKind::Io, "the zstd encoder gave nothing")),
                Ok(len) => Ok(Some(len)),
                // The only failure of a compression in memory is a short target.
                Err(_) => Ok(None),
            },
        }
    }
}

impl fmt::Debug for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoders")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}
