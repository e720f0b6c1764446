//! Programs that stand in the way.

use super::{Found, Look};
use crate::words::list;

/// Drivers and services of antivirus programs.
const ANTIVIRUS: &[(&str, &str)] = &[
    ("SepMasterService", "Symantec Endpoint Protection"),
    ("SymEFASI", "Symantec"),
    ("NortonSecurity", "Norton"),
    ("mfehidk", "McAfee"),
    ("mfefire", "McAfee"),
    ("McShield", "McAfee"),
    ("masvc", "McAfee"),
    ("aswSP", "Avast"),
    ("avgSP", "AVG"),
    ("avgntflt", "Avira"),
    ("klif", "Kaspersky"),
    ("AVP", "Kaspersky"),
    ("ehdrv", "ESET"),
    ("ekrn", "ESET"),
    ("eamonm", "ESET"),
    ("TmPreFilter", "Trend Micro"),
    ("tmcomm", "Trend Micro"),
    ("ds_agent", "Trend Micro Deep Security"),
    ("SAVService", "Sophos"),
    ("Sophos Endpoint Defense", "Sophos"),
    ("SophosED", "Sophos"),
    ("trufos", "Bitdefender"),
    ("bdservicehost", "Bitdefender"),
    ("EPSecurityService", "Bitdefender"),
    ("CSAgent", "CrowdStrike Falcon"),
    ("SentinelMonitor", "SentinelOne"),
    ("SentinelAgent", "SentinelOne"),
    ("CbDefense", "Carbon Black"),
    ("CarbonBlack", "Carbon Black"),
    ("carbonblackk", "Carbon Black"),
    ("cyverak", "Cortex XDR"),
    ("CyProtectDrv", "Cylance"),
    ("CylanceSvc", "Cylance"),
    ("MBAMService", "Malwarebytes"),
    ("fshoster", "F-Secure"),
    ("F-Secure Gatekeeper", "F-Secure"),
    ("PSINKNC", "Panda"),
    ("NanoServiceMain", "Panda"),
    ("GDFwSvc", "G DATA"),
    ("AVKProxy", "G DATA"),
    ("DrWebEngine", "Dr.Web"),
    ("dwprot", "Dr.Web"),
    ("WRSVC", "Webroot"),
    ("cmdguard", "Comodo"),
    ("xagt", "Trellix"),
    ("TaniumClient", "Tanium"),
];

/// Antivirus programs other than Windows' own.
pub(super) fn antivirus(look: &Look<'_>, found: &mut Found) {
    let names = look.started(ANTIVIRUS);
    if !names.is_empty() {
        found.warning(
            format!(
                "an antivirus program is installed ({}); it may stop drivers or the program that runs at the first start",
                list(&names)
            ),
            "switch its protection of drivers and services off before the conversion, or see to it that a password for it is at hand",
        );
    }
}

/// Failover clustering.
pub(super) fn cluster(look: &Look<'_>, found: &mut Found) {
    if look.starts("ClusSvc") {
        found.warning(
            "it is a node of a failover cluster: disks that it shares with other nodes are not part of the new machine",
            "take it out of the cluster before the conversion, or connect its shared disks to the new machine by iSCSI",
        );
    }
}
