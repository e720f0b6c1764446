//! Order of disks, buses of controllers, the way from an item to its file.

use types::DiskBus;

use crate::error::ErrorKind;
use crate::ovf::tests::{parse_ok, refused};
use crate::tests::descriptor::{Ovf, controller, disk_item};

/// References of the machine's disks, in order.
fn order(items: &[String]) -> Vec<String> {
    let ovf = Ovf {
        items: items.to_vec(),
        disks: 4,
        ..Ovf::vmware()
    };
    parse_ok(&ovf.text())
        .files
        .into_iter()
        .map(|file| file.label)
        .collect()
}

#[test]
fn disks_of_one_controller_follow_address_on_parent() {
    let items = [
        controller(3, 6, "0", ""),
        disk_item(0, 3, Some(10)),
        disk_item(1, 3, Some(2)),
        disk_item(2, 3, Some(0)),
    ];
    assert_eq!(order(&items), ["disk2.vmdk", "disk1.vmdk", "disk0.vmdk"]);
}

#[test]
fn scsi_0_comes_before_scsi_1_wherever_it_stands() {
    let items = [
        controller(3, 6, "1", "lsilogic"),
        controller(4, 6, "0", "VirtualSCSI"),
        disk_item(0, 3, Some(0)),
        disk_item(1, 4, Some(1)),
        disk_item(2, 4, Some(0)),
    ];
    assert_eq!(order(&items), ["disk2.vmdk", "disk1.vmdk", "disk0.vmdk"]);
}

#[test]
fn controllers_without_usable_addresses_count_in_document_order() {
    for address in ["", "7", "pci:3"] {
        let items = [
            controller(9, 6, address, "lsilogic"),
            controller(2, 6, address, "lsilogic"),
            disk_item(0, 2, Some(0)),
            disk_item(1, 9, Some(0)),
        ];
        assert_eq!(order(&items), ["disk1.vmdk", "disk0.vmdk"], "{address}");
    }
}

#[test]
fn the_bus_of_the_first_disk_in_the_document_leads() {
    let controllers = [
        controller(3, 5, "0", ""),
        controller(4, 6, "0", ""),
        controller(5, 20, "0", "vmware.sata.ahci"),
    ];
    let with = |disks: [String; 4]| order(&[controllers.to_vec(), disks.to_vec()].concat());
    let scsi_first = with([
        disk_item(0, 4, Some(1)),
        disk_item(1, 3, Some(0)),
        disk_item(2, 5, Some(0)),
        disk_item(3, 4, Some(0)),
    ]);
    assert_eq!(
        scsi_first,
        ["disk3.vmdk", "disk0.vmdk", "disk1.vmdk", "disk2.vmdk"]
    );
    let sata_first = with([
        disk_item(0, 5, Some(0)),
        disk_item(1, 3, Some(0)),
        disk_item(2, 4, Some(0)),
        disk_item(3, 3, Some(1)),
    ]);
    assert_eq!(
        sata_first,
        ["disk0.vmdk", "disk1.vmdk", "disk3.vmdk", "disk2.vmdk"]
    );
}

#[test]
fn a_missing_address_keeps_document_order_on_that_controller() {
    let items = [
        controller(3, 6, "0", ""),
        disk_item(0, 3, Some(5)),
        disk_item(1, 3, None),
        disk_item(2, 3, Some(0)),
    ];
    assert_eq!(order(&items), ["disk0.vmdk", "disk1.vmdk", "disk2.vmdk"]);
}

#[test]
fn each_kind_of_controller_has_its_bus() {
    let cases = [
        (5, "", DiskBus::Ide),
        (6, "lsilogicsas", DiskBus::Scsi),
        (6, "VirtualSCSI", DiskBus::Scsi),
        (8, "", DiskBus::Scsi),
        (20, "vmware.sata.ahci", DiskBus::Sata),
        (20, "AHCI", DiskBus::Sata),
        (20, "vmware.nvme.controller", DiskBus::Nvme),
        (20, "NVMe", DiskBus::Nvme),
        (20, "VirtioSCSI", DiskBus::VirtioScsi),
        (20, "vmware.nvdimm.controller", DiskBus::Unknown),
        (23, "vmware.usb.ehci", DiskBus::Unknown),
    ];
    for (kind, sub_type, bus) in cases {
        let items = vec![controller(3, kind, "0", sub_type), disk_item(0, 3, Some(0))];
        let parsed = parse_ok(
            &Ovf {
                items,
                disks: 1,
                ..Ovf::vmware()
            }
            .text(),
        );
        assert_eq!(parsed.machine.disks[0].bus, bus, "{kind} {sub_type}");
        assert_eq!(
            bus == DiskBus::Unknown,
            parsed.warnings.iter().any(|w| w.contains("controller"))
        );
    }
}

#[test]
fn disks_that_cannot_be_read_are_refused_by_name() {
    let text = Ovf::vmware().text();
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "`{from}` is not in the descriptor");
        text.replace(from, to)
    };
    refused(
        &edit(
            " ovf:id=\"file0\"",
            " ovf:id=\"file0\" ovf:compression=\"bzip2\"",
        ),
        ErrorKind::Unsupported,
        "compression=\"bzip2\"",
    );
    for size in ["0", "-5", "x"] {
        refused(
            &edit(
                " ovf:id=\"file0\"",
                &format!(" ovf:id=\"file0\" ovf:chunkSize=\"{size}\""),
            ),
            ErrorKind::Corrupt,
            "ovf:chunkSize",
        );
    }
    refused(
        &edit(
            " ovf:fileRef=\"file0\"",
            " ovf:fileRef=\"file0\" ovf:parentRef=\"base\"",
        ),
        ErrorKind::Missing,
        "parent (ovf:parentRef) of `disk0`",
    );
    refused(
        &edit(
            " ovf:fileRef=\"file0\"",
            " ovf:fileRef=\"file0\" ovf:parentRef=\"disk0\"",
        ),
        ErrorKind::Limit,
        "a loop",
    );
    refused(
        &edit(" ovf:fileRef=\"file0\"", " ovf:fileRef=\"nothing\""),
        ErrorKind::Missing,
        "no file `nothing`",
    );
    refused(
        &edit("ovf:/disk/disk0", "ovf:/disk/nothing"),
        ErrorKind::Missing,
        "no disk `nothing`",
    );
    refused(
        &edit("ovf:/disk/disk0", "vdisk0"),
        ErrorKind::Corrupt,
        "HostResource",
    );
    refused(
        &edit("<rasd:HostResource>ovf:/disk/disk0</rasd:HostResource>", ""),
        ErrorKind::Missing,
        "HostResource",
    );
    refused(
        &edit("ovf:diskId=\"disk1\"", "ovf:diskId=\"disk0\""),
        ErrorKind::Corrupt,
        "two disks `disk0`",
    );
    refused(
        &edit("ovf:id=\"file1\"", "ovf:id=\"file0\""),
        ErrorKind::Corrupt,
        "two files `file0`",
    );
    refused(
        &edit("<rasd:ResourceType>17<", "<rasd:ResourceType>99<"),
        ErrorKind::Corrupt,
        "hard disk, found none",
    );
    let identity = edit(
        " ovf:id=\"file0\"",
        " ovf:id=\"file0\" ovf:compression=\"identity\"",
    );
    assert_eq!(parse_ok(&identity).machine, parse_ok(&text).machine);
}

#[test]
fn files_say_how_they_are_packed_and_cut() {
    let text = Ovf::vmware().text().replace(
        " ovf:id=\"file0\"",
        " ovf:id=\"file0\" ovf:compression=\"gzip\" ovf:chunkSize=\"1000\" ovf:size=\"2500\"",
    );
    let file = parse_ok(&text).files[0].file.clone().unwrap();
    assert!(file.gzip);
    assert_eq!((file.chunk_size, file.size), (Some(1000), Some(2500)));
}

#[test]
fn a_disk_without_a_file_is_blank_and_one_with_a_parent_has_it() {
    let text = Ovf::vmware().text();
    let blank = parse_ok(&text.replace(" ovf:fileRef=\"file0\"", ""));
    assert_eq!(blank.files[0].file, None);
    assert_eq!(blank.files[0].capacity, Some(4 << 20));
    refused(
        &text.replace(" ovf:fileRef=\"file0\"", "").replacen(
            "ovf:capacity=\"4194304\"",
            "ovf:capacity=\"${size}\"",
            1,
        ),
        ErrorKind::Unsupported,
        "neither a file nor a capacity",
    );
    let section = "<ProductSection><Info>i</Info><Property ovf:key=\"size\" ovf:type=\"int\" ovf:value=\"30\"/></ProductSection>";
    let sized = text
        .replace(
            " ovf:fileRef=\"file0\"",
            " ovf:capacityAllocationUnits=\"byte * 2^30\"",
        )
        .replacen("ovf:capacity=\"4194304\"", "ovf:capacity=\"${size}\"", 1)
        .replace("<Name>", &format!("{section}<Name>"));
    assert_eq!(parse_ok(&sized).files[0].capacity, Some(30 << 30));
    let delta = parse_ok(&text.replace(
        " ovf:fileRef=\"file0\"",
        " ovf:fileRef=\"file0\" ovf:parentRef=\"disk1\"",
    ));
    let parent = delta.files[0].parent.clone().unwrap();
    assert_eq!(parent.label, "disk1.vmdk");
    assert_eq!(delta.files[1].parent, None);
}

#[test]
fn host_resources_are_spelled_in_many_ways() {
    let text = Ovf::vmware().text();
    for resource in [
        "/disk/disk0",
        "disk/disk0",
        "ovf://disk/disk0",
        "ovf:/file/file0",
        "disk0",
        "a1b2/disk0",
    ] {
        let parsed = parse_ok(&text.replace("ovf:/disk/disk0", resource));
        assert_eq!(parsed.files[0].label, "disk0.vmdk", "{resource}");
    }
}
