//! Bare disk files and NBD exports (`-i disk`): a machine is made up around them, as virt-v2v does it. Each is opened
//! by its own content, so their formats may differ.

use std::path::{Path, PathBuf};

use image::Files;
use image::formats::{is_uri, open_bytes};
use types::{Disk, DiskBus, Hypervisor, Machine, Nic, NicNetwork};

use crate::error::{Error, ErrorKind, Result};
use crate::open::SourceOptions;
use crate::{Prepared, PreparedDisk};

/// Network of its one adapter.
const NETWORK: &str = "default";

/// Opens the files as bytes.
pub(crate) fn prepare(paths: &[PathBuf], options: &SourceOptions) -> Result<Prepared> {
    let Some(first) = paths.first() else {
        return Err(Error::new(
            ErrorKind::Usage,
            "expected at least one disk file, found none",
        ));
    };
    let name = name_of(first)?;
    let mut disks = Vec::new();
    let mut ranges = Vec::new();
    for (unit, path) in (0u32..).zip(paths) {
        let is_uri = is_uri(path.as_os_str());
        if !is_uri {
            refuse_folder(path)?;
        }
        let label = path.display().to_string();
        disks.push(Disk {
            label,
            bus: DiskBus::Unknown,
            controller: 0,
            unit,
            virtual_size: 0,
            serial: None,
        });
        ranges.push(PreparedDisk {
            range: open_bytes(path)?,
            capacity: None,
            format: None,
            files: match &options.base_dir {
                Some(base) => Files::below(base),
                None if is_uri => Files::none(),
                None => Files::beside(path),
            },
        });
    }
    let network = NETWORK.to_owned();
    let nic = Nic {
        mac: None,
        model: None,
        network: NicNetwork::Network(network.clone()),
        source_network: network,
        guest_name: None,
    };
    let machine = Machine {
        cpu: types::CpuModel {
            features: ["acpi", "apic", "pae"].map(str::to_owned).to_vec(),
            ..types::CpuModel::default()
        },
        disks,
        nics: vec![nic],
        display: Some(types::Display::Window),
        ..Machine::bare(name, Hypervisor::Unknown)
    };
    Ok(Prepared {
        machine,
        disks: ranges,
        verifications: Vec::new(),
        warnings: Vec::new(),
    })
}

fn refuse_folder(path: &Path) -> Result<()> {
    let meta =
        std::fs::metadata(path).map_err(|e| Error::io("opening", e).in_file(path.display()))?;
    if meta.is_dir() {
        return Err(
            Error::new(ErrorKind::Usage, "expected a disk file, found a folder")
                .in_file(path.display()),
        );
    }
    Ok(())
}

/// Name of the file without its extension, or of the export.
fn name_of(path: &Path) -> Result<String> {
    if is_uri(path.as_os_str()) {
        let uri: image::nbd::client::Uri = path.to_string_lossy().parse()?;
        let name = uri.export.trim_matches('/').replace('/', "-");
        return Ok(if name.is_empty() { "nbd".into() } else { name });
    }
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "expected the name of a disk file").in_file(path.display())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_first_file_names_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [
            dir.path().join("web.server.vmdk"),
            dir.path().join("data.img"),
        ];
        for path in &paths {
            std::fs::write(path, [0; 512]).unwrap();
        }
        let prepared = prepare(&paths, &SourceOptions::default()).unwrap();
        let machine = &prepared.machine;
        assert_eq!(
            (machine.name.as_str(), machine.memory_bytes, machine.vcpus),
            ("web.server", 2 << 30, 1)
        );
        assert_eq!(machine.disks.len(), 2);
        assert_eq!(
            machine.nics[0].network,
            NicNetwork::Network("default".to_owned())
        );
        assert_eq!(machine.firmware, None);
        assert!(prepared.verifications.is_empty());
    }

    #[test]
    fn files_of_several_formats_and_an_nbd_export_are_one_machine() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("web.img");
        std::fs::write(&raw, vec![7; 1 << 20]).unwrap();
        let qcow2 = dir.path().join("data.qcow2");
        let sink = image::formats::create(
            &qcow2,
            image::formats::OutputFormat::Qcow2,
            2 << 20,
            image::Preallocation::Sparse,
        );
        sink.unwrap().finish().unwrap();
        let base = image::formats::open(&raw, &Default::default()).unwrap();
        let overlay = Arc::new(image::Overlay::new(base, dir.path()).unwrap());
        let socket = dir.path().join("nbd.sock");
        let server = image::nbd::Server::start(&socket, vec![("sdc".into(), overlay)]).unwrap();
        let uri = format!("nbd+unix:///sdc?socket={}", socket.display());
        let disk = |paths: Vec<PathBuf>| crate::SourceKind::Disk(paths);
        let options = SourceOptions::default();
        let opened = crate::open(&disk(vec![uri.clone().into(), raw, qcow2]), &options).unwrap();
        let formats: Vec<_> = opened.disks.iter().map(|disk| disk.format()).collect();
        assert_eq!(formats, ["raw", "raw", "qcow2"]);
        assert_eq!(opened.machine.name, "sdc");
        assert_eq!(opened.machine.disks[2].virtual_size, 2 << 20);
        let mut buf = [0; 512];
        opened.disks[0].read_at(&mut buf, 4096).unwrap();
        assert_eq!(buf, [7; 512]);
        drop(opened);
        server.stop();
        assert!(crate::open(&disk(vec![uri.into()]), &options).is_err());
        assert!(crate::open(&disk(vec!["nbds://h/x".into()]), &options).is_err());
    }

    #[test]
    fn no_files_absent_files_and_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            prepare(&[], &SourceOptions::default()).unwrap_err().kind(),
            ErrorKind::Usage
        );
        assert_eq!(
            prepare(&[dir.path().join("absent")], &SourceOptions::default())
                .unwrap_err()
                .kind(),
            ErrorKind::Missing
        );
        assert_eq!(
            prepare(&[dir.path().to_owned()], &SourceOptions::default())
                .unwrap_err()
                .kind(),
            ErrorKind::Usage
        );
    }
}
