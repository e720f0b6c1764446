//! LVM: all logical volumes of all volume groups. What LVM may do here is in appliance/lvm.conf.
//!
//! Two groups of one name cannot be active together, for device mapper's names are made of theirs. Nothing reads those
//! names here: so a group that is active is renamed in device mapper alone, and makes place for its namesake. No
//! metadata of LVM are written. The first of the namesakes, in the order of disks, keeps its name in the storage map;
//! another is called `NAME@` and the first six characters of its UUID.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use types::DeviceKind;

use super::{Storage, blkid, block_device, dm};
use crate::tool::Tool;

const LVM: &str = "/usr/sbin/lvm";
/// lvm(8): a command of which a part failed.
const PARTLY_FAILED: i32 = 5;
/// Content of a physical volume.
pub(super) const MEMBER: &str = "LVM2_member";
/// Characters of a group's UUID that tell it from its namesakes: up to the first dash.
const SHORT_UUID: usize = 6;

#[derive(Debug, Deserialize)]
struct Report<R> {
    report: Vec<R>,
}

#[derive(Debug, Deserialize)]
struct Groups {
    pv: Vec<Member>,
}

/// A physical volume and its group.
#[derive(Debug, Deserialize)]
struct Member {
    pv_name: String,
    vg_name: String,
    vg_uuid: String,
    vg_missing_pv_count: String,
    vg_systemid: String,
}

#[derive(Debug, Deserialize)]
struct Volumes {
    lv: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
struct Volume {
    lv_name: String,
    /// lvs(8), "lv_attr bits": the first is the volume's type.
    lv_attr: String,
    /// -1 unless it is active.
    lv_kernel_minor: String,
    /// What it was a snapshot of when it was made.
    origin: String,
}

impl Volume {
    /// `s`/`S`: a snapshot that stores old blocks of another volume; `V` with an origin: a thin one.
    fn is_snapshot(&self) -> bool {
        self.lv_attr.starts_with(['s', 'S'])
            || (self.lv_attr.starts_with('V') && !self.origin.is_empty())
    }

    /// Thin pools, cache pools and their kin hold no file system themselves.
    fn is_pool(&self) -> bool {
        self.lv_attr.starts_with(['t', 'T', 'e', 'd', 'D'])
    }

    /// Activated only on demand (attribute 10, `k`): snapshots of thin volumes, as a rule.
    fn is_skipped(&self) -> bool {
        self.lv_attr.chars().nth(9) == Some('k')
    }

    fn minor(&self) -> Option<u32> {
        self.lv_kernel_minor.parse().ok()
    }
}

/// A volume group.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    name: String,
    uuid: String,
    /// Nodes of its physical volumes.
    nodes: Vec<String>,
    missing: u64,
}

/// What every command needs: the nodes that LVM may see, and the hosts whose groups are ours.
#[derive(Debug)]
struct View {
    nodes: Vec<String>,
    systems: BTreeSet<String>,
}

impl View {
    fn tool(&self, command: &str) -> Tool {
        let mut tool = Tool::new(LVM).arg(command);
        if !self.nodes.is_empty() {
            tool = tool.args(["--devices", &self.nodes.join(",")]);
        }
        if self.systems.is_empty() {
            return tool;
        }
        let systems: Vec<String> = self.systems.iter().map(|id| format!("\"{id}\"")).collect();
        tool.arg("--config")
            .arg(format!("local/extra_system_ids=[{}]", systems.join(",")))
    }

    fn report<R: for<'a> Deserialize<'a>>(&self, command: &str, arguments: &[&str]) -> Result<R> {
        let outcome = self
            .tool(command)
            .args(["--reportformat", "json", "-o"])
            .args(arguments)
            .run()?;
        if !matches!(outcome.code(), Some(0 | PARTLY_FAILED)) {
            bail!("{}", outcome.complaint());
        }
        let report: Report<R> = serde_json::from_str(&outcome.stdout)
            .with_context(|| format!("reading the report of lvm {command}"))?;
        let mut reports = report.report.into_iter();
        reports
            .next()
            .with_context(|| format!("the report of lvm {command} is empty"))
    }
}

/// Activates every volume and adds those that are new.
pub(super) fn activate(storage: &mut Storage) -> Result<()> {
    let mut view = View {
        nodes: physical_volumes(storage)?,
        systems: BTreeSet::new(),
    };
    let columns = "pv_name,vg_name,vg_uuid,vg_missing_pv_count,vg_systemid";
    let mut members = view.report::<Groups>("pvs", &[columns, "--foreign"])?.pv;
    for member in &mut members {
        // LVM calls a volume of device mapper by its name there.
        if let Some(node) = view
            .nodes
            .iter()
            .find(|node| is_same(node, &member.pv_name))
        {
            member.pv_name.clone_from(node);
        }
    }
    view.systems = members
        .iter()
        .map(|member| member.vg_systemid.clone())
        .filter(|id| !id.is_empty() && !id.contains(['"', '\\']))
        .collect();
    let groups = groups(&members, &view.nodes);
    let names = shown_names(&groups);
    for (group, name) in groups.iter().zip(&names) {
        if *name != group.name {
            storage.warn(
                format!(
                    "two volume groups are called {}; the one with the UUID {} is shown as {name} here, and keeps its name \
                     on its disks",
                    group.name, group.uuid
                ),
                Some(format!("rename one in the guest: vgrename {} NEWNAME", group.uuid)),
            );
        }
        let namesakes = groups
            .iter()
            .any(|other| other.name == group.name && other.uuid != group.uuid);
        if namesakes {
            make_place(&group.name, &group.uuid)?;
        }
        let own = View {
            nodes: group.nodes.clone(),
            systems: view.systems.clone(),
        };
        switch_on(&own, group)?;
        add(storage, &own, group, name)?;
    }
    Ok(())
}

/// True for two names of one block device.
fn is_same(one: &str, other: &str) -> bool {
    let number = |path: &str| fs::metadata(path).map(|meta| meta.rdev());
    one == other || number(one).is_ok_and(|found| number(other).is_ok_and(|other| other == found))
}

fn switch_on(view: &View, group: &Group) -> Result<()> {
    let outcome = view
        .tool("vgchange")
        .args(["--activate", "y", "--sysinit"])
        .run()?;
    match outcome.code() {
        Some(0) => Ok(()),
        // The volumes that it concerns are named when they are missed.
        Some(PARTLY_FAILED) if group.missing > 0 => Ok(()),
        Some(PARTLY_FAILED) => {
            tracing::warn!("{}", outcome.complaint());
            Ok(())
        }
        _ => bail!("{}", outcome.complaint()),
    }
}

fn add(storage: &mut Storage, view: &View, group: &Group, shown: &str) -> Result<()> {
    let columns = "lv_name,lv_attr,lv_kernel_minor,origin";
    let volumes = view.report::<Volumes>("lvs", &[columns])?.lv;
    let (mut fresh, mut dead) = (Vec::new(), Vec::new());
    for volume in volumes {
        match volume.minor() {
            Some(_) if volume.is_pool() => {}
            Some(minor) if storage.knows(&PathBuf::from(format!("/dev/dm-{minor}"))) => {}
            Some(minor) => fresh.push((format!("dm-{minor}"), volume)),
            None if volume.is_skipped() || volume.is_pool() => {}
            None => dead.push(volume.lv_name),
        }
    }
    if group.missing > 0 {
        let lost = if dead.is_empty() {
            "all of its volumes can be used".to_owned()
        } else {
            format!(
                "without them these volumes can't be used: {}",
                dead.join(", ")
            )
        };
        storage.warn(
            format!(
                "volume group {shown} lacks {} of its disks; {lost}",
                group.missing
            ),
            Some("convert all disks of the group together".to_owned()),
        );
    } else if !dead.is_empty() {
        storage.warn(
            format!(
                "these volumes of {shown} could not be activated: {}",
                dead.join(", ")
            ),
            None,
        );
    }
    let mut probes = blkid::probe(fresh.iter().map(|(kname, _)| kname.as_str()))?;
    for (kname, volume) in fresh {
        let name = format!("/dev/{shown}/{}", volume.lv_name);
        if volume.is_snapshot() {
            storage.hide(&name);
        }
        let kind = DeviceKind::Lv {
            vg: group.name.clone(),
            lv: volume.lv_name,
        };
        let probe = probes.remove(&kname).unwrap_or_default();
        let device = block_device(name, kind, &kname, probe)?;
        storage.add(PathBuf::from("/dev").join(&kname), device);
    }
    Ok(())
}

/// Nodes of the physical volumes, in the order of the map. A copy of one cannot be used beside it: LVM tells them apart
/// by their UUID only.
fn physical_volumes(storage: &mut Storage) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let (mut nodes, mut copies) = (Vec::new(), Vec::new());
    for device in storage
        .map()
        .devices
        .iter()
        .filter(|device| device.content == MEMBER)
    {
        let uuid = device.uuid.clone().unwrap_or_default();
        match seen.get(&uuid).filter(|_| !uuid.is_empty()) {
            Some(first) => copies.push((device.name.clone(), first.clone())),
            None => {
                seen.insert(uuid, device.name.clone());
                nodes.push(storage.node(&device.name)?.display().to_string());
            }
        }
    }
    for (copy, first) in copies {
        storage.warn(
            format!("the physical volume {copy} is a copy of {first} (same UUID); only {first} is looked into"),
            Some("convert the copy by itself".to_owned()),
        );
    }
    Ok(nodes)
}

/// Groups in the order in which their disks come.
fn groups(members: &[Member], nodes: &[String]) -> Vec<Group> {
    let mut found: Vec<Group> = Vec::new();
    let place = |member: &&Member| nodes.iter().position(|node| *node == member.pv_name);
    let mut members: Vec<&Member> = members
        .iter()
        .filter(|member| !member.vg_uuid.is_empty() && place(member).is_some())
        .collect();
    members.sort_by_key(place);
    for member in members {
        match found.iter_mut().find(|group| group.uuid == member.vg_uuid) {
            Some(group) => group.nodes.push(member.pv_name.clone()),
            None => found.push(Group {
                name: member.vg_name.clone(),
                uuid: member.vg_uuid.clone(),
                nodes: vec![member.pv_name.clone()],
                missing: member.vg_missing_pv_count.parse().unwrap_or(0),
            }),
        }
    }
    found
}

/// What each group is called in the storage map.
fn shown_names(groups: &[Group]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let names = groups.iter().map(|group| {
        let short: String = group.uuid.chars().take(SHORT_UUID).collect();
        let choices = [
            group.name.clone(),
            format!("{}@{short}", group.name),
            format!("{}@{}", group.name, group.uuid),
        ];
        let free = choices.iter().find(|name| !taken.contains(*name));
        let name = free.unwrap_or(&group.name).clone();
        taken.insert(name.clone());
        name
    });
    names.collect()
}

/// Renames in device mapper what is active and called as the group `name`, unless it is the group `uuid` itself.
fn make_place(name: &str, uuid: &str) -> Result<()> {
    let (prefix, own) = (format!("{}-", name.replace('-', "--")), dm_uuid(uuid));
    for device in dm::devices()? {
        // A dash of a name is doubled there: a single one ends it.
        let called = device
            .name
            .strip_prefix(&prefix)
            .is_some_and(|rest| !rest.starts_with('-'));
        if called && device.uuid.starts_with("LVM-") && !device.uuid.starts_with(&own) {
            dm::rename(&device.name, &format!("namesake-{}", device.kname))?;
        }
    }
    Ok(())
}

/// lvm2, lib/activate/dev_manager.c: `LVM-`, the UUIDs of group and volume without dashes, and what layer it is.
fn dm_uuid(group: &str) -> String {
    format!("LVM-{}", group.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pv: &str, vg: &str, uuid: &str) -> Member {
        Member {
            pv_name: pv.into(),
            vg_name: vg.into(),
            vg_uuid: uuid.into(),
            vg_missing_pv_count: "0".into(),
            vg_systemid: String::new(),
        }
    }

    #[test]
    fn namesakes_are_told_apart_and_the_first_disk_keeps_the_name() {
        let nodes = ["/dev/vda2", "/dev/vdb1", "/dev/vdc1", "/dev/vdd"].map(str::to_owned);
        let members = [
            member("/dev/vdd", "vg0", "XXXXXX-9999"),
            member("/dev/vdb1", "vg0", "bbbbbb-1111"),
            member("/dev/vdc1", "data", "cccccc-2222"),
            member("/dev/vda2", "vg0", "aaaaaa-3333"),
            member("[unknown]", "vg0", "aaaaaa-3333"),
            member("/dev/vdd", "", ""),
        ];
        let groups = groups(&members, &nodes);
        assert_eq!(
            shown_names(&groups),
            ["vg0", "vg0@bbbbbb", "data", "vg0@XXXXXX"]
        );
        assert_eq!(groups[0].nodes, ["/dev/vda2"]);
    }

    #[test]
    fn lvs_reports_are_read() {
        let json = r#"{"report":[{"lv":[
            {"lv_name":"root","lv_attr":"-wi-a-----","lv_kernel_minor":"0","origin":""},
            {"lv_name":"pool","lv_attr":"twi-aotz--","lv_kernel_minor":"5","origin":""},
            {"lv_name":"old","lv_attr":"swi-a-s---","lv_kernel_minor":"-1","origin":"root"},
            {"lv_name":"thin","lv_attr":"Vwi-a-tz--","lv_kernel_minor":"7","origin":""},
            {"lv_name":"before","lv_attr":"Vwi---tz-k","lv_kernel_minor":"-1","origin":"thin"}]}],"log":[]}"#;
        let report: Report<Volumes> = serde_json::from_str(json).unwrap();
        let lv = &report.report[0].lv;
        assert_eq!(
            (lv[0].minor(), lv[0].is_pool(), lv[0].is_snapshot()),
            (Some(0), false, false)
        );
        assert!(lv[1].is_pool());
        assert_eq!((lv[2].minor(), lv[2].is_snapshot()), (None, true));
        assert_eq!((lv[3].is_pool(), lv[3].is_snapshot()), (false, false));
        assert!(lv[4].is_snapshot() && lv[4].is_skipped() && !lv[3].is_skipped());
    }
}
