//! Copies between sparse files: holes are passed over, and blocks of zeroes become some. A disk of a guest is mostly neither
//! read nor written.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const BLOCK: usize = 1 << 18;

/// Copies `len` bytes at `start` of one file to `place` of the other, which has zeroes there.
pub(super) fn copy(from: &File, start: u64, len: u64, to: &File, place: u64) -> Result<()> {
    let end = start + len;
    let have = from.metadata().context("asking for a file's length")?.len();
    ensure!(end <= have, "expected {end} bytes, the file has {have}");
    let zeroes = vec![0; BLOCK];
    let mut block = vec![0; BLOCK];
    let mut at = start;
    while at < end {
        at = match seek(from, SeekFrom::Data(at)) {
            // A hole up to the end of the file.
            Err(Errno::NXIO) => return Ok(()),
            data => data.context("looking for data in a file")?,
        };
        let hole = seek(from, SeekFrom::Hole(at)).context("looking for a hole in a file")?;
        let hole = hole.min(end);
        while at < hole {
            let len = usize::try_from(hole - at).map_or(BLOCK, |left| left.min(BLOCK));
            from.read_exact_at(&mut block[..len], at)
                .context("reading what is copied")?;
            if block[..len] != zeroes[..len] {
                to.write_all_at(&block[..len], place + (at - start))
                    .context("writing a copy")?;
            }
            at += len as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_behind_holes_is_copied_to_its_place() {
        let [from, to] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        let block = BLOCK as u64;
        from.set_len(9 * block).unwrap();
        from.write_all_at(b"early", 5).unwrap();
        from.write_all_at(b"first", block + 7).unwrap();
        from.write_all_at(b"last", 7 * block - 4).unwrap();
        from.write_all_at(b"late", 8 * block).unwrap();
        copy(&from, block, 6 * block, &to, 3).unwrap();
        let len = to.metadata().unwrap().len();
        assert_eq!(len, 6 * block + 3);
        let mut all = vec![0; usize::try_from(len).unwrap()];
        to.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all[10..15], b"first");
        assert_eq!(&all[all.len() - 4..], b"last");
        assert_eq!(all.iter().filter(|&&byte| byte != 0).count(), 9);
        assert!(copy(&from, block, 9 * block, &to, 0).is_err());
    }
}
