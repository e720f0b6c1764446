//! The .sys in System32\drivers.

use std::io::Read;

use super::driver::Driver;
use crate::windows::convert::Context;
use crate::windows::files;
use crate::{Error, ErrorKind, Result};

/// Drivers of virtio-win have at most 300 KiB.
pub(super) const FILE_MAX: u64 = 64 << 20;
/// dwSignature of VS_FIXEDFILEINFO (verrsrc.h), little-endian.
const FIXED_FILE_INFO: [u8; 4] = [0xbd, 0x04, 0xef, 0xfe];

/// Copies it there. A newer one that is there is kept.
pub(super) fn install(context: &mut Context<'_>, driver: &Driver) -> Result<()> {
    let content = read(context, driver, &driver.file)?;
    let path = place(context, &driver.file);
    if let Some(old) = files::read(context.root, &path, FILE_MAX)?
        && version(&old) > version(&content)
    {
        tracing::debug!("{path} is newer than that of the package");
        return Ok(());
    }
    let why = format!("Windows starts {} from here", driver.service);
    context.recorder.write(&path, &content, &why)?;
    Ok(())
}

/// True when the driver's file is there and not empty.
pub(super) fn is_there(context: &Context<'_>, file: &str) -> bool {
    let meta = context.root.meta(&place(context, file));
    meta.is_ok_and(|meta| meta.kind == crate::Kind::File && meta.len > 0)
}

/// A file of the package.
pub(super) fn read(context: &Context<'_>, driver: &Driver, file: &str) -> Result<Vec<u8>> {
    let member = driver.package.member(file).ok_or_else(|| {
        let message = format!("the driver package {} has no {file}", driver.inf_name);
        Error::new(ErrorKind::NotFound, message)
    })?;
    let mut content = Vec::new();
    let reader = context.payload.read(member)?;
    let read = reader.take(FILE_MAX + 1).read_to_end(&mut content);
    read.map_err(|error| Error::io("reading the payload", error).at(member))?;
    if content.len() as u64 > FILE_MAX {
        let message = format!("expected a driver's file of at most {FILE_MAX} bytes");
        return Err(Error::new(ErrorKind::Limit, message).at(member));
    }
    Ok(content)
}

/// Below System32\drivers, as it is spelled on the disk.
pub(super) fn place(context: &Context<'_>, file: &str) -> String {
    let path = format!("{}/System32/drivers/{file}", context.windows.system_root);
    files::place(context.root, &path)
}

/// dwFileVersion of the version resource; `None` where the file has none. The structure is aligned to 4 bytes.
fn version(file: &[u8]) -> Option<(u32, u32)> {
    let (words, _) = file.as_chunks::<4>();
    let at = words.iter().position(|word| *word == FIXED_FILE_INFO)?;
    let number = |skip: usize| words.get(at + skip).copied().map(u32::from_le_bytes);
    Some((number(2)?, number(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found() {
        let mut file = vec![0u8; 16];
        file.extend(FIXED_FILE_INFO);
        for word in [0x0001_0000u32, 0x0064_005a, 0x0068_5dc0] {
            file.extend(word.to_le_bytes());
        }
        assert_eq!(version(&file), Some((0x0064_005a, 0x0068_5dc0)));
        assert_eq!(version(&file[..24]), None);
        assert_eq!(version(b""), None);
    }
}
