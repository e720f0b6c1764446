//! cloud-init told to ask only a cloud that is not there: it would wait for its metadata server for minutes at each
//! boot.
//!
//! A list of one source (or of one and `None`) is believed without a look at the machine (ds-identify); a longer one
//! is tried against the machine first and does no harm. With a source that has no instance id of its own cloud-init
//! takes the guest for a new one, so what it would then do again over what is there is switched off.

use crate::Result;
use crate::linux::convert::Context;
use crate::root::join;

/// Sources that ask a server of their cloud, in cloud-init's spelling ("Datasources" of its documentation).
const CLOUDS: [&str; 17] = [
    "Ec2",
    "Azure",
    "GCE",
    "DigitalOcean",
    "Hetzner",
    "Oracle",
    "AliYun",
    "Vultr",
    "Scaleway",
    "Exoscale",
    "UpCloud",
    "Akamai",
    "SmartOS",
    "CloudSigma",
    "Bigstep",
    "IBMCloud",
    "VMware",
];
const OWN: &str = "/etc/cloud/cloud.cfg.d/99_v2v.cfg";
const WHY: &str = "cloud-init would wait for the metadata server of a cloud that is not there";

/// Lists are those of cloud-init's configuration reference: no accounts, no new host keys, no network and package
/// sources written over those that work.
const TEXT: &str = "\
# Written by v2v: the cloud that this machine came from is not there. What it set up stays as it is.
datasource_list: [ NoCloud, None ]
network: {config: disabled}
preserve_hostname: true
ssh_deletekeys: false
ssh_pwauth: unchanged
users: []
apt: {preserve_sources_list: true}
";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let root = context.root;
    if !root.is_file("/etc/cloud/cloud.cfg") {
        context.recorder.not_needed("cloud-init is not installed");
        return Ok(());
    }
    if root.exists("/etc/cloud/cloud-init.disabled") {
        let reason = "cloud-init is disabled by the administrator";
        context.recorder.not_needed(reason);
        return Ok(());
    }
    let sources = sources(root);
    let mut asked = sources.iter().filter(|name| name.as_str() != "None");
    let pinned = match (asked.next(), asked.next()) {
        (Some(only), None) if CLOUDS.contains(&only.as_str()) => only.clone(),
        _ => {
            let reason = "cloud-init is not told to ask one cloud only";
            context.recorder.not_needed(reason);
            return Ok(());
        }
    };
    if context.recorder.write(OWN, TEXT.as_bytes(), WHY)? {
        context.recorder.warn(format!(
            "cloud-init was told to ask {pinned} only; {OWN} makes it keep what is there: remove that file for cloud-init to set the machine up anew"
        ));
    }
    Ok(())
}

/// `datasource_list` of the last file that has one: cloud.cfg, then cloud.cfg.d in order. Our own file does not count.
fn sources(root: &crate::Root) -> Vec<String> {
    let dir = "/etc/cloud/cloud.cfg.d";
    let mut files = vec!["/etc/cloud/cloud.cfg".to_owned()];
    let names = root.names(dir).into_iter();
    files.extend(
        names
            .filter(|name| name.ends_with(".cfg"))
            .map(|name| join(dir, &name))
            .filter(|path| path != OWN),
    );
    let mut last_first = files.iter().rev();
    let found = last_first.find_map(|path| list(&root.text(path)?));
    found.unwrap_or_default()
}

/// The value in either of YAML's two spellings of a list.
fn list(text: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .rposition(|line| line.starts_with("datasource_list:"))?;
    let tail = lines.get(at..)?;
    let (first, rest) = tail.split_first()?;
    let bare = |line: &str| {
        line.split(" #")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let value = bare(first.split_once(':')?.1);
    let mut flow = value.clone();
    if value.starts_with('[') {
        let mut more = rest.iter();
        while !flow.contains(']')
            && let Some(line) = more.next()
        {
            flow.push_str(&bare(line));
        }
    } else {
        let items = rest
            .iter()
            .map(|line| bare(line))
            .take_while(|line| line.starts_with('-') || line.is_empty());
        flow = items
            .map(|line| line.trim_start_matches('-').to_owned())
            .collect::<Vec<_>>()
            .join(",");
    }
    let flow = flow.replace(['[', ']'], "");
    let names = flow
        .split(',')
        .map(|name| name.trim().trim_matches(['"', '\'']))
        .filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_each_spelling() {
        for text in [
            "datasource_list: [ Ec2, None ]\n",
            "x: 1\ndatasource_list:\n  - Ec2\n  - None\nusers:\n - default\n",
            "datasource_list: ['Ec2', \"None\"] # c\n",
            "datasource_list: [\n  Ec2,\n  None\n]\n",
            "datasource_list:\n- Ec2\n- None\n",
        ] {
            assert_eq!(list(text).unwrap(), ["Ec2", "None"], "{text}");
        }
        assert_eq!(list("# datasource_list: [Ec2]\n"), None);
    }
}
