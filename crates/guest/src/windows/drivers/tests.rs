use std::fmt::Write as _;

use types::{BlockBus, MachineType, NetBus};

use super::choice::Wanted;
use super::signature::{Digest, tests as signed};
use super::tree::Tree;
use super::*;
use crate::Payload;
use crate::payload::tests::payload;

type Files = Vec<(String, Vec<u8>)>;

fn wanted(
    arch: &'static str,
    (major, minor): (u32, u32),
    build: u32,
    server: bool,
    sha2: bool,
) -> Wanted {
    Wanted {
        platform: Platform {
            arch,
            major,
            minor,
            build,
            server,
        },
        sha2,
    }
}

fn systems() -> Vec<(&'static str, Wanted)> {
    let (client, server) = (false, true);
    vec![
        ("Windows XP x86", wanted("x86", (5, 1), 2600, client, false)),
        (
            "Windows Server 2003 x86",
            wanted("x86", (5, 2), 3790, server, false),
        ),
        (
            "Windows Server 2003 x64",
            wanted("amd64", (5, 2), 3790, server, false),
        ),
        (
            "Windows Vista x64",
            wanted("amd64", (6, 0), 6002, client, false),
        ),
        ("Windows 7 x86", wanted("x86", (6, 1), 7601, client, true)),
        ("Windows 7 x64", wanted("amd64", (6, 1), 7601, client, true)),
        (
            "Windows 7 x64 without KB4474419",
            wanted("amd64", (6, 1), 7601, client, false),
        ),
        (
            "Windows Server 2008 R2",
            wanted("amd64", (6, 1), 7601, server, true),
        ),
        (
            "Windows 8.1 x64",
            wanted("amd64", (6, 3), 9600, client, true),
        ),
        (
            "Windows Server 2012 R2",
            wanted("amd64", (6, 3), 9600, server, true),
        ),
        (
            "Windows 10 x86",
            wanted("x86", (10, 0), 19045, client, true),
        ),
        (
            "Windows 10 x64",
            wanted("amd64", (10, 0), 19045, client, true),
        ),
        ("Windows 11", wanted("amd64", (10, 0), 22631, client, true)),
        (
            "Windows 11 ARM64",
            wanted("arm64", (10, 0), 26100, client, true),
        ),
        (
            "Windows Server 2016",
            wanted("amd64", (10, 0), 14393, server, true),
        ),
        (
            "Windows Server 2019",
            wanted("amd64", (10, 0), 17763, server, true),
        ),
        (
            "Windows Server 2022",
            wanted("amd64", (10, 0), 20348, server, true),
        ),
        (
            "Windows Server 2025",
            wanted("amd64", (10, 0), 26100, server, true),
        ),
    ]
}

fn pack(files: &Files) -> Payload {
    let members: Vec<(String, &[u8])> = files
        .iter()
        .map(|(name, content)| (format!("{MEMBER}/{name}"), content.as_slice()))
        .collect();
    let members: Vec<(&str, u32, &[u8])> = members
        .iter()
        .map(|(name, content)| (name.as_str(), 0o644, *content))
        .collect();
    payload(&members)
}

fn plan_of(files: &Files, wanted: Wanted, name: &str) -> Plan {
    let payload = pack(files);
    plan_for(&mut Tree::of(&payload), wanted, None, name)
}

/// What is chosen for every system.
fn golden(files: &Files) -> String {
    let payload = pack(files);
    let mut text = String::new();
    for (name, wanted) in systems() {
        let plan = plan_for(&mut Tree::of(&payload), wanted, None, name);
        let hardware = Hardware::of(&plan, wanted.platform, None);
        let (machine, block, net) = (hardware.machine, hardware.block, hardware.net);
        writeln!(text, "{name}: {machine:?}, {block:?}, {net:?}").unwrap();
        for package in &plan.packages {
            let path = package.members[0].strip_prefix("virtio-win/").unwrap();
            let more = package.members.len() - 1;
            let nearest = if package.exact { "" } else { ", nearest" };
            writeln!(text, "  {:?}: {path} +{more}{nearest}", package.role).unwrap();
        }
        for warning in plan.warnings {
            writeln!(text, "  ! {warning}").unwrap();
        }
    }
    text
}

type Driver = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    (u32, u32),
);
type Dir = (&'static str, (u32, u32), u32, &'static [&'static str]);

/// Directory in the ISO, name, legacy and modern device, more files, from which version on.
const DRIVERS: &[Driver] = &[
    (
        "viostor",
        "viostor",
        r"PCI\VEN_1AF4&DEV_1001",
        r"PCI\VEN_1AF4&DEV_1042",
        &[],
        (5, 1),
    ),
    (
        "vioscsi",
        "vioscsi",
        r"PCI\VEN_1AF4&DEV_1004",
        r"PCI\VEN_1AF4&DEV_1048",
        &[],
        (6, 0),
    ),
    (
        "NetKVM",
        "netkvm",
        r"PCI\VEN_1AF4&DEV_1000",
        r"PCI\VEN_1AF4&DEV_1041",
        &["netkvmco.dll"],
        (5, 1),
    ),
    (
        "vioserial",
        "vioser",
        r"PCI\VEN_1AF4&DEV_1003",
        r"PCI\VEN_1AF4&DEV_1043",
        &[],
        (5, 1),
    ),
    (
        "Balloon",
        "balloon",
        r"PCI\VEN_1AF4&DEV_1002",
        r"PCI\VEN_1AF4&DEV_1045",
        &["blnsvr.exe"],
        (5, 1),
    ),
    (
        "viorng",
        "viorng",
        r"PCI\VEN_1AF4&DEV_1005",
        r"PCI\VEN_1AF4&DEV_1044",
        &["viorngum.dll"],
        (6, 0),
    ),
    (
        "vioinput",
        "vioinput",
        r"PCI\VEN_1AF4&DEV_1052",
        "",
        &[],
        (6, 1),
    ),
    ("pvpanic", "pvpanic", r"ACPI\QEMU0001", "", &[], (6, 0)),
    (
        "pvpanic",
        "pvpanic-pci",
        r"PCI\VEN_1B36&DEV_0011",
        "",
        &[],
        (10, 0),
    ),
    ("fwcfg", "fwcfg", r"ACPI\QEMU0002", "", &[], (10, 0)),
    (
        "qxldod",
        "qxldod",
        r"PCI\VEN_1B36&DEV_0100",
        "",
        &[],
        (6, 2),
    ),
    (
        "viogpudo",
        "viogpudo",
        r"PCI\VEN_1AF4&DEV_1050",
        "",
        &[],
        (10, 0),
    ),
    ("viofs", "viofs", r"PCI\VEN_1AF4&DEV_105A", "", &[], (6, 2)),
];
/// Directory, version, first build, processors.
const DIRS: &[Dir] = &[
    ("xp", (5, 1), 0, &["x86"]),
    ("2k3", (5, 2), 0, &["x86", "amd64"]),
    ("2k8", (6, 0), 0, &["x86", "amd64"]),
    ("w7", (6, 1), 0, &["x86", "amd64"]),
    ("2k8R2", (6, 1), 0, &["amd64"]),
    ("w8", (6, 2), 0, &["x86", "amd64"]),
    ("2k12", (6, 2), 0, &["amd64"]),
    ("w8.1", (6, 3), 0, &["x86", "amd64"]),
    ("2k12R2", (6, 3), 0, &["amd64"]),
    ("w10", (10, 0), 10240, &["x86", "amd64", "ARM64"]),
    ("2k16", (10, 0), 14393, &["amd64"]),
    ("2k19", (10, 0), 17763, &["amd64"]),
    ("2k22", (10, 0), 20348, &["amd64"]),
    ("w11", (10, 0), 22000, &["amd64", "ARM64"]),
    ("2k25", (10, 0), 26100, &["amd64"]),
];

/// A tree as the ISO of virtio-win is laid out, with an .inf of our own for each driver; `builds` in the decorations.
fn iso(dirs: &[&str], builds: bool) -> Files {
    let mut files = Files::new();
    for &(folder, name, legacy, modern, more, since) in DRIVERS {
        for &(dir, version, build, arches) in DIRS {
            if version < since || !dirs.contains(&dir) {
                continue;
            }
            for arch in arches {
                let decoration = match (version.0, builds) {
                    (10, true) => format!("NT{arch}.10.0...{build}"),
                    _ => format!("NT{arch}.{}.{}", version.0, version.1),
                };
                let digest = if version < (6, 2) {
                    Digest::Sha1
                } else {
                    Digest::Sha2
                };
                let at = format!("{folder}/{dir}/{arch}");
                let inf = inf_text(name, &decoration, [legacy, modern], more, version.0);
                let sys = signed::image(&arch.to_lowercase(), Some(digest));
                files.push((format!("{at}/{name}.inf"), inf.into_bytes()));
                let driver = if name == "pvpanic-pci" {
                    "pvpanic"
                } else {
                    name
                };
                files.push((format!("{at}/{driver}.sys"), sys));
                files.push((format!("{at}/{name}.cat"), signed::catalog(digest)));
                files.push((format!("{at}/{name}.pdb"), b"symbols".to_vec()));
                for file in more {
                    files.push((format!("{at}/{file}"), b"MZ".to_vec()));
                }
            }
        }
    }
    files.sort();
    files.dedup_by(|one, other| one.0 == other.0);
    files
}

fn inf_text(name: &str, decoration: &str, ids: [&str; 2], more: &[&str], major: u32) -> String {
    let driver = if name == "pvpanic-pci" {
        "pvpanic"
    } else {
        name
    };
    let ids = ids.into_iter().filter(|id| !id.is_empty());
    let models: String = ids
        .map(|id| format!("%desc% = inst, {id}&SUBSYS_00021AF4&REV_00, {id}\r\n"))
        .collect();
    let files: String = more
        .iter()
        .filter(|file| file.ends_with(".dll"))
        .map(|file| format!("{file} = 1\r\n"))
        .collect();
    let date = if major >= 10 {
        "02/01/2024"
    } else {
        "05/01/2018"
    };
    format!(
        "[Version]\r\nSignature = \"$WINDOWS NT$\"\r\nClassGuid = {{4d36e97d-e325-11ce-bfc1-08002be10318}}\r\n\
         Provider = %who%\r\nDriverVer = {date},1.2.3.4\r\nCatalogFile = {name}.cat\r\n\
         [Manufacturer]\r\n%who% = Devs,{decoration}\r\n[Devs.{decoration}]\r\n{models}\
         [SourceDisksFiles]\r\n{driver}.sys = 1\r\n{files}\
         [inst.NT]\r\nCopyFiles = c\r\n[inst.NT.Services]\r\nAddService = {driver}, 2, svc\r\n\
         [Strings]\r\nwho = \"Made, Inc.\"\r\ndesc = \"Made device\"\r\n"
    )
}

fn all_dirs() -> Vec<&'static str> {
    DIRS.iter().map(|(dir, ..)| *dir).collect()
}

#[test]
fn choice_from_the_real_tree() {
    let Some(files) = fixture::tree() else { return };
    insta::assert_snapshot!("real-tree", golden(&files));
}

#[test]
fn choice_from_an_iso_with_every_release() {
    insta::assert_snapshot!("iso", golden(&iso(&all_dirs(), false)));
}

#[test]
fn builds_in_decorations_do_not_change_the_choice() {
    let lines = |builds| golden(&iso(&all_dirs(), builds));
    assert_eq!(lines(true), lines(false));
}

#[test]
fn choice_from_an_iso_with_releases_missing() {
    let dirs = ["xp", "2k8", "w8", "2k12", "w10", "2k19"];
    insta::assert_snapshot!("iso-with-gaps", golden(&iso(&dirs, false)));
}

#[test]
fn a_newer_driver_is_not_taken_unless_its_inf_says_so() {
    let win10 = wanted("amd64", (10, 0), 19045, false, true);
    // Its .inf says 10.0 of any build.
    let plan = plan_of(&iso(&["2k25"], false), win10, "Windows 10");
    assert!(!plan.role(Role::Block).unwrap().exact);
    let plan = plan_of(&iso(&["2k25"], true), win10, "Windows 10");
    assert!(plan.packages.is_empty(), "{:?}", plan.packages);
    let win7 = wanted("amd64", (6, 1), 7601, false, true);
    let plan = plan_of(&iso(&["w10", "w8"], false), win7, "Windows 7");
    assert!(plan.packages.is_empty(), "{:?}", plan.packages);
    assert!(
        plan.warnings[0].contains("--virtio-win PATH"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn nt5_drivers_are_not_for_nt6() {
    let win7 = wanted("x86", (6, 1), 7601, false, true);
    let plan = plan_of(&iso(&["xp", "2k3"], false), win7, "Windows 7");
    assert!(plan.packages.is_empty());
}

#[test]
fn without_a_tree_it_is_said_what_is_missing() {
    let plan = plan_of(&vec![], systems()[11].1, "Windows 10 Pro");
    insta::assert_snapshot!(plan.warnings.join("\n"), @"no virtio-win drivers are at hand for Windows 10 Pro (10.0.19045 amd64): its disks will be SATA, its adapters e1000e; give virtio-win as a directory or ISO: --virtio-win PATH or $VIRTIO_WIN");
}

#[test]
fn flat_folders_are_judged_by_their_infs() {
    let mut files = Files::new();
    for (name, content) in iso(&["w7", "w10", "w11"], true) {
        let mut parts: Vec<&str> = name.split('/').collect();
        let (file, arch) = (parts.pop().unwrap(), parts.pop().unwrap());
        files.push((
            format!("{}-{arch}/{}", parts.join("-"), file.to_uppercase()),
            content,
        ));
    }
    let plan = plan_of(&files, systems()[12].1, "Windows 11");
    let block = plan.role(Role::Block).unwrap();
    assert_eq!(block.members[0], "virtio-win/viostor-w11-amd64/VIOSTOR.INF");
    assert!(
        block.exact && block.members.len() == 3,
        "{:?}",
        block.members
    );
    assert_eq!(block.inf_name, "viostor.inf");
    assert!(block.member("viostor.sys").is_some() && block.member("viostor.pdb").is_none());
    assert!(block.is_modern(systems()[12].1.platform));
}

#[test]
fn faulty_packages_are_passed_over() {
    let win10 = systems()[11].1;
    let with = |change: &dyn Fn(&str, &mut Vec<u8>) -> bool| {
        let mut files = iso(&["w8.1", "w10"], false);
        files.retain_mut(|(name, content)| change(name, content));
        let plan = plan_of(&files, win10, "Windows 10");
        let block = plan.role(Role::Block).unwrap().members[0].clone();
        (block, plan.warnings.join("\n"))
    };
    let (sys, inf, old) = (
        "viostor/w10/amd64/viostor.sys",
        "viostor/w10/amd64/viostor.inf",
        "virtio-win/viostor/w8.1/amd64/viostor.inf",
    );
    let (block, said) = with(&|name, _| name != sys);
    assert!(block == old && said.contains("no viostor.sys"), "{said}");
    let (block, said) = with(&|name, content| {
        if name == sys {
            *content = signed::image("x86", None);
        }
        true
    });
    assert!(block == old && said.contains("another processor"), "{said}");
    let (block, said) = with(&|name, content| {
        if name == sys {
            *content = b"<html>not found</html>".to_vec();
        }
        true
    });
    assert!(block == old && said.contains("is no driver"), "{said}");
    let (block, _) = with(&|name, _| name != inf);
    assert_eq!(block, old);
    let (block, said) = with(&|name, content| {
        if name == inf {
            *content = b"[Version\n".to_vec();
        }
        true
    });
    assert!(block == old && said.contains("expected a ]"), "{said}");
    // A missing catalog or library is worse than an older driver.
    let (block, _) = with(&|name, _| name != "viostor/w10/amd64/viostor.cat");
    assert_eq!(block, old);
}

#[test]
fn a_name_that_would_break_a_batch_file_is_not_taken() {
    let inf = inf_text(
        "viostor",
        "NTamd64.10.0",
        [r"PCI\VEN_1AF4&DEV_1001", ""],
        &[],
        10,
    );
    let files = vec![
        ("a/x&calc%.inf".to_owned(), inf.into_bytes()),
        ("a/viostor.sys".to_owned(), Vec::new()),
        ("a/viostor.cat".to_owned(), Vec::new()),
    ];
    let plan = plan_of(&files, systems()[11].1, "Windows 10");
    assert!(plan.packages.is_empty(), "{:?}", plan.packages);
}

#[test]
fn sha2_drivers_are_not_for_a_windows_7_that_does_not_know_them() {
    let mut files = iso(&["2k8", "w7"], false);
    for (name, content) in &mut files {
        let resign = name.contains("/w7/") && !name.ends_with(".inf");
        match name.rsplit('.').next() {
            Some("sys") if resign => {
                *content = signed::image(
                    if name.contains("x86") { "x86" } else { "amd64" },
                    Some(Digest::Sha2),
                )
            }
            Some("cat") if resign => *content = signed::catalog(Digest::Sha2),
            _ => {}
        }
    }
    let (win7, old) = (systems()[5].1, systems()[6].1);
    let plan = plan_of(&files, win7, "Windows 7");
    assert!(plan.role(Role::Block).unwrap().members[0].contains("/w7/"));
    let plan = plan_of(&files, old, "Windows 7");
    assert!(plan.role(Role::Block).unwrap().members[0].contains("/2k8/"));
    assert!(plan.warnings.iter().any(|text| text.contains("KB4474419")));
    files.retain(|(name, _)| !name.contains("/2k8/"));
    let plan = plan_of(&files, old, "Windows 7");
    assert!(plan.role(Role::Block).is_none());
    // The network's driver does not stop the boot.
    assert!(plan.role(Role::Net).is_some());
}

#[test]
fn a_hostile_tree_is_bounded() {
    let inf = inf_text(
        "viostor",
        "NTamd64.10.0",
        [r"PCI\VEN_1AF4&DEV_1001", ""],
        &[],
        10,
    );
    let mut files = Files::new();
    for at in 0..4_100 {
        files.push((format!("d{at}/viostor.inf"), inf.clone().into_bytes()));
    }
    files.push(("e/viostor.inf".to_owned(), vec![b';'; inf::INF_MAX + 1]));
    let plan = plan_of(&files, systems()[11].1, "Windows 10");
    assert!(plan.packages.is_empty());
    assert!(plan.warnings.len() < 20, "{}", plan.warnings.len());
    assert!(
        plan.warnings
            .iter()
            .any(|text| text.contains("only 4000 of"))
    );
}

#[test]
fn hardware_follows_the_drivers() {
    let hardware = |files: &Files, system: usize, wish| {
        let (name, wanted) = systems()[system];
        let plan = plan_of(files, wanted, name);
        let hardware = Hardware::of(&plan, wanted.platform, wish);
        (hardware.machine, hardware.block, hardware.net)
    };
    let (none, all) = (Files::new(), iso(&all_dirs(), false));
    let (old, new) = (MachineType::I440fx, MachineType::Q35);
    for (system, expected) in [
        (0, (old, BlockBus::Ide, NetBus::Rtl8139)),
        (1, (old, BlockBus::Ide, NetBus::Rtl8139)),
        (2, (old, BlockBus::Ide, NetBus::E1000)),
        (3, (old, BlockBus::Ide, NetBus::E1000)),
        (4, (new, BlockBus::Sata, NetBus::E1000e)),
        (17, (new, BlockBus::Sata, NetBus::E1000e)),
    ] {
        assert_eq!(hardware(&none, system, None), expected);
        assert_eq!(
            hardware(&none, system, Some(BlockBus::VirtioScsi)),
            expected
        );
    }
    let block = |files: &Files, system, wish| hardware(files, system, Some(wish)).1;
    assert_eq!(block(&all, 11, BlockBus::VirtioScsi), BlockBus::VirtioScsi);
    assert_eq!(block(&all, 11, BlockBus::Sata), BlockBus::Sata);
    assert_eq!(block(&all, 11, BlockBus::Ide), BlockBus::Sata);
    assert_eq!(block(&all, 0, BlockBus::VirtioScsi), BlockBus::VirtioBlk);
    // Drivers from before virtio 1.0.
    let legacy = all.iter().cloned().map(|(name, content)| {
        let text = String::from_utf8_lossy(&content).replace("DEV_1042", "DEV_9999");
        let is_inf = name.ends_with("viostor.inf");
        (name, if is_inf { text.into_bytes() } else { content })
    });
    let legacy: Files = legacy.collect();
    assert_eq!(hardware(&legacy, 5, None).0, old);
}
