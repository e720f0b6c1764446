//! Bytes in memory.

use super::ByteStore;
use crate::{Error, Result};

impl ByteStore for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .ok_or_else(|| Error::io("reading", std::io::ErrorKind::UnexpectedEof.into()))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}
