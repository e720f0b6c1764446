//! Other people's readers behind one small trait.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

/// A disk as somebody else reads it.
pub trait Second {
    /// Bytes that the guest sees.
    fn virtual_size(&self) -> u64;
    /// Fills `buf` from `offset`; both in whole sectors.
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<()>;
}

/// A reader that seeks.
struct Seeking<R> {
    reader: R,
    virtual_size: u64,
}

impl<R: Read + Seek> Second for Seeking<R> {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.reader
            .seek(SeekFrom::Start(offset))
            .context("seeking")?;
        self.reader.read_exact(buf).context("reading")
    }
}

/// `vmdk-core`: sparse, streamOptimized and flat VMDKs.
pub fn vmdk_core(path: &Path) -> Result<Box<dyn Second>> {
    let reader = vmdk::VmdkFileReader::open_path(path).map_err(|e| anyhow!("vmdk-core: {e}"))?;
    let virtual_size = reader.virtual_disk_size();
    Ok(Box::new(Seeking {
        reader,
        virtual_size,
    }))
}

/// `vhdx-core`: clean VHDX without a parent.
pub fn vhdx_core(path: &Path) -> Result<Box<dyn Second>> {
    let reader = vhdx_reader::VhdxReader::open(path).map_err(|e| anyhow!("vhdx-core: {e}"))?;
    let virtual_size = reader.virtual_disk_size();
    Ok(Box::new(Seeking {
        reader,
        virtual_size,
    }))
}

/// `vhdx`: clean VHDX below 4 GiB. It opens the file for writing.
pub fn vhdx_crate(path: &Path, virtual_size: u64) -> Box<dyn Second> {
    Box::new(Vhdx {
        disk: ::vhdx::Vhdx::load(path),
        virtual_size,
    })
}

struct Vhdx {
    disk: ::vhdx::Vhdx,
    virtual_size: u64,
}

impl Second for Vhdx {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Sector by sector: it does not read across the end of a block.
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut reader = self.disk.reader();
        for (sector, at) in buf.chunks_mut(512).zip((offset..).step_by(512)) {
            reader.seek(SeekFrom::Start(at)).context("seeking")?;
            reader.read_exact(sector).context("reading")?;
        }
        Ok(())
    }
}

/// `imago`: qcow2 without extended L2 entries and zstd.
pub fn imago_qcow2(path: &Path) -> Result<Box<dyn Second>> {
    use imago::file::File;
    use imago::qcow2::Qcow2;
    use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
    let image = Qcow2::<File>::builder_path(path)
        .open(PermissiveImplicitOpenGate::default())
        .context("imago")?;
    Ok(Box::new(Imago(FormatAccess::new(image))))
}

struct Imago(imago::FormatAccess<imago::file::File>);

impl Second for Imago {
    fn virtual_size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read(buf, offset).context("imago")
    }
}

/// `qcow2-rs`: qcow2 of the default cluster size, uncompressed or zlib.
pub fn qcow2_rs(path: &Path) -> Result<Box<dyn Second>> {
    use qcow2_rs::dev::Qcow2DevParams;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let params = Qcow2DevParams::new(9, None, None, true, false);
    let device = runtime
        .block_on(qcow2_rs::utils::qcow2_setup_dev_tokio(path, &params))
        .map_err(|e| anyhow!("qcow2-rs: {e}"))?;
    Ok(Box::new(Qcow2Rs { runtime, device }))
}

struct Qcow2Rs {
    runtime: tokio::runtime::Runtime,
    device: qcow2_rs::dev::Qcow2Dev<qcow2_rs::tokio_io::Qcow2IoTokio>,
}

impl Second for Qcow2Rs {
    fn virtual_size(&self) -> u64 {
        self.device.info.virtual_size()
    }

    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        let read = self
            .runtime
            .block_on(self.device.read_at(buf, offset))
            .map_err(|e| anyhow!("qcow2-rs: {e}"))?;
        ensure!(
            read == buf.len(),
            "expected {} bytes, found {read}",
            buf.len()
        );
        Ok(())
    }
}
