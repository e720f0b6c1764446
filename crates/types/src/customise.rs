//! What is to be changed in a guest besides what KVM needs: virt-customize's options (virt-customize(1)).

use serde::{Deserialize, Serialize};

/// One change that was asked for, in the order of the command line.
///
/// Contents of the host's files travel beside this, as a tar archive (the payload); `payload` names a member of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Customise {
    /// `--root-password SELECTOR`, `--password USER:SELECTOR`.
    Password {
        /// Account; it must exist.
        user: String,
        /// Its new password.
        password: Password,
    },
    /// `--ssh-inject USER[:SELECTOR]`.
    SshInject {
        /// Account; it must exist.
        user: String,
        /// A line of authorized_keys (sshd(8)).
        key: String,
    },
    /// `--hostname NAME`.
    Hostname {
        /// The new name.
        name: String,
    },
    /// `--timezone AREA/CITY`.
    Timezone {
        /// Name in the tz database.
        zone: String,
    },
    /// `--upload FILE:DEST`.
    Upload {
        /// Member of the payload.
        payload: String,
        /// Path in the guest; of a directory, or of the new file.
        to: String,
    },
    /// `--copy-in PATH:DIR`.
    CopyIn {
        /// Member of the payload, with everything below it.
        payload: String,
        /// Directory in the guest.
        to: String,
    },
    /// `--write FILE:CONTENT`.
    Write {
        /// Path in the guest.
        path: String,
        /// The whole content.
        content: String,
    },
    /// `--append-line FILE:LINE`.
    AppendLine {
        /// Path in the guest.
        path: String,
        /// The line without its end.
        line: String,
    },
    /// `--edit FILE:EXPR`.
    Edit {
        /// Path in the guest.
        path: String,
        /// A Perl substitution, `s/REGEX/REPLACEMENT/FLAGS`.
        expression: String,
    },
    /// `--delete PATH`.
    Delete {
        /// Path in the guest, perhaps with wildcards.
        path: String,
    },
    /// `--mkdir DIR`.
    Mkdir {
        /// Path in the guest.
        path: String,
    },
    /// `--chmod PERMISSIONS:FILE`.
    Chmod {
        /// Permission bits.
        mode: u32,
        /// Path in the guest.
        path: String,
    },
    /// `--touch FILE`.
    Touch {
        /// Path in the guest.
        path: String,
    },
    /// `--link TARGET:LINK[:LINK...]`.
    Link {
        /// Text of the link.
        target: String,
        /// Path of the link in the guest.
        link: String,
    },
    /// `--firstboot SCRIPT`, `--firstboot-command CMD`.
    Firstboot {
        /// Name for the log.
        name: String,
        /// The script.
        script: String,
    },
    /// `--run SCRIPT`, `--run-command CMD`: runs the guest's own programs, only with `--allow-guest-code`.
    Run {
        /// Name for the log.
        name: String,
        /// The script.
        script: String,
    },
}

/// A new password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Password {
    /// In clear; what goes into the guest is its hash.
    Clear(String),
    /// A hash as crypt(5) writes it.
    Hashed(String),
    /// The account has none; logging in with a password is not possible.
    Disabled,
    /// The account is locked; its present password stays for later.
    Locked,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Clear(..)",
            Self::Hashed(_) => "Hashed(..)",
            Self::Disabled => "Disabled",
            Self::Locked => "Locked",
        })
    }
}
