//! Which packages of the driver tree suit a Windows, by what their .inf files say.
//!
//! A package is out of the question when its [Manufacturer] is for another processor or a newer system, when its .sys is
//! missing, is no program or is for another processor, when it was made for Windows NT 5 and the system is newer, or
//! when the system does not know its signature and would refuse to boot. Of the others, in this order:
//!
//! 1. the system knows its signature;
//! 2. none of its files is missing;
//! 3. its directory is called after this very release;
//! 4. the newest version of Windows that it names (its .inf; its directory where the .inf names none);
//! 5. its directory is not called after a newer release;
//! 6. it is for the same kind of system, client or server;
//! 7. the newest build that it names, then the newest DriverVer.

use std::cmp::Reverse;

use super::inf::{INF_MAX, Inf, Model, Platform, Target};
use super::release::{self, Release};
use super::signature::{self, Digest, Image};
use super::tree::{File, Tree};
use super::{Package, Role};
use crate::recorder::sha256;

/// VEN_1AF4 is Red Hat's virtio: 1000 and on are legacy or transitional devices, 1040 and on are virtio 1.0 ones (Virtual
/// I/O Device 1.2, section 4.1.2). VEN_1B36 is QEMU's own.
const DEVICES: &[(&str, Role)] = &[
    (r"PCI\VEN_1AF4&DEV_1001", Role::Block),
    (r"PCI\VEN_1AF4&DEV_1042", Role::Block),
    (r"PCI\VEN_1AF4&DEV_1004", Role::Scsi),
    (r"PCI\VEN_1AF4&DEV_1048", Role::Scsi),
    (r"PCI\VEN_1AF4&DEV_1000", Role::Net),
    (r"PCI\VEN_1AF4&DEV_1041", Role::Net),
    (r"PCI\VEN_1AF4&DEV_1003", Role::Serial),
    (r"PCI\VEN_1AF4&DEV_1043", Role::Serial),
    (r"PCI\VEN_1AF4&DEV_1002", Role::Balloon),
    (r"PCI\VEN_1AF4&DEV_1045", Role::Balloon),
    (r"PCI\VEN_1AF4&DEV_1005", Role::Rng),
    (r"PCI\VEN_1AF4&DEV_1044", Role::Rng),
    (r"PCI\VEN_1AF4&DEV_1052", Role::Input),
    (r"PCI\VEN_1AF4&DEV_1050", Role::Display),
    (r"PCI\VEN_1B36&DEV_0100", Role::Display),
    (r"PCI\VEN_1AF4&DEV_105A", Role::Fs),
    (r"PCI\VEN_1B36&DEV_0011", Role::Panic),
    (r"ACPI\QEMU0001", Role::Panic),
    (r"ACPI\VEN_QEMU&DEV_0001", Role::Panic),
    (r"ACPI\QEMU0002", Role::FwCfg),
    (r"ACPI\VEN_QEMU&DEV_0002", Role::FwCfg),
];
/// DriverVer from which on drivers whose signature cannot be read are taken for SHA-2 signed: build 171 of May 2019 was
/// the last with SHA-1 (virtio-win/kvm-guest-drivers-windows#485, #678).
const SHA2_SINCE: (u16, u16, u16) = (2019, 6, 1);
/// Programs that belong to a driver though no .inf names them: the balloon's service.
const COMPANIONS: &[(Role, &str)] = &[(Role::Balloon, "blnsvr.exe")];
/// Windows 8 took away the display drivers of Windows 2000 (XDDM).
const WDDM_ONLY: (u32, u32) = (6, 2);

/// The system that drivers are chosen for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its version.
    pub(crate) platform: Platform,
    /// It knows SHA-2 signatures of drivers.
    pub(crate) sha2: bool,
}

impl Wanted {
    /// It refuses to load a driver whose signature it does not know: Windows on 64 bits since Vista.
    fn enforces_signatures(self) -> bool {
        self.platform.arch != "x86" && self.platform.major >= 6
    }
}

/// A package that suits.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) package: Package,
    /// Directory in the tree.
    pub(crate) dir: String,
    /// What the directory is called after.
    pub(crate) release: Option<&'static str>,
    /// Version of Windows that it is for, (0, 0) where nothing says so.
    pub(crate) version: (u32, u32),
    /// The system knows its signature.
    pub(crate) known_signature: bool,
    /// Files that its .inf names and the tree has not.
    pub(crate) missing: Vec<String>,
    /// Devices as [`DEVICES`] has them.
    devices: Vec<&'static str>,
    rank: Rank,
}

/// What decides, in order; see the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    known_signature: bool,
    complete: bool,
    covers: bool,
    version: (u32, u32),
    not_newer: bool,
    kind: bool,
    build: u32,
    driver_ver: Option<((u16, u16, u16), [u16; 4])>,
    path: Reverse<String>,
}

/// What was chosen, and what was passed over and why.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// By role.
    pub(crate) candidates: Vec<Candidate>,
    /// Packages that would suit but for a fault of theirs, and are missed.
    pub(crate) faults: Vec<String>,
    /// .inf files that were looked at.
    pub(crate) infs: usize,
}

/// A package that cannot be used.
struct Fault {
    text: String,
    /// What it is for, as far as is known.
    role: Option<Role>,
    /// It is for this very release.
    covers: bool,
}

/// Chooses from the tree.
pub(crate) fn choose(tree: &mut Tree<'_>, wanted: Wanted) -> Choice {
    let mut choice = Choice::default();
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for file in tree.infs() {
        choice.infs += 1;
        match candidate(tree, &file, wanted) {
            Ok(Some(candidate)) => all.push(candidate),
            Ok(None) => {}
            Err(mut fault) => {
                let path = format!("{}/{}", file.dir(), file.name());
                fault.text = format!("{}: {}", path.trim_start_matches('/'), fault.text);
                faults.push(fault);
            }
        }
    }
    all.sort_by(|one, other| other.rank.cmp(&one.rank));
    for candidate in all {
        let role = candidate.package.role;
        let mut same = choice
            .candidates
            .iter()
            .filter(|chosen| chosen.package.role == role);
        // pvpanic of the ISA and of the PCI bus, QXL and virtio-gpu: one for each device.
        let several = matches!(role, Role::Panic | Role::Display);
        let taken = |chosen: &Candidate| {
            let mut devices = chosen.devices.iter();
            !several || devices.any(|device| candidate.devices.contains(device))
        };
        if !same.any(taken) {
            choice.candidates.push(candidate);
        }
    }
    // Stable: of one role, the better one stays first.
    choice
        .candidates
        .sort_by_key(|candidate| candidate.package.role);
    let has = |role| {
        let mut chosen = choice.candidates.iter();
        chosen.any(|chosen| chosen.package.role == role)
    };
    faults.retain(|fault| fault.covers || fault.role.is_none_or(|role| !has(role)));
    choice.faults = faults.into_iter().map(|fault| fault.text).collect();
    choice
}

/// An .inf that suits, before its other files are looked at.
struct Suit {
    inf: Inf,
    inf_sha256: String,
    role: Role,
    devices: Vec<&'static str>,
    release: Option<Release>,
    /// It is for this very release.
    covers: bool,
    /// Version and build that it names.
    version: ((u32, u32), u32),
}

/// The package of this .inf; `None` when it does not suit, an error when it would but for a fault.
fn candidate(tree: &Tree<'_>, file: &File, wanted: Wanted) -> Result<Option<Candidate>, Fault> {
    let suit = suit(tree, file, wanted.platform).map_err(|text| Fault {
        text,
        role: None,
        covers: false,
    })?;
    let Some(suit) = suit else {
        return Ok(None);
    };
    let (role, covers) = (Some(suit.role), suit.covers);
    let complete = complete(tree, file, suit, wanted);
    complete
        .map(Some)
        .map_err(|text| Fault { text, role, covers })
}

fn suit(tree: &Tree<'_>, file: &File, platform: Platform) -> Result<Option<Suit>, String> {
    let dir = file.dir();
    // SR-IOV failover needs a protocol driver that is set up by hand.
    let sriov = dir
        .split('/')
        .any(|part| part.eq_ignore_ascii_case("sriov"));
    let arch = release::arch_of_path(dir);
    if sriov || arch.is_some_and(|arch| arch != platform.arch) {
        return Ok(None);
    }
    let content = tree
        .read(file, INF_MAX as u64)
        .map_err(|error| error.chain())?;
    let inf = Inf::parse(&content).map_err(|error| error.chain())?;
    let Some((role, devices)) = devices(&inf.models(platform)) else {
        return Ok(None);
    };
    let release = Release::of_path(dir);
    let Some(version) = version(&inf, release.as_ref(), role, platform) else {
        return Ok(None);
    };
    let covers = release
        .as_ref()
        .is_some_and(|release| release.covers(platform));
    Ok(Some(Suit {
        inf,
        inf_sha256: sha256(&content),
        role,
        devices,
        release,
        covers,
        version,
    }))
}

fn complete(tree: &Tree<'_>, file: &File, suit: Suit, wanted: Wanted) -> Result<Candidate, String> {
    let platform = wanted.platform;
    if !suit.inf.has_signature() {
        return Err("[Version] has no Signature of Windows".to_owned());
    }
    let files = files(tree, file, &suit.inf, suit.role, platform)?;
    if let Some(odd) = files.present.iter().find(|file| !is_plain(file.name())) {
        return Err(format!("{:?} is no name for a driver's file", odd.name()));
    }
    let known_signature = match digest(tree, &files, &suit.inf)? {
        Some(Digest::Sha2) => wanted.sha2 && platform.major >= 6,
        _ => true,
    };
    let boot = matches!(suit.role, Role::Block | Role::Scsi);
    if boot && !known_signature && wanted.enforces_signatures() {
        let message = "signed by SHA-2, which this Windows does not know without KB4474419";
        return Err(message.to_owned());
    }
    let (covers, version) = (suit.covers, suit.version);
    let release = suit.release.as_ref();
    let rank = Rank {
        known_signature,
        complete: files.missing.is_empty(),
        covers,
        version: if covers {
            platform.version()
        } else {
            version.0
        },
        not_newer: release.is_none_or(|release| !release.is_newer_than(platform)),
        kind: release.is_none_or(|release| release.suits_kind(platform)),
        build: version.1.max(release.map_or(0, Release::build)),
        driver_ver: suit.inf.driver_ver(),
        path: Reverse(file.member.to_lowercase()),
    };
    let exact = covers || (release.is_none() && version.0 == platform.version());
    Ok(Candidate {
        package: Package {
            role: suit.role,
            inf_name: file.name().to_lowercase(),
            inf_sha256: suit.inf_sha256,
            inf: suit.inf,
            members: files.members(),
            exact,
        },
        dir: file.dir().to_owned(),
        release: release.map(|release| release.name),
        version: rank.version,
        known_signature,
        missing: files.missing,
        devices: suit.devices,
        rank,
    })
}

/// The first device of the models decides what the package is for.
fn devices(models: &[Model]) -> Option<(Role, Vec<&'static str>)> {
    let ids = models.iter().flat_map(|model| &model.ids);
    let found: Vec<(&'static str, Role)> = ids
        .filter_map(|id| DEVICES.iter().find(|(device, _)| is_device(id, device)))
        .copied()
        .collect();
    let (_, role) = *found.first()?;
    let own = found.iter().filter(|(_, of)| *of == role);
    Some((role, own.map(|(device, _)| *device).collect()))
}

/// `PCI\VEN_1AF4&DEV_1001&SUBSYS_…` is an id of `PCI\VEN_1AF4&DEV_1001`.
pub(crate) fn is_device(id: &str, device: &str) -> bool {
    let (Some(start), rest) = (id.get(..device.len()), id.get(device.len()..)) else {
        return false;
    };
    let whole = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('&'));
    whole && start.eq_ignore_ascii_case(device)
}

/// An id of a virtio 1.0 device: DEV_1040 and on.
pub(crate) fn is_modern_device(id: &str) -> bool {
    let modern = r"PCI\VEN_1AF4&DEV_10";
    let start = id.get(..modern.len());
    let number = id.get(modern.len()..modern.len() + 2);
    start.is_some_and(|start| start.eq_ignore_ascii_case(modern))
        && number.is_some_and(|number| number >= "40")
}

/// Version and build that the package is for: what its .inf names, else its directory. `None` when that does not suit.
fn version(
    inf: &Inf,
    release: Option<&Release>,
    role: Role,
    platform: Platform,
) -> Option<((u32, u32), u32)> {
    let targets = inf.targets(platform);
    let named = targets
        .iter()
        .filter_map(|(target, _): &(Target, _)| Some((target.version?, target.build)))
        .max();
    let version = match (named, release) {
        (Some(named), _) => named,
        (None, Some(release)) if release.is_newer_than(platform) => return None,
        (None, Some(release)) => (release.version, release.build()),
        (None, None) => ((0, 0), 0),
    };
    // Storage and network of NT 5 know neither the driver model nor the signatures of NT 6.
    let too_old = (1..6).contains(&version.0.0) && platform.major >= 6;
    let xddm = role == Role::Display
        && version.0 < WDDM_ONLY
        && version.0 > (0, 0)
        && platform.version() >= WDDM_ONLY;
    (!too_old && !xddm).then_some(version)
}

/// File names go into batch files and the registry.
fn is_plain(name: &str) -> bool {
    let plain = |next: char| next.is_ascii_alphanumeric() || "._-".contains(next);
    name.chars().all(plain)
}

/// Files of a package.
struct Files {
    /// The .inf first.
    present: Vec<File>,
    missing: Vec<String>,
    catalog: Option<File>,
}

impl Files {
    fn members(&self) -> Vec<String> {
        self.present
            .iter()
            .map(|file| file.member.clone())
            .collect()
    }

    fn drivers(&self) -> impl Iterator<Item = &File> {
        let is_driver = |file: &&File| file.name().to_lowercase().ends_with(".sys");
        self.present.iter().filter(is_driver)
    }
}

/// Those that the .inf names; an error when it names no .sys or one is missing.
fn files(
    tree: &Tree<'_>,
    inf_file: &File,
    inf: &Inf,
    role: Role,
    platform: Platform,
) -> Result<Files, String> {
    let mut files = Files {
        present: vec![inf_file.clone()],
        missing: Vec::new(),
        catalog: None,
    };
    for name in inf.source_files(platform) {
        match tree.beside(inf_file, &name) {
            Some(file) => files.present.push(file.clone()),
            None if name.to_lowercase().ends_with(".sys") => return Err(format!("no {name}")),
            None => files.missing.push(name),
        }
    }
    let companions = COMPANIONS.iter().filter(|(of, _)| *of == role);
    let companions = companions.filter_map(|(_, name)| tree.beside(inf_file, name));
    files.present.extend(companions.cloned());
    let catalog = inf.catalog(platform);
    files.catalog = catalog.and_then(|name| tree.beside(inf_file, &name).cloned());
    if catalog_is_due(platform) && files.catalog.is_none() && files.missing.is_empty() {
        files.missing.push("its catalog (.cat)".to_owned());
    }
    for driver in files.drivers() {
        let file = tree
            .read(driver, signature::FILE_MAX)
            .map_err(|error| error.chain())?;
        if file.is_empty() {
            continue;
        }
        let name = driver.name();
        let Some(image) = Image::read(&file) else {
            return Err(format!("{name} is no driver"));
        };
        if image.arch != Some(platform.arch) {
            return Err(format!("{name} is for another processor"));
        }
    }
    if files.drivers().next().is_none() {
        return Err("it names no .sys".to_owned());
    }
    Ok(files)
}

/// Since Vista, what has no catalog is not installed without a question.
fn catalog_is_due(platform: Platform) -> bool {
    platform.major >= 6
}

/// By which digest the package is signed: its .sys files say what the boot loader sees, its catalog what is seen
/// later; where neither can be read, the date.
fn digest(tree: &Tree<'_>, files: &Files, inf: &Inf) -> Result<Option<Digest>, String> {
    let read = |file: &File| {
        tree.read(file, signature::FILE_MAX)
            .map_err(|error| error.chain())
    };
    let mut digests = Vec::new();
    for driver in files.drivers() {
        digests.extend(Image::read(&read(driver)?).and_then(|image| image.digest));
    }
    if let Some(catalog) = &files.catalog {
        digests.extend(signature::digest(&read(catalog)?));
    }
    if digests.contains(&Digest::Sha2) {
        return Ok(Some(Digest::Sha2));
    }
    let by_date = || {
        let (date, _) = inf.driver_ver()?;
        (date >= SHA2_SINCE).then_some(Digest::Sha2)
    };
    Ok(digests.first().copied().or_else(by_date))
}
