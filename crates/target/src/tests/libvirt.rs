//! `-o libvirt`: refusals against libvirt's own test driver, results against a private daemon.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::{DomainType, ErrorKind};
use testkit::Libvirtd;
use types::NicNetwork;

fn libvirt(uri: &str, pool_or_dir: Option<&str>) -> TargetOptions {
    let kind = TargetKind::Libvirt {
        pool_or_dir: pool_or_dir.map(str::to_owned),
        uri: Some(uri.to_owned()),
    };
    TargetOptions {
        domain_type: DomainType::Qemu,
        ..TargetOptions::new(kind, "")
    }
}

/// A node of the test driver: a pool `vms` in `dir`, a volume group, a network `default`, a domain `taken`. The
/// driver forgets everything between two connections.
fn test_node(dir: &Path) -> Option<String> {
    if !testkit::require_tool("virsh") {
        return None;
    }
    let file = dir.join("node.xml");
    let xml = format!(
        "<node><domain type='test'><name>taken</name><memory>1024</memory><os><type>hvm</type></os></domain>\
         <network><name>default</name><bridge name='virbr0'/></network>\
         <pool type='dir'><name>vms</name><target><path>{}</path></target></pool>\
         <pool type='logical'><name>vg</name><source><name>vg</name></source><target><path>/dev/vg</path></target></pool>\
         </node>",
        dir.join("vms").display()
    );
    fs::write(&file, xml).unwrap();
    fs::create_dir(dir.join("vms")).unwrap();
    Some(format!("test://{}", file.display()))
}

#[test]
fn pools_that_cannot_take_a_result_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(uri) = test_node(dir.path()) else {
        return;
    };
    let absent = refusal(&libvirt(&uri, None), &sample());
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert!(
        absent
            .to_string()
            .contains("no storage pool `default`: there is vg, vms"),
        "{absent}"
    );
    assert!(absent.hint().unwrap().contains("pool-define-as"));
    let logical = refusal(&libvirt(&uri, Some("vg")), &sample());
    assert_eq!(logical.kind(), ErrorKind::Unsupported);
    assert!(logical.to_string().contains("`logical`"), "{logical}");
}

#[test]
fn taken_domains_and_absent_networks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(uri) = test_node(dir.path()) else {
        return;
    };
    let options = libvirt(&uri, Some("vms"));
    let taken = TargetOptions {
        name: "taken".into(),
        overwrite: true,
        ..options.clone()
    };
    let error = refusal(&taken, &sample());
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    assert!(error.hint().unwrap().contains("-on"), "{error:?}");
    for (network, what) in [
        (
            NicNetwork::Network("lan".into()),
            "no network `lan`: there is default",
        ),
        (
            NicNetwork::Bridge("no-such-br".into()),
            "no bridge `no-such-br`",
        ),
    ] {
        let mut sample = sample();
        sample.machine.nics[0].network = network;
        let error = refusal(&options, &sample);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().unwrap().contains("-n"));
    }
    fs::write(dir.path().join("vms/debian12-sda"), "").unwrap();
    assert_eq!(refusal(&options, &sample()).kind(), ErrorKind::NameTaken);
    assert_eq!(names(&dir.path().join("vms")), ["debian12-sda"]);
}

#[test]
fn a_domain_that_libvirt_refuses_takes_its_disks_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(uri) = test_node(dir.path()) else {
        return;
    };
    let mut sample = sample();
    sample.machine.uuid = Some("no-uuid".into());
    let options = TargetOptions {
        keep_uuid: true,
        ..libvirt(&uri, Some("vms"))
    };
    let error = convert(&options, &sample).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(
        chain(&error).contains("malformed uuid"),
        "{}",
        chain(&error)
    );
    assert!(names(&dir.path().join("vms")).is_empty());
}

#[test]
fn a_boot_menu_goes_into_the_pool_and_away_again_with_the_disks() {
    let dir = tempfile::tempdir().unwrap();
    let Some(uri) = test_node(dir.path()) else {
        return;
    };
    if !Path::new("/usr/share/qemu/firmware/60-edk2-x86_64.json").exists() {
        return testkit::skip("the package ovmf is not installed");
    }
    let pool = dir.path().join("vms");
    let mut sample = uefi();
    sample.machine.uuid = Some("no-uuid".into());
    let options = TargetOptions {
        keep_uuid: true,
        ..libvirt(&uri, Some("vms"))
    };
    let error = convert_with(&options, &sample, &menu()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(names(&pool).is_empty());
    let placed = convert_with(&libvirt(&uri, Some("vms")), &uefi(), &menu()).unwrap();
    assert_eq!(names(&pool), ["debian12-sda", "debian12_VARS.fd"]);
    assert!(
        !placed.notes.iter().any(|note| note.contains("menu")),
        "{:?}",
        placed.notes
    );
    assert_eq!(menu_of(&pool.join("debian12_VARS.fd")), menu());
}

#[test]
fn connections_that_cannot_be_used_are_refused() {
    if !testkit::require_tool("virsh") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let os = dir.path().to_str();
    let silent = refusal(
        &libvirt("qemu:///system?socket=/no/such/socket", os),
        &sample(),
    );
    assert_eq!(silent.kind(), ErrorKind::Command);
    assert!(silent.hint().unwrap().contains("-oc"));
    assert!(
        chain(&silent).contains("/no/such/socket"),
        "{}",
        chain(&silent)
    );
    assert!(names(dir.path()).is_empty());
}

#[test]
fn guests_of_every_kind_are_defined_and_start() {
    let Some(daemon) = Libvirtd::start().unwrap() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("pool");
    fs::create_dir(&pool).unwrap();
    daemon
        .virsh(&[
            "pool-define-as",
            "default",
            "dir",
            "--target",
            pool.to_str().unwrap(),
        ])
        .unwrap();
    let inactive = refusal(&libvirt(daemon.uri(), None), &sample());
    assert!(
        inactive
            .hint()
            .unwrap()
            .contains("virsh pool-start default"),
        "{inactive}"
    );
    daemon.virsh(&["pool-start", "default"]).unwrap();

    let placed = convert(&libvirt(daemon.uri(), None), &sample()).unwrap();
    assert!(
        placed
            .notes
            .iter()
            .any(|note| note.contains("virsh net-start default")),
        "{:?}",
        placed.notes
    );
    assert_eq!(
        (placed.files, placed.domain.as_deref()),
        (vec![pool.join("debian12-sda")], Some("debian12"))
    );
    assert_eq!(names(&pool), ["debian12-sda"]);
    assert!(
        daemon
            .virsh(&["vol-list", "--pool=default"])
            .unwrap()
            .contains("debian12-sda"),
        "the pool was not refreshed"
    );
    assert_eq!(
        refusal(&libvirt(daemon.uri(), None), &sample()).kind(),
        ErrorKind::NameTaken
    );

    daemon.virsh(&["net-start", "default"]).unwrap();
    starts_with_its_menu(&daemon, &pool);
    for (kind, mut sample) in samples::all() {
        sample = small(sample);
        sample.name = format!("1-{kind} & <co>, it's");
        sample.machine.memory_bytes = 128 * MIB;
        sample.machine.tpm = false;
        for nic in &mut sample.machine.nics {
            nic.network = NicNetwork::Network("default".into());
        }
        let folder = dir.path().join(kind);
        fs::create_dir(&folder).unwrap();
        let placed = convert(&libvirt(daemon.uri(), folder.to_str()), &sample).unwrap();
        assert!(
            !placed.notes.iter().any(|note| note.contains("net-start")),
            "{:?}",
            placed.notes
        );
        daemon
            .virsh(&["start", &format!("--domain={}", sample.name)])
            .unwrap();
        assert_eq!(
            daemon
                .virsh(&["domstate", &format!("--domain={}", sample.name)])
                .unwrap()
                .trim(),
            "running",
            "{kind}"
        );
        daemon
            .virsh(&["destroy", &format!("--domain={}", sample.name)])
            .unwrap();
    }
}

/// A domain with variables of its own, with and without Secure Boot, defined and started.
fn starts_with_its_menu(daemon: &Libvirtd, pool: &Path) {
    for secure_boot in [false, true] {
        let mut sample = uefi();
        sample.name = format!("menu {secure_boot}");
        sample.machine.secure_boot = secure_boot;
        sample.machine.memory_bytes = 128 * MIB;
        let placed = convert_with(&libvirt(daemon.uri(), None), &sample, &menu()).unwrap();
        let file = pool.join(format!("{}_VARS.fd", sample.name));
        assert!(placed.files.contains(&file), "{:?}", placed.files);
        assert_eq!(menu_of(&file), menu());
        let xml = daemon
            .virsh(&["dumpxml", "--inactive", &sample.name])
            .unwrap();
        assert!(
            xml.contains(&format!(">{}</nvram>", file.display())),
            "{xml}"
        );
        daemon.virsh(&["start", &sample.name]).unwrap();
        daemon.virsh(&["destroy", &sample.name]).unwrap();
    }
}

#[test]
fn domains_for_kvm_are_defined_with_tpm_and_hyperv() {
    if !Path::new("/dev/kvm").exists() {
        return testkit::skip("/dev/kvm is absent");
    }
    let Some(daemon) = Libvirtd::start().unwrap() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let kvm = TargetOptions {
        domain_type: DomainType::Kvm,
        ..libvirt(daemon.uri(), dir.path().to_str())
    };
    let tpm = daemon
        .virsh(&["domcapabilities"])
        .unwrap()
        .contains("<value>emulator</value>");
    for (sample, part, there) in [
        (samples::windows(), "<vapic state='on'/>", true),
        (samples::uefi(), "<tpm model='tpm-crb'>", tpm),
    ] {
        let sample = small(sample);
        let placed = convert(&kvm, &sample).unwrap();
        assert_eq!(
            placed.notes.iter().any(|note| note.contains("no swtpm")),
            !there,
            "{:?}",
            placed.notes
        );
        let xml = daemon
            .virsh(&["dumpxml", "--inactive", &sample.name])
            .unwrap();
        assert!(xml.contains("<domain type='kvm'>"), "{xml}");
        assert_eq!(xml.contains(part), there, "{xml}");
    }
}

/// What firmware another host has is not known.
fn leaves_its_menu_behind(options: &TargetOptions, pool: &Path) {
    let named = TargetOptions {
        name: "with a menu".into(),
        ..options.clone()
    };
    let placed = convert_with(&named, &uefi(), &menu()).unwrap();
    let noted = placed
        .notes
        .iter()
        .filter(|note| note.contains("boot menu"));
    assert_eq!(
        (noted.count(), placed.files.len()),
        (1, 1),
        "{:?}",
        placed.notes
    );
    assert!(!names(pool).iter().any(|name| name.ends_with("_VARS.fd")));
}

#[test]
fn a_pool_of_another_host_gets_its_disks_by_upload() {
    let Some(daemon) = Libvirtd::start().unwrap() else {
        return;
    };
    if !testkit::require_tool("virt-ssh-helper") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("pool");
    fs::create_dir(&pool).unwrap();
    daemon
        .virsh(&[
            "pool-create-as",
            "far pool",
            "dir",
            "--target",
            pool.to_str().unwrap(),
        ])
        .unwrap();
    let uri = daemon.remote_uri().unwrap();
    let options = libvirt(&uri, Some("far pool"));
    let folder = refusal(&libvirt(&uri, pool.to_str()), &sample());
    assert!(
        folder
            .to_string()
            .contains("another host: expected the name of a storage pool"),
        "{folder}"
    );

    let mut sample = small(samples::many());
    for nic in &mut sample.machine.nics {
        nic.network = NicNetwork::Network("default".into());
    }
    let placed = convert(&options, &sample).unwrap();
    let disks: Vec<PathBuf> = ["a", "b", "c"]
        .map(|l| pool.join(format!("web & <db>-sd{l}")))
        .into();
    assert_eq!(
        (&placed.files, placed.domain.as_deref()),
        (&disks, Some("web & <db>"))
    );
    for disk in &disks {
        let check = std::process::Command::new("qemu-img")
            .arg("check")
            .arg(disk)
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }
    assert!(
        daemon
            .virsh(&["list", "--all", "--name"])
            .unwrap()
            .contains("web & <db>")
    );

    leaves_its_menu_behind(&options, &pool);

    // Each of these fails at another point: the volume exists, the pool is too small, the domain is refused.
    let before = names(&pool);
    daemon.virsh(&["undefine", "web & <db>"]).unwrap();
    assert_eq!(refusal(&options, &sample).kind(), ErrorKind::NameTaken);
    let other = TargetOptions {
        name: "other".into(),
        ..options.clone()
    };
    let huge = Plan {
        machine: &sample.machine,
        caps: None,
        estimated_bytes: vec![],
    };
    let mut machine = sample.machine.clone();
    machine.disks[0].virtual_size = 1 << 60;
    let mut target = prepare(&other, "x").unwrap();
    assert!(target.check(&huge).is_ok());
    let error = target
        .check(&Plan {
            machine: &machine,
            caps: None,
            estimated_bytes: vec![],
        })
        .unwrap_err();
    assert!(error.to_string().contains("the pool `far pool`"), "{error}");
    drop(target);
    sample.machine.uuid = Some("no-uuid".into());
    let error = convert(
        &TargetOptions {
            keep_uuid: true,
            ..other
        },
        &sample,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("refused the domain"),
        "{}",
        chain(&error)
    );
    assert_eq!(names(&pool), before);
}
