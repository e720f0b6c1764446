//! Agents of clouds: they ask a metadata server that is not there, some of them at every login.

use super::{Family, never, nothing};
use crate::linux::convert::Context;
use crate::linux::steps::leftovers::text::{edit_with_backup, set_aside};
use crate::root::join;
use crate::{Recorder, Result};

pub(super) const AZURE: Family = Family {
    name: "Azure",
    packages: &[
        "walinuxagent*",
        "WALinuxAgent*",
        "waagent",
        "python-azure-agent*",
        "python3-azure-agent*",
        "azure-vm-utils*",
        "app-emulation/wa-linux-agent",
    ],
    services: &["walinuxagent*", "waagent*", "azurelinuxagent"],
    uninstallers: &[],
    undo: azure,
    keep: never,
};

/// Not amazon-ec2-net-utils: Amazon Linux 2023 configures its NICs by a file of that package.
pub(super) const AWS: Family = Family {
    name: "AWS",
    packages: &[
        "ec2-net-utils",
        "ec2-instance-connect*",
        "ec2-hibinit-agent",
        "hibagent",
    ],
    services: &[
        "ec2-instance-connect*",
        "hibinit-agent",
        "hibagent",
        "ec2net-scan",
        "ec2net-ifup",
        "policy-routes",
        "refresh-policy-routes",
        "elastic-network-interfaces",
    ],
    uninstallers: &[],
    undo: aws,
    keep: never,
};

pub(super) const SSM: Family = Family {
    name: "AWS Systems Manager",
    packages: &["amazon-ssm-agent"],
    services: &["amazon-ssm-agent", "snap.amazon-ssm-agent.amazon-ssm-agent"],
    uninstallers: &[],
    undo: nothing,
    keep: is_hybrid,
};

pub(super) const GOOGLE: Family = Family {
    name: "Google Compute Engine",
    packages: &[
        "google-guest-agent",
        "google-osconfig-agent",
        "google-compute-engine*",
        "google-startup-scripts",
        "python-google-compute-engine",
        "python3-google-compute-engine",
        "gce-compute-image-packages",
        "gce-disk-expand",
    ],
    services: &[
        "google-guest-agent*",
        "google-osconfig-agent",
        "google-startup-scripts",
        "google-shutdown-scripts",
        "google-accounts-daemon",
        "google-clock-skew-daemon",
        "google-network-daemon",
        "google-network-setup",
        "google-ip-forwarding-daemon",
        "google-instance-setup",
        "google-oslogin-cache",
        "google-disk-expand",
        "google-compat-manager",
        "gce-disk-expand",
        "gce-workload-cert-refresh",
    ],
    uninstallers: &[],
    undo: google,
    keep: never,
};

pub(super) const DIGITALOCEAN: Family = Family {
    name: "DigitalOcean",
    packages: &["droplet-agent*", "do-agent"],
    services: &["droplet-agent", "do-agent"],
    uninstallers: &[],
    undo: nothing,
    keep: never,
};

pub(super) const OTHERS: Family = Family {
    name: "other clouds",
    packages: &["oracle-cloud-agent*", "scaleway-ecosystem", "hc-utils"],
    services: &[
        "oracle-cloud-agent*",
        "aliyun",
        "aliyun-util",
        "cloudmonitor",
        "aegis",
        "assist_daemon",
        "AssistDaemon",
        "hostguard",
        "tat_agent",
    ],
    uninstallers: &[],
    undo: nothing,
    keep: never,
};

/// Registered for machines outside EC2 ("hybrid activation"), it works here as it did.
fn is_hybrid(context: &Context<'_>) -> bool {
    let key = "/var/lib/amazon/ssm/Vault/Store/RegistrationKey";
    context.root.exists(key)
}

fn azure(context: &mut Context<'_>) -> Result<()> {
    let why = "names disks and NICs of Azure";
    let rules = [
        "66-azure-storage.rules",
        "68-azure-sriov-nm-unmanaged.rules",
        "99-azure-product-uuid.rules",
    ];
    udev(&mut context.recorder, &rules, why)
}

fn aws(context: &mut Context<'_>) -> Result<()> {
    let why = "asks EC2's metadata server for each NIC";
    let rules = [
        "53-ec2-network-interfaces.rules",
        "99-vpc-policy-routes.rules",
    ];
    udev(&mut context.recorder, &rules, why)?;
    let path = "/etc/ssh/sshd_config";
    let text = context.root.text(path).unwrap_or_default();
    if text
        .lines()
        .any(|line| !line.starts_with('#') && line.contains("eic_run_authorized_keys"))
    {
        context.recorder.warn(format!(
            "{path} asks EC2 Instance Connect for keys at each login; take its AuthorizedKeysCommand out if logins are slow"
        ));
    }
    Ok(())
}

/// OS Login: the name service asks the metadata server for every account that is not in /etc/passwd.
fn google(context: &mut Context<'_>) -> Result<()> {
    let why = "asks Google's metadata server for accounts";
    edit_with_backup(&mut context.recorder, "/etc/nsswitch.conf", why, |text| {
        let lines = text.split_inclusive('\n').map(|line| {
            if line.starts_with('#') {
                line.to_owned()
            } else {
                line.replace(" cache_oslogin", "").replace(" oslogin", "")
            }
        });
        Some(lines.collect())
    })?;
    Ok(())
}

/// A rule below /etc is set aside; one of the vendor is masked by a link of its name (udev(7)).
fn udev(recorder: &mut Recorder<'_>, rules: &[&str], why: &str) -> Result<()> {
    let root = recorder.root();
    for rule in rules {
        let own = join("/etc/udev/rules.d", rule);
        let masked = root
            .read_link(&own)
            .is_ok_and(|target| target == "/dev/null");
        if !masked {
            set_aside(recorder, &own, why)?;
        }
        let vendor = ["/lib/udev/rules.d", "/usr/lib/udev/rules.d"];
        if vendor.iter().any(|dir| root.is_file(&join(dir, rule))) {
            recorder.symlink(&own, "/dev/null", why)?;
        }
    }
    Ok(())
}
