//! Trees made to break a reader: `source` in circles, links in circles, a million lines, odd names.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use super::Case;

/// A conversion of the case takes no longer than this, on a busy machine with a slow build.
const SECONDS_MAX: u64 = 60;

fn survives(case: &Case, more: impl Fn(&crate::tests::tree::Tree)) -> Vec<String> {
    let tree = case.tree();
    more(&tree);
    let start = Instant::now();
    let outcome = case.convert(&tree);
    assert!(start.elapsed().as_secs() < SECONDS_MAX);
    assert_eq!(case.convert(&tree).changes, []);
    for change in &outcome.changes {
        assert!(
            !change.path.contains("..") && !change.path.contains('\n'),
            "{}",
            change.path
        );
    }
    outcome
        .changes
        .into_iter()
        .map(|change| change.path)
        .collect()
}

#[test]
fn source_in_circles_ends() {
    let case = Case::new(
        1,
        &[
            (
                "/etc/network/interfaces",
                "source /etc/network/interfaces\nsource /etc/network/interfaces.d/*\nsource-directory /etc/network\nauto ens192\n",
            ),
            (
                "/etc/network/interfaces.d/a",
                "source /etc/network/interfaces.d/*\nsource ../interfaces.d/[a-z]\nsource /\nsource *\n",
            ),
            (
                "/etc/network/interfaces.d/b",
                "source a\nsource b\nsource\nsource-directory /etc/network/interfaces.d\n",
            ),
        ],
    );
    let paths = survives(&case, |tree| {
        symlink("interfaces.d", tree.at("/etc/network/loop")).unwrap();
        symlink("x", tree.at("/etc/network/interfaces.d/x")).unwrap();
        symlink(
            "../../../../../../etc/passwd",
            tree.at("/etc/network/interfaces.d/up"),
        )
        .unwrap();
    });
    assert!(
        paths.contains(&"/etc/systemd/network/10-v2v-ens192.link".to_owned()),
        "{paths:?}"
    );
}

#[test]
fn odd_names_reach_no_path() {
    let case = Case::new(
        2,
        &[
            (
                "/etc/sysconfig/network-scripts/ifcfg-evil",
                "DEVICE=\"../../x\"\nHWADDR=00:50:56:00:00:01\nTYPE=Ethernet\n",
            ),
            (
                "/etc/netplan/a.yaml",
                "network:\n  ethernets:\n    \"a/../../b\":\n      dhcp4: true\n    'x\\ny': {match: {macaddress: 00:50:56:00:00:02}, set-name: ../z}\n",
            ),
            (
                "/etc/systemd/network/a.link",
                "[Match]\nMACAddress=00:50:56:00:00:02\n[Link]\nName=a b/c $(reboot)\n",
            ),
            (
                "/etc/udev/rules.d/70-persistent-net.rules",
                "ATTR{address}==\"00:50:56:00:00:01\", NAME=\"$(x)\"\nATTR{address}==\"00:50:56:00:00:02\", NAME=\"../x\"\n",
            ),
            (
                "/etc/default/grub",
                "GRUB_CMDLINE_LINUX=\"ifname=../q:00:50:56:00:00:01 ip=::::: ip= bond= vlan=: ifname=:\"\n",
            ),
        ],
    );
    let paths = survives(&case, |tree| {
        let dir = tree.at("/etc/sysconfig/network");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("ifcfg-a\nb"), "BOOTPROTO=dhcp\n").unwrap();
        fs::create_dir(dir.join("ifcfg-dir")).unwrap();
        symlink("ifcfg-loop", dir.join("ifcfg-loop")).unwrap();
        symlink("/dev/zero", dir.join("ifcfg-zero")).unwrap();
    });
    assert!(
        !paths.iter().any(|path| path.contains("network/10-v2v")),
        "{paths:?}"
    );
}

#[test]
fn huge_files_and_wide_directories_end() {
    let interfaces: String = (0..60_000)
        .map(|number| format!("auto eth{number}\n"))
        .collect();
    let netplan: String = (0..30_000)
        .map(|number| format!("    nic{number}: {{}}\n"))
        .collect();
    let netplan = format!("network:\n  ethernets:\n{netplan}");
    let conf = "a=(".repeat(50_000);
    let quotes = "config_x=\"\n".repeat(100_000);
    let case = Case::new(
        2,
        &[
            ("/etc/network/interfaces", &interfaces),
            ("/etc/netplan/a.yaml", &netplan),
            ("/etc/conf.d/net", &quotes),
            ("/etc/netctl/a", &conf),
        ],
    );
    survives(&case, |tree| {
        let dir = tree.at("/etc/NetworkManager/system-connections");
        fs::create_dir_all(&dir).unwrap();
        for number in 0..3000 {
            let text = format!(
                "[connection]\ntype=ethernet\ninterface-name=ens{number}\n[match]\ndriver=vmx{number};\n"
            );
            fs::write(dir.join(format!("{number}")), text).unwrap();
        }
    });
}

#[test]
fn bytes_that_are_no_text_stay() {
    let case = Case::new(1, &[("/usr/sbin/ifup", "")]);
    let tree = case.tree();
    tree.put(
        "/etc/network/interfaces",
        b"# caf\xe9\nauto ens192\niface ens192 inet dhcp\n",
    );
    let mut case = case;
    case.ips = vec![types::StaticIp {
        mac: crate::tests::tree::mac(1),
        address: "192.0.2.5".parse().unwrap(),
        gateway: None,
        prefix_len: Some(24),
        nameservers: vec![],
    }];
    case.convert(&tree);
    let new = fs::read(tree.at("/etc/network/interfaces")).unwrap();
    assert!(
        new.starts_with(b"# caf\xe9\n# v2v: auto ens192\n"),
        "{}",
        String::from_utf8_lossy(&new)
    );
}
