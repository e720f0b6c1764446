//! Asks everything that can be refused beforehand: is there an appliance, is the target's name free, its pool active,
//! its networks there, is there room for preallocation.

use appliance::{Accel, ApplianceImage};
use source::Opened;
use target::{DomainType, Plan, Target, TargetKind, TargetOptions};
use types::CancelToken;

use crate::{Conversion, Events, Result, Stage};

/// What was found out about this host.
pub(crate) struct Host {
    pub(crate) image: ApplianceImage,
    pub(crate) accel: Accel,
}

pub(crate) fn run(
    job: &Conversion,
    opened: &Opened,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<(Box<dyn Target>, Host)> {
    let name = job.name.as_ref().unwrap_or(&opened.machine.name);
    events.stage(
        Stage::Check,
        &format!("checking {} for {name}", job.target.kind),
    );
    let image = appliance::find_image()?;
    let accel = appliance::settle_accel(&image, cancel, &|line| events.note(line))?;
    let mut target = target::prepare(TargetOptions {
        name: name.clone(),
        domain_type: domain_type(&job.target.kind, accel),
        ..job.target.clone()
    })?;
    // What a sparse copy needs is known only after the trim; the copy stage asks again then.
    target.check(&Plan {
        machine: &opened.machine,
        caps: None,
        estimated_bytes: vec![0; opened.disks.len()],
    })?;
    Ok((target, Host { image, accel }))
}

/// The domain runs where it is defined; of another host nothing is known here, and KVM is what it is for.
fn domain_type(kind: &TargetKind, accel: Accel) -> DomainType {
    let remote = match kind {
        TargetKind::Libvirt { uri: Some(uri), .. } => uri
            .split_once("://")
            .is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/')),
        _ => false,
    };
    if remote || accel == Accel::Kvm {
        DomainType::Kvm
    } else {
        DomainType::Qemu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_libvirt_gets_a_kvm_domain_whatever_this_host_can() {
        let kind = |uri: &str| TargetKind::Libvirt {
            pool_or_dir: None,
            uri: Some(uri.to_owned()),
        };
        assert_eq!(
            domain_type(&kind("qemu+ssh://root@host/system"), Accel::Tcg),
            DomainType::Kvm
        );
        assert_eq!(
            domain_type(&kind("qemu:///system"), Accel::Tcg),
            DomainType::Qemu
        );
        assert_eq!(
            domain_type(&kind("qemu:///system"), Accel::Kvm),
            DomainType::Kvm
        );
        assert_eq!(domain_type(&TargetKind::Null, Accel::Tcg), DomainType::Qemu);
    }
}
