//! The disk, read as the appliance reads it.

use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

use super::*;

/// The archive as applianced has it: bytes of a disk.
fn opened(archive: Archive) -> guest::Payload {
    let disk = archive.finish();
    let size = usize::try_from(disk.virtual_size()).unwrap();
    assert_eq!(size % 4096, 0);
    let mut whole = vec![0xaa; size];
    disk.read_at(&mut whole, 0).unwrap();
    // However it is cut.
    let mut cut = vec![0xaa; size];
    for (number, part) in cut.chunks_mut(777).enumerate() {
        disk.read_at(part, number as u64 * 777).unwrap();
    }
    assert!(whole == cut);
    assert!(disk.read_at(&mut [0; 2], disk.virtual_size() - 1).is_err());
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&whole, 0).unwrap();
    guest::Payload::open(file).unwrap()
}

fn payload(top: &Path) -> Result<guest::Payload> {
    let mut archive = Archive::default();
    add(&mut archive, "0/top", top, &CancelToken::new())?;
    Ok(opened(archive))
}

fn drivers(top: &Path) -> Result<guest::Payload> {
    let mut archive = Archive::default();
    drivers::add(&mut archive, top, &CancelToken::new())?;
    Ok(opened(archive))
}

fn text(payload: &guest::Payload, name: &str) -> String {
    let mut text = String::new();
    io::Read::read_to_string(&mut payload.read(name).unwrap(), &mut text).unwrap();
    text
}

fn names(payload: &guest::Payload) -> Vec<&str> {
    payload.tree("virtio-win").map(|(name, _)| name).collect()
}

#[test]
fn a_folder_arrives_with_modes_links_and_long_names() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "hello").unwrap();
    fs::write(deep.join("empty"), "").unwrap();
    fs::write(deep.join("sector"), "x".repeat(512)).unwrap();
    fs::set_permissions(deep.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    let payload = payload(dir.path()).unwrap();
    let folder = format!("0/top/{}/{}", "d".repeat(120), "e".repeat(120));
    assert_eq!(text(&payload, &format!("{folder}/file")), "hello");
    assert_eq!(text(&payload, &format!("{folder}/empty")), "");
    assert_eq!(text(&payload, &format!("{folder}/sector")).len(), 512);
    let member = payload.member(&format!("{folder}/file")).unwrap();
    assert_eq!(member.mode, 0o4750);
    let link = &payload.member("0/top/link").unwrap().kind;
    assert_eq!(*link, guest::MemberKind::Symlink("/etc/passwd".into()));
}

#[test]
fn a_fifo_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let error = payload(dir.path()).unwrap_err();
    assert!(error.to_string().contains("fifo"), "{error}");
}

#[test]
fn a_file_that_became_shorter_is_an_error_and_not_silence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x".repeat(5000)).unwrap();
    let mut archive = Archive::default();
    add(&mut archive, "a", &file, &CancelToken::new()).unwrap();
    let disk = archive.finish();
    fs::write(&file, "short").unwrap();
    let mut bytes = vec![0; usize::try_from(disk.virtual_size()).unwrap()];
    let error = disk.read_at(&mut bytes, 0).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn drivers_of_a_folder_follow_links_inside_it_only() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("virtio-win");
    let amd64 = top.join("drivers/by-os/w10/amd64");
    fs::create_dir_all(&amd64).unwrap();
    fs::write(amd64.join("VIOSTOR.INF"), "[Version]").unwrap();
    fs::write(amd64.join("viostor.sys"), "MZ").unwrap();
    fs::write(amd64.join("viostor.pdb"), "symbols").unwrap();
    fs::write(dir.path().join("secret.sys"), "secret").unwrap();
    symlink("w10", top.join("drivers/by-os/w11")).unwrap();
    symlink("..", top.join("drivers/up")).unwrap();
    symlink("../secret.sys", top.join("out.sys")).unwrap();
    symlink("drivers/by-os/w10/amd64/viostor.sys", top.join("in.sys")).unwrap();
    symlink("nowhere", top.join("dangling.sys")).unwrap();
    let payload = drivers(&top).unwrap();
    assert_eq!(
        names(&payload),
        [
            "drivers/by-os/w10/amd64/VIOSTOR.INF",
            "drivers/by-os/w10/amd64/viostor.sys",
            "in.sys"
        ]
    );
    assert_eq!(text(&payload, "virtio-win/in.sys"), "MZ");
}

#[test]
fn an_iso_is_read_in_place() {
    if !testkit::require_tool("xorriso") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("NetKVM/2k22/amd64")).unwrap();
    fs::write(tree.join("NetKVM/2k22/amd64/netkvm.inf"), "[Version]").unwrap();
    fs::write(tree.join("NetKVM/2k22/amd64/netkvm.pdb"), "symbols").unwrap();
    let iso = dir.path().join("virtio-win.iso");
    let made = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-r", "-J", "-o"])
        .arg(&iso)
        .arg(&tree)
        .output();
    assert!(made.unwrap().status.success());
    let payload = drivers(&iso).unwrap();
    assert_eq!(names(&payload), ["NetKVM/2k22/amd64/netkvm.inf"]);
    let member = "virtio-win/NetKVM/2k22/amd64/netkvm.inf";
    assert_eq!(text(&payload, member), "[Version]");
}

#[test]
fn what_is_no_iso_is_refused_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("virtio-win.iso");
    fs::write(&path, vec![0; 100_000]).unwrap();
    let error = drivers(&path).unwrap_err();
    assert!(error.to_string().contains("virtio-win.iso"), "{error}");
    assert!(drivers(&dir.path().join("absent")).is_err());
}
