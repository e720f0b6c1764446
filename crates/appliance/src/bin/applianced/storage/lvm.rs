//! LVM: all logical volumes of all volume groups. What LVM may do here is in appliance/lvm.conf.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use types::DeviceKind;

use super::{Storage, blkid, block_device};
use crate::tool::Tool;

const LVM: &str = "/usr/sbin/lvm";
/// lvm(8): a command of which a part failed.
const PARTLY_FAILED: i32 = 5;

#[derive(Debug, Deserialize)]
struct Report<R> {
    report: Vec<R>,
}

#[derive(Debug, Deserialize)]
struct Groups {
    vg: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    vg_name: String,
    vg_uuid: String,
    vg_missing_pv_count: String,
}

#[derive(Debug, Deserialize)]
struct Volumes {
    lv: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
struct Volume {
    vg_name: String,
    lv_name: String,
    /// lvs(8), "lv_attr bits": the first is the volume's type.
    lv_attr: String,
    /// -1 unless it is active.
    lv_kernel_minor: String,
}

impl Volume {
    /// `s`/`S`: a snapshot that stores old blocks of another volume.
    fn is_snapshot(&self) -> bool {
        self.lv_attr.starts_with(['s', 'S'])
    }

    /// Thin pools, cache pools and their kin hold no file system themselves.
    fn is_pool(&self) -> bool {
        self.lv_attr.starts_with(['t', 'T', 'e', 'd', 'D'])
    }

    fn minor(&self) -> Option<u32> {
        self.lv_kernel_minor.parse().ok()
    }
}

/// Activates every volume and adds those that are new.
pub(super) fn activate(storage: &mut Storage) -> Result<()> {
    let groups: Report<Groups> = report("vgs", "vg_name,vg_uuid,vg_missing_pv_count")?;
    let groups: Vec<Group> = groups
        .report
        .into_iter()
        .flat_map(|report| report.vg)
        .collect();
    check_names(&groups)?;
    for group in groups
        .iter()
        .filter(|group| group.vg_missing_pv_count != "0")
    {
        tracing::warn!(
            "volume group {}: {} disks are missing",
            group.vg_name,
            group.vg_missing_pv_count
        );
    }
    let outcome = Tool::new(LVM)
        .args(["vgchange", "--activate", "y", "--sysinit"])
        .run()?;
    match outcome.code() {
        Some(0) => {}
        Some(PARTLY_FAILED) => tracing::warn!("{}", outcome.complaint()),
        _ => bail!("{}", outcome.complaint()),
    }
    let volumes: Report<Volumes> = report("lvs", "vg_name,lv_name,lv_attr,lv_kernel_minor")?;
    let mut fresh = Vec::new();
    for volume in volumes.report.into_iter().flat_map(|report| report.lv) {
        match volume.minor() {
            Some(_) if volume.is_pool() => {}
            Some(minor) if storage.knows(&PathBuf::from(format!("/dev/dm-{minor}"))) => {}
            Some(minor) => fresh.push((format!("dm-{minor}"), volume)),
            None => tracing::warn!(
                "/dev/{}/{} could not be activated",
                volume.vg_name,
                volume.lv_name
            ),
        }
    }
    let mut probes = blkid::probe(fresh.iter().map(|(kname, _)| kname.as_str()))?;
    for (kname, volume) in fresh {
        let name = format!("/dev/{}/{}", volume.vg_name, volume.lv_name);
        if volume.is_snapshot() {
            storage.snapshots.insert(name.clone());
        }
        let kind = DeviceKind::Lv {
            vg: volume.vg_name,
            lv: volume.lv_name,
        };
        let probe = probes.remove(&kname).unwrap_or_default();
        let device = block_device(name, kind, &kname, probe)?;
        storage.add(PathBuf::from("/dev").join(&kname), device);
    }
    Ok(())
}

/// Deactivates every volume.
pub(super) fn deactivate() -> Result<()> {
    Tool::new(LVM)
        .args(["vgchange", "--activate", "n"])
        .run()?
        .success()
        .map(drop)
}

/// Two groups of one name can't be told apart by anything that the guest writes down: `/dev/VG/LV`.
fn check_names(groups: &[Group]) -> Result<()> {
    let mut uuids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for group in groups {
        uuids
            .entry(&group.vg_name)
            .or_default()
            .insert(&group.vg_uuid);
    }
    match uuids.iter().find(|(_, uuids)| uuids.len() > 1) {
        Some((name, uuids)) => {
            let uuids: Vec<&str> = uuids.iter().copied().collect();
            bail!(
                "two volume groups are called {name} ({}): leave out the disks of one, or rename it with vgrename",
                uuids.join(", ")
            )
        }
        None => Ok(()),
    }
}

fn report<R: for<'a> Deserialize<'a>>(command: &str, columns: &str) -> Result<Report<R>> {
    let outcome = Tool::new(LVM)
        .args([command, "--reportformat", "json", "-o", columns])
        .run()?;
    if !matches!(outcome.code(), Some(0 | PARTLY_FAILED)) {
        bail!("{}", outcome.complaint());
    }
    serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("reading the report of lvm {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, uuid: &str) -> Group {
        Group {
            vg_name: name.into(),
            vg_uuid: uuid.into(),
            vg_missing_pv_count: "0".into(),
        }
    }

    #[test]
    fn groups_of_one_name_are_refused_by_name() {
        assert!(check_names(&[group("a", "1"), group("b", "2"), group("a", "1")]).is_ok());
        let error = check_names(&[group("vg0", "1"), group("vg0", "2")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("vg0 (1, 2)"), "{error}");
    }

    #[test]
    fn lvs_reports_are_read() {
        let json = r#"{"report":[{"lv":[
            {"vg_name":"vg0","lv_name":"root","lv_attr":"-wi-a-----","lv_kernel_minor":"0"},
            {"vg_name":"vg0","lv_name":"pool","lv_attr":"twi-aotz--","lv_kernel_minor":"5"},
            {"vg_name":"vg0","lv_name":"old","lv_attr":"swi-a-s---","lv_kernel_minor":"-1"}]}],"log":[]}"#;
        let report: Report<Volumes> = serde_json::from_str(json).unwrap();
        let lv = &report.report[0].lv;
        assert_eq!(
            (lv[0].minor(), lv[0].is_pool(), lv[0].is_snapshot()),
            (Some(0), false, false)
        );
        assert!(lv[1].is_pool());
        assert_eq!((lv[2].minor(), lv[2].is_snapshot()), (None, true));
    }
}
