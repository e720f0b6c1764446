//! Compressed clusters: each is one raw deflate stream or one zstd frame that gives exactly a cluster, followed by
//! anything up to the end of its last sector.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zstd::zstd_safe::find_frame_compressed_size;

use crate::{Error, FileRange, Result};

use super::header::Compression;
use super::to_usize;

/// Decoders of one image. They are kept between uses, as many as threads ever read at once.
pub(in crate::formats) struct Decoders {
    compression: Compression,
    idle: Mutex<Vec<Decoder>>,
}

struct Decoder {
    engine: Engine,
    /// Compressed bytes: at most two clusters, as the descriptor counts.
    input: Vec<u8>,
}

enum Engine {
    Deflate(libdeflater::Decompressor),
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl Decoders {
    pub(in crate::formats) fn new(compression: Compression) -> Self {
        Self {
            compression,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Fills `cluster`, a whole one, from the `len` compressed bytes at `host`.
    pub(in crate::formats) fn decode(
        &self,
        range: &FileRange,
        host: u64,
        len: u64,
        cluster: &mut [u8],
    ) -> Result<()> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut decoder = match idle {
            Some(decoder) => decoder,
            None => Decoder {
                engine: Engine::new(self.compression)?,
                input: Vec::new(),
            },
        };
        decoder.input.resize(to_usize(len), 0);
        range.read_exact_at(&mut decoder.input, host)?;
        let result = decoder.engine.decode(&decoder.input, cluster);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(decoder);
        let found = result.map_err(|e| e.in_file(range.label()).at(host))?;
        if found == cluster.len() {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "expected a compressed cluster of {} bytes, found {found}",
            cluster.len()
        ))
        .in_file(range.label())
        .at(host))
    }
}

impl Engine {
    fn new(compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::Zlib => Self::Deflate(libdeflater::Decompressor::new()),
            Compression::Zstd => Self::Zstd(
                zstd::bulk::Decompressor::new()
                    .map_err(|e| Error::io("starting the zstd decoder", e))?,
            ),
        })
    }

    /// Bytes written to `cluster`. Neither engine writes past it, nor needs memory of the stream's choosing.
    fn decode(&mut self, input: &[u8], cluster: &mut [u8]) -> Result<usize> {
        match self {
            Self::Deflate(inflate) => inflate.deflate_decompress(input, cluster).map_err(|e| {
                let what = match e {
                    libdeflater::DecompressionError::BadData => "is no deflate stream",
                    libdeflater::DecompressionError::InsufficientSpace => {
                        "inflates to more than a cluster"
                    }
                };
                Error::corrupt(format!(
                    "compressed cluster of {} bytes {what}",
                    input.len()
                ))
            }),
            Self::Zstd(decoder) => {
                let frame = find_frame_compressed_size(input)
                    .ok()
                    .and_then(|len| input.get(..len))
                    .ok_or_else(|| {
                        Error::corrupt(format!(
                            "compressed cluster of {} bytes holds no zstd frame",
                            input.len()
                        ))
                    })?;
                decoder
                    .decompress_to_buffer(frame, cluster)
                    .map_err(|e| Error::corrupt(format!("zstd frame does not decode: {e}")))
            }
        }
    }
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoders")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}
