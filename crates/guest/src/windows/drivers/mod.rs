//! virtio-win: the drivers at hand, and which of them suit this Windows.

#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod inf;

use crate::Result;
use crate::windows::convert::Context;
use inf::Inf;

/// Below this name the payload has the driver tree of the host.
pub(crate) const MEMBER: &str = "virtio-win";

/// What a driver is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// viostor: virtio-blk.
    Block,
    /// vioscsi: virtio-scsi.
    Scsi,
    /// netkvm.
    Net,
    /// vioser: virtio-serial.
    Serial,
    /// balloon.
    Balloon,
    /// viorng.
    Rng,
    /// vioinput.
    Input,
    /// viogpudo, qxldod, qxl.
    Display,
    /// pvpanic.
    Panic,
    /// fwcfg.
    FwCfg,
    /// viofs.
    Fs,
}

/// A driver package that suits this guest.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// What it is for.
    pub(crate) role: Role,
    /// Name of its .inf file, lower case: `viostor.inf`.
    pub(crate) inf_name: String,
    /// Its parsed .inf.
    pub(crate) inf: Inf,
    /// SHA-256 of the .inf, hexadecimal.
    pub(crate) inf_sha256: String,
    /// Members of the payload that belong to it, the .inf first.
    pub(crate) members: Vec<String>,
    /// The .inf says that it is for this very version; else it is the nearest older one.
    pub(crate) exact: bool,
}

impl Package {
    /// The member of this file name, whatever its case.
    pub(crate) fn member(&self, file: &str) -> Option<&str> {
        let same = |member: &&String| {
            let name = member.rsplit('/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(file)
        };
        self.members.iter().find(same).map(String::as_str)
    }
}

/// The chosen drivers, at most one for each role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// By role.
    pub(crate) packages: Vec<Package>,
    /// What the administrator should know of the choice.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// The one for this.
    pub(crate) fn role(&self, role: Role) -> Option<&Package> {
        self.packages.iter().find(|package| package.role == role)
    }
}

/// Chooses from the payload.
pub(crate) fn plan(context: &Context<'_>) -> Result<Plan> {
    let _ = context;
    Ok(Plan::default())
}
