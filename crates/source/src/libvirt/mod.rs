//! libvirt domains by their XML (`-i libvirtxml`, `-i libvirt`).
//!
//! The XML is the user's own word: the disks that it names are opened wherever they are on this host. What those
//! images name in turn is opened beside them only, or below `--base-dir`.

mod domain;
mod storage;
#[cfg(test)]
mod tests;
mod virsh;

use std::path::{Path, PathBuf};

use image::{FileRange, Files, formats};
use types::Machine;

use self::domain::Domain;
use self::storage::{DomainDisk, Place};
use self::virsh::Virsh;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::open::SourceOptions;
use crate::{Prepared, PreparedDisk, text};

/// Largest part of a flash that is read, in bytes: the files for ARM have 64 MiB, their variables come first.
const MAX_FLASH: u64 = 4 << 20;

/// The machine that the XML of a libvirt domain describes, its disks named but not opened, and what is odd about it.
pub fn parse_domain_xml(text: &str) -> Result<(Machine, Vec<String>)> {
    let mut domain = domain::parse(text)?;
    domain.machine.disks = domain.disks.into_iter().map(|disk| disk.disk).collect();
    Ok((domain.machine, domain.warnings))
}

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare_file(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let range = FileRange::open(path)?;
    let label = range.label().to_owned();
    let domain = text::decode(&text::read_small(&range)?)
        .and_then(|text| domain::parse(&text))
        .map_err(|e| e.in_file(&label))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    prepare_from(domain, &label, folder, &Virsh::new(None), options)
}

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(
    uri: Option<&str>,
    domain: &str,
    options: &SourceOptions,
) -> Result<Prepared> {
    let elsewhere = uri.map(check_uri).transpose()?.flatten();
    let virsh = Virsh::new(uri);
    let state = virsh.state(domain)?;
    if !matches!(state.as_str(), "shut off" | "crashed") {
        let state = shown(&state);
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the domain must be shut down to be converted, found it in the state `{state}`; hint: virsh shutdown"
            ),
        )
        .in_file(domain));
    }
    let xml = virsh.xml(domain)?;
    let parsed = domain::parse(&xml).map_err(|e| e.in_file(domain))?;
    let mut prepared = prepare_from(parsed, domain, Path::new(""), &virsh, options)?;
    prepared.warnings.extend(elsewhere);
    Ok(prepared)
}

/// Refuses the connections whose disks are certainly not here; warns of those where they are probably not.
fn check_uri(uri: &str) -> Result<Option<String>> {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    let driver = scheme.split('+').next().unwrap_or_default();
    let hint = match driver {
        "esx" | "vpx" | "gsx" | "vmwareplayer" | "vmwarews" | "vmwarefusion" => {
            "-i vmx -it ssh ssh://root@ESXI-HOST/vmfs/volumes/DATASTORE/VM/VM.vmx reads the same machine, or export it \
             as an OVA and use -i ova"
        }
        "xen" => "save the domain with `virsh dumpxml`, copy its disks here, and use -i libvirtxml",
        "hyperv" => "copy or export the machine, and use -i hyperv",
        "vbox" => "-i vbox reads the machine from its .vbox file",
        _ => {
            let local =
                matches!(rest.strip_prefix("//"), None | Some("")) || rest.starts_with("///");
            return Ok((!local).then(|| {
                format!(
                    "the connection {} is to another host, but the domain's disks are looked for on this one",
                    shown(uri)
                )
            }));
        }
    };
    Err(Error::unsupported(format!(
        "-ic {driver}:// is not supported; hint: {hint}"
    )))
}

/// Opens the files of the disks.
fn prepare_from(
    domain: Domain,
    label: &str,
    folder: &Path,
    virsh: &Virsh,
    options: &SourceOptions,
) -> Result<Prepared> {
    let Domain {
        mut machine,
        disks: domain_disks,
        nvram,
        warnings,
    } = domain;
    let mut warnings: Vec<String> = warnings
        .into_iter()
        .map(|warning| format!("{label}: {warning}"))
        .collect();
    if let Some(nvram) = nvram {
        let menu = boot_options(&folder.join(nvram));
        machine.details.boot_options = menu.unwrap_or_else(|error| {
            warnings.push(format!(
                "{error}; the boot entries of the machine's firmware stay behind"
            ));
            Vec::new()
        });
    }
    let mut disks = Vec::new();
    for domain_disk in domain_disks {
        let (disk, prepared) =
            open(domain_disk, folder, virsh, options).map_err(|e| e.in_file(label))?;
        machine.disks.push(disk);
        disks.push(prepared);
    }
    Ok(Prepared {
        machine,
        disks,
        verifications: Vec::new(),
        warnings,
    })
}

/// The boot menu in the firmware's variables. A machine that was never started has none, nor has one of another host here.
fn boot_options(nvram: &Path) -> Result<Vec<Vec<u8>>> {
    if matches!(nvram.try_exists(), Ok(false)) {
        return Ok(Vec::new());
    }
    let range = FileRange::open(nvram)?;
    let len = usize::try_from(range.len().min(MAX_FLASH)).unwrap_or(0);
    let flash = range.read_vec(0, len)?;
    uefi::menu::read(&flash).map_err(|e| Error::corrupt(e.to_string()).in_file(range.label()))
}

fn open(
    domain_disk: DomainDisk,
    folder: &Path,
    virsh: &Virsh,
    options: &SourceOptions,
) -> Result<(types::Disk, PreparedDisk)> {
    let DomainDisk {
        mut disk,
        target,
        place,
        slice,
        format,
    } = domain_disk;
    let path = match place {
        Place::Path(path) => folder.join(path),
        Place::Volume { pool, volume } => virsh.volume_path(&pool, &volume)?.into(),
        Place::Nbd(uri) => PathBuf::from(uri),
    };
    if path.is_dir() {
        let message = format!("disk {}: expected a file, found a folder", shown(&target));
        return Err(Error::new(ErrorKind::Usage, message).in_file(path.display()));
    }
    // What an image in an NBD export names is nowhere.
    let is_nbd = formats::is_uri(path.as_os_str());
    let mut range = formats::open_bytes(&path)?;
    if let Some((offset, len)) = slice {
        let label = range.label().to_owned();
        range = range.slice(offset, len, label)?;
    }
    range.label().clone_into(&mut disk.label);
    let files = match &options.base_dir {
        _ if is_nbd => Files::none(),
        Some(base) => Files::below(base),
        None => Files::beside(&path),
    };
    let prepared = PreparedDisk {
        range,
        capacity: None,
        format,
        files,
    };
    Ok((disk, prepared))
}
