//! Small descriptors of our own: exact fields, order, refusals.

use types::{Firmware, Hypervisor};

use super::*;
use crate::error::ErrorKind;
use crate::tests::descriptor::{Ovf, controller, disk_item, item};

pub(super) fn parse_ok(text: &str) -> Descriptor {
    parse(text, "fallback", None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub(super) fn refused(text: &str, kind: ErrorKind, part: &str) {
    let error = parse(text, "fallback", None).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(
        error.to_string().contains(part),
        "`{part}` is not in: {error}"
    );
}

#[test]
fn a_vmware_machine_is_read_whole() {
    insta::assert_debug_snapshot!(parse_ok(&Ovf::vmware().text()));
}

#[test]
fn an_ovf_2_machine_of_virtualbox_is_read_whole() {
    insta::assert_debug_snapshot!(parse_ok(include_str!("testdata/virtualbox-2.0.ovf")));
}

#[test]
fn a_draft_0_9_machine_is_read_whole() {
    insta::assert_debug_snapshot!(parse_ok(include_str!("testdata/draft-0.9.ovf")));
}

#[test]
fn memory_is_read_in_its_units() {
    let memory = |quantity: &str, units: Option<&str>| {
        let mut fields = vec![
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", quantity),
        ];
        fields.extend(units.map(|units| ("AllocationUnits", units)));
        let items = vec![
            item(&fields),
            controller(3, 6, "0", ""),
            disk_item(0, 3, Some(0)),
        ];
        parse(
            &Ovf {
                items,
                disks: 1,
                ..Ovf::vmware()
            }
            .text(),
            "x",
            None,
        )
    };
    for (quantity, units) in [
        ("2048", Some("byte * 2^20")),
        ("2048", None),
        ("2", Some("GigaBytes")),
        ("2147483648", Some("byte")),
    ] {
        assert_eq!(
            memory(quantity, units).unwrap().machine.memory_bytes,
            2 << 30,
            "{units:?}"
        );
    }
    let absent = memory("0", None).unwrap();
    assert_eq!(absent.machine.memory_bytes, 2048 << 20);
    assert!(
        absent
            .warnings
            .iter()
            .any(|warning| warning.contains("memory"))
    );
    assert_eq!(
        memory("2", Some("hertz")).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(memory("-1", None).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(
        memory("18446744073709551615", None).unwrap_err().kind(),
        ErrorKind::Limit
    );
}

#[test]
fn virtual_cpus_are_grouped_only_when_it_comes_out_even() {
    let cpus = |count: &str, cores: &str| {
        let cpu = item(&[
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", count),
        ]);
        let cpu = cpu.replace(
            "</Item>",
            &format!("<vmw:CoresPerSocket>{cores}</vmw:CoresPerSocket></Item>"),
        );
        let items = vec![cpu, controller(3, 6, "0", ""), disk_item(0, 3, Some(0))];
        parse(
            &Ovf {
                items,
                disks: 1,
                ..Ovf::vmware()
            }
            .text(),
            "x",
            None,
        )
    };
    let machine = cpus("6", "3").unwrap().machine;
    assert_eq!(
        machine.topology.map(|t| (t.sockets, t.cores, t.threads)),
        Some((2, 3, 1))
    );
    for (count, cores) in [("6", "4"), ("6", "0")] {
        let odd = cpus(count, cores).unwrap();
        assert_eq!((odd.machine.vcpus, odd.machine.topology), (6, None));
        assert!(
            odd.warnings
                .iter()
                .any(|warning| warning.contains("cores per socket"))
        );
    }
    assert_eq!(cpus("0", "1").unwrap().machine.vcpus, 1);
    assert_eq!(
        cpus("99999999999", "1").unwrap_err().kind(),
        ErrorKind::Limit
    );
}

#[test]
fn adapter_addresses_that_no_adapter_can_own_are_ignored() {
    let nic = |address: &str| {
        let nic = item(&[
            ("InstanceID", "7"),
            ("ResourceType", "10"),
            ("Connection", "n"),
            ("Address", address),
        ]);
        let items = vec![nic, controller(3, 6, "0", ""), disk_item(0, 3, Some(0))];
        parse_ok(
            &Ovf {
                items,
                disks: 1,
                ..Ovf::vmware()
            }
            .text(),
        )
        .machine
        .nics[0]
            .mac
    };
    assert_eq!(
        nic("00:50:56:AB:cd:ef")
            .map(|mac| mac.to_string())
            .as_deref(),
        Some("00:50:56:ab:cd:ef")
    );
    assert_eq!(
        nic("005056abcdef").map(|mac| mac.to_string()).as_deref(),
        Some("00:50:56:ab:cd:ef")
    );
    for address in [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "7",
        "generated",
        "äöüäöü",
    ] {
        assert_eq!(nic(address), None, "{address}");
    }
}

#[test]
fn firmware_and_hypervisor_come_from_what_each_exporter_writes() {
    let of = |system_type: &'static str, config: &'static str| {
        let parsed = parse_ok(
            &Ovf {
                system_type,
                config,
                ..Ovf::vmware()
            }
            .text(),
        );
        (
            parsed.machine.hypervisor,
            parsed.machine.firmware,
            parsed.machine.secure_boot,
        )
    };
    let efi = r#"<vmw:Config vmw:key="firmware" vmw:value="efi"/>"#;
    let secure = r#"<vmw:Config vmw:key="firmware" vmw:value="efi"/><vmw:Config vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>"#;
    assert_eq!(
        of("vmx-13", ""),
        (Hypervisor::Vmware, Some(Firmware::Bios), false)
    );
    assert_eq!(
        of("vmx-7 vmx-8", efi),
        (Hypervisor::Vmware, Some(Firmware::Uefi), false)
    );
    assert_eq!(
        of("vmx-19", secure),
        (Hypervisor::Vmware, Some(Firmware::Uefi), true)
    );
    assert_eq!(
        of("virtualbox-2.2", ""),
        (Hypervisor::VirtualBox, Some(Firmware::Bios), false)
    );
    assert_eq!(of("xen-3.0-unknown", ""), (Hypervisor::Xen, None, false));
    assert_eq!(of("", ""), (Hypervisor::Unknown, None, false));
}

#[test]
fn the_default_deployment_option_is_taken() {
    let section = r#"<DeploymentOptionSection><Info>i</Info><Configuration ovf:id="small"/>
        <Configuration ovf:id="large" ovf:default="true"/></DeploymentOptionSection>"#;
    let cpu = |attributes: &str, count: &str| {
        item(&[
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", count),
        ])
        .replace("<Item>", &format!("<Item {attributes}>"))
    };
    let items = vec![
        cpu("", "2"),
        cpu(r#"ovf:bound="max""#, "64"),
        cpu(r#"ovf:configuration="small""#, "1"),
        cpu(r#"ovf:configuration="huge large""#, "8"),
        controller(3, 6, "0", ""),
        disk_item(0, 3, Some(0)),
    ];
    let parsed = parse_ok(
        &Ovf {
            items,
            disks: 1,
            extra_sections: section,
            ..Ovf::vmware()
        }
        .text(),
    );
    assert_eq!(parsed.machine.vcpus, 8);
    assert!(
        parsed
            .warnings
            .iter()
            .any(|warning| warning.contains("`large`"))
    );
}

#[test]
fn a_machine_without_a_name_takes_its_id_and_then_the_file_s() {
    let text = Ovf::vmware().text();
    let unnamed = text.replace("<Name>web server</Name>", "<Name> </Name>");
    assert_eq!(parse_ok(&unnamed).machine.name, "vm-1");
    let bare = unnamed.replace(r#"<VirtualSystem ovf:id="vm-1">"#, "<VirtualSystem>");
    assert_eq!(parse_ok(&bare).machine.name, "fallback");
}

#[test]
fn prefixes_mean_nothing_and_foreign_namespaces_are_no_ovf() {
    let text = Ovf::vmware().text();
    let renamed = text
        .replace("ovf:", "o:")
        .replace("xmlns:ovf=", "xmlns:o=")
        .replace("rasd:", "q:")
        .replace("xmlns:rasd=", "xmlns:q=");
    let renamed = renamed.replace(r#"<q:HostResource>o:"#, r#"<q:HostResource>ovf:"#);
    assert_eq!(parse_ok(&renamed).machine, parse_ok(&text).machine);
    let slash = text.replace("envelope/1\"", "envelope/1/\"");
    assert_eq!(parse_ok(&slash).machine, parse_ok(&text).machine);
    refused(
        &text.replace(
            "http://schemas.dmtf.org/ovf/envelope/1",
            "http://www.example.com/",
        ),
        ErrorKind::Corrupt,
        "Envelope",
    );
    refused(
        "<html/>",
        ErrorKind::Corrupt,
        "found `html` of no namespace",
    );
}

#[test]
fn several_machines_are_refused_by_their_names() {
    let system =
        |name: &str| format!("<VirtualSystem ovf:id=\"{name}\"><Info>i</Info></VirtualSystem>");
    let text = Ovf::vmware().text();
    let start = text.find("<VirtualSystem ").unwrap();
    let end = text.find("</Envelope>").unwrap();
    let one = &text[start..end];
    let collection = |inner: &str| {
        let head = &text[..start];
        format!(
            "{head}<VirtualSystemCollection ovf:id=\"c\"><Info>i</Info>{inner}</VirtualSystemCollection></Envelope>"
        )
    };
    refused(
        &collection(&format!("{}{}", system("db"), system("web"))),
        ErrorKind::Unsupported,
        "`db`, `web`",
    );
    assert_eq!(parse_ok(&collection(one)).machine.name, "web server");
    refused(
        &collection(""),
        ErrorKind::Corrupt,
        "VirtualSystem, found none",
    );
}

#[test]
fn dtds_are_refused_whatever_they_do() {
    let text = Ovf::vmware().text();
    let body = text.split_once("?>").unwrap().1;
    let entities: String = (1..20)
        .map(|n| format!("<!ENTITY e{n} \"&e{0};&e{0};&e{0};&e{0};\">", n - 1))
        .collect();
    let bomb = format!("<!DOCTYPE Envelope [<!ENTITY e0 \"boom\">{entities}]>{body}");
    refused(
        &bomb.replace("web server", "&e19;"),
        ErrorKind::Refused,
        "(DTD) is not allowed",
    );
    let external = format!("<!DOCTYPE Envelope [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{body}");
    refused(
        &external.replace("web server", "&x;"),
        ErrorKind::Refused,
        "(DTD) is not allowed",
    );
    refused(
        &text.replace("web server", "&nothing;"),
        ErrorKind::Corrupt,
        "well-formed XML",
    );
}

#[test]
fn depth_and_number_of_elements_are_bounded() {
    let deep = format!("{}{}", "<a>".repeat(500_000), "</a>".repeat(500_000));
    let text = Ovf {
        extra_sections: &deep,
        ..Ovf::vmware()
    }
    .text();
    assert_eq!(
        parse_ok(&text).machine,
        parse_ok(&Ovf::vmware().text()).machine
    );
    let wide = "<a/>".repeat(2_100_000);
    refused(
        &Ovf {
            extra_sections: &wide,
            ..Ovf::vmware()
        }
        .text(),
        ErrorKind::Limit,
        "XML nodes",
    );
}

#[test]
fn damaged_descriptors_never_panic() {
    let text = Ovf::vmware().text();
    for end in (0..text.len()).step_by(7) {
        let _ = parse(text.get(..end).unwrap_or_default(), "x", None);
    }
    for value in [
        "",
        "-1",
        "99999999999999999999999",
        "\u{fffd}",
        "${x}",
        "../..",
        " 1 ",
        "NaN",
    ] {
        for digits in [">0<", ">1<", ">17<", ">3<", "\"4194304\""] {
            let (open, close) = digits.split_at(1);
            let close = &close[close.len() - 1..];
            let _ = parse(
                &text.replace(digits, &format!("{open}{value}{close}")),
                "x",
                None,
            );
        }
    }
}

#[test]
fn one_of_several_machines_is_chosen_by_id_or_name() {
    let text = Ovf::vmware().text();
    let start = text.find("<VirtualSystem ").unwrap();
    let end = text.find("</Envelope>").unwrap();
    let one = &text[start..end];
    let other = |id: &str, name: &str| {
        one.replace("\"vm-1\"", &format!("\"{id}\""))
            .replace("web server", name)
    };
    let nested = |inner: &str| {
        format!(
            "<VirtualSystemCollection ovf:id=\"c\"><Info>i</Info>{inner}</VirtualSystemCollection>"
        )
    };
    let systems = nested(&format!(
        "{one}{}{}",
        nested(&other("vm-2", "database")),
        other("vm-3", "database")
    ));
    let text = format!("{}{systems}</Envelope>", &text[..start]);
    let chosen = |wanted| parse(&text, "x", Some(wanted)).map(|found| found.machine.name);
    assert_eq!(chosen("vm-1").unwrap(), "web server");
    assert_eq!(chosen("web server").unwrap(), "web server");
    assert_eq!(chosen("vm-2").unwrap(), "database");
    for (wanted, part) in [
        ("database", "`vm-2`, `vm-3`"),
        ("mail", "no machine `mail`, only `web server`, `database`"),
    ] {
        let error = chosen(wanted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(part), "{error}");
    }
    refused(&text, ErrorKind::Unsupported, "--vm NAME");
}

#[test]
fn encrypted_packages_are_refused() {
    let sections = [
        "<EncryptionSection><Info>i</Info></EncryptionSection>",
        "<x:EncryptedData xmlns:x=\"http://www.w3.org/2001/04/xmlenc#\"/>",
    ];
    for extra_sections in sections {
        let text = Ovf {
            extra_sections,
            ..Ovf::vmware()
        }
        .text();
        refused(&text, ErrorKind::Unsupported, "is encrypted");
    }
}

#[test]
fn required_sections_that_are_not_known_are_named() {
    let warned = |extra_sections| {
        let text = Ovf {
            extra_sections,
            ..Ovf::vmware()
        }
        .text();
        parse_ok(&text).warnings.join("\n")
    };
    assert!(warned("<vmw:MagicSection/>").contains("`MagicSection`"));
    assert!(!warned("<vmw:MagicSection ovf:required=\"false\"/>").contains("Magic"));
}

#[test]
fn xenserver_and_ovirt_write_firmware_their_own_way() {
    let xen = |params: &str, platform: &str| {
        let config: &'static str = Box::leak(
            format!(
                "<c:VirtualSystemOtherConfigurationData xmlns:c=\"http://schemas.citrix.com/ovf/envelope/1\" \
                 Name=\"HVM_boot_params\"><Value>{params}</Value></c:VirtualSystemOtherConfigurationData>\
                 <c:VirtualSystemOtherConfigurationData xmlns:c=\"http://schemas.citrix.com/ovf/envelope/1\" \
                 Name=\"platform\"><Value>{platform}</Value></c:VirtualSystemOtherConfigurationData>"
            )
            .into_boxed_str(),
        );
        let machine = parse_ok(
            &Ovf {
                system_type: "hvm-3.0-unknown",
                config,
                ..Ovf::vmware()
            }
            .text(),
        )
        .machine;
        (machine.hypervisor, machine.firmware, machine.secure_boot)
    };
    assert_eq!(
        xen("order=dc;firmware=uefi", "nx=true;secureboot=true"),
        (Hypervisor::Xen, Some(Firmware::Uefi), true)
    );
    assert_eq!(
        xen("order=dc", "nx=true"),
        (Hypervisor::Xen, Some(Firmware::Bios), false)
    );
    let ovirt = |bios: &str| {
        let text = Ovf {
            system_type: "ENGINE 4.5.2.4",
            config: "",
            ..Ovf::vmware()
        }
        .text()
        .replace("<Name>", &format!("<BiosType>{bios}</BiosType><Name>"));
        let machine = parse_ok(&text).machine;
        (machine.hypervisor, machine.firmware, machine.secure_boot)
    };
    assert_eq!(ovirt("1"), (Hypervisor::Kvm, Some(Firmware::Bios), false));
    assert_eq!(ovirt("3"), (Hypervisor::Kvm, Some(Firmware::Uefi), false));
    assert_eq!(ovirt("4"), (Hypervisor::Kvm, Some(Firmware::Uefi), true));
}
