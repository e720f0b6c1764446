//! Scripts that the guest runs once, at its first boot, and the files that they use.
//!
//! They are batch files (an execution policy cannot forbid them), run in order by a service of ours
//! (appliance/windows/scripts.c), whose names for them are `PNN-name.bat`: phase, number, what it is.

/// Scripts that one phase can have.
const PHASE_MAX: usize = 100;
/// What a customer's script may take, in seconds; the service's own limit is half an hour.
const CUSTOMER_SECONDS: u32 = 7200;
/// Longest name of a script, in bytes.
const NAME_MAX: usize = 64;
/// By which a script says how long it may take, in its first lines.
const TIMEOUT: &str = "rem v2v-timeout ";

/// What the steps want run at the first boot.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    scripts: Vec<Script>,
    files: Vec<(String, Vec<u8>)>,
}

/// When a script runs: all of one phase before the next, each phase in the order of adding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Drivers are installed.
    Drivers,
    /// Adapters get their addresses back.
    Network,
    /// What the old hypervisor left is removed.
    Leftovers,
    /// The guest agent is installed.
    Agent,
    /// `--firstboot`, `--firstboot-command`.
    Customer,
}

impl Phase {
    /// First digit of the names of its scripts.
    fn digit(self) -> u8 {
        match self {
            Self::Drivers => 1,
            Self::Network => 2,
            Self::Leftovers => 3,
            Self::Agent => 4,
            Self::Customer => 5,
        }
    }
}

/// One of them, a batch file for cmd.exe.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// When.
    pub(crate) phase: Phase,
    /// Lower-case words with dashes, for the log and the file name.
    pub(crate) name: String,
    /// Lines of a batch file, without `@echo off`.
    pub(crate) body: String,
    /// A machine that is reset in the middle runs it again; any other script runs once at most.
    pub(crate) repeatable: bool,
}

/// A script as the guest gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BatchFile {
    /// Name of the file.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) content: Vec<u8>,
    /// They are not all ASCII.
    pub(crate) foreign: bool,
}

impl Scripts {
    /// One more. It ends with 0 for success, with 3010 where a reboot is wanted after its phase.
    pub(crate) fn add(&mut self, phase: Phase, name: &str, body: impl Into<String>) {
        self.push(phase, name, body.into(), false);
    }

    /// One more that may be run again after a reset.
    pub(crate) fn add_repeatable(&mut self, phase: Phase, name: &str, body: impl Into<String>) {
        self.push(phase, name, body.into(), true);
    }

    /// A file for the scripts: `%V2V_DIR%\NAME`.
    pub(crate) fn file(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.files.push((name.to_owned(), content.into()));
    }

    /// Those files.
    pub(crate) fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// In the order in which they run.
    pub(crate) fn in_order(&self) -> Vec<&Script> {
        let mut scripts: Vec<&Script> = self.scripts.iter().collect();
        scripts.sort_by_key(|script| script.phase);
        scripts
    }

    /// True when there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// As they are written, in order. `utf8`: cmd.exe of this Windows reads UTF-8 (Vista and later). The second part
    /// names the scripts for which there was no number left.
    pub(crate) fn batch_files(&self, utf8: bool) -> (Vec<BatchFile>, Vec<&str>) {
        let mut written: Vec<BatchFile> = Vec::new();
        let mut left_out = Vec::new();
        let mut numbers = [0usize; 10];
        for script in self.in_order() {
            let digit = script.phase.digit();
            let Some(number) = numbers.get_mut(usize::from(digit)) else {
                continue;
            };
            if *number >= PHASE_MAX {
                left_out.push(script.name.as_str());
                continue;
            }
            written.push(script.batch_file(digit, *number, utf8));
            *number += 1;
        }
        (written, left_out)
    }

    fn push(&mut self, phase: Phase, name: &str, body: String, repeatable: bool) {
        self.scripts.push(Script {
            phase,
            name: name.to_owned(),
            body,
            repeatable,
        });
    }
}

impl Script {
    fn batch_file(&self, digit: u8, number: usize, utf8: bool) -> BatchFile {
        let mut lines = vec!["@echo off".to_owned()];
        let foreign = !self.body.is_ascii();
        if foreign && utf8 {
            // cmd.exe reads a batch file line by line in the console's code page; XP's stops at this one.
            lines.push("chcp 65001 >nul".to_owned());
        }
        let body = self.body.replace("\r\n", "\n");
        if self.phase == Phase::Customer && !body.contains(TIMEOUT) {
            lines.push(format!("{TIMEOUT}{CUSTOMER_SECONDS}"));
        }
        lines.extend(body.trim_end_matches('\n').split('\n').map(str::to_owned));
        let again = if self.repeatable { ".again" } else { "" };
        BatchFile {
            name: format!("{digit}{number:02}-{}{again}.bat", plain(&self.name)),
            content: (lines.join("\r\n") + "\r\n").into_bytes(),
            foreign,
        }
    }
}

/// A name that is a file's name everywhere.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(plain).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scripts: &Scripts) -> Vec<String> {
        let (files, _) = scripts.batch_files(true);
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn names_sort_as_the_scripts_run() {
        let mut scripts = Scripts::default();
        scripts.add(Phase::Customer, "Say \"hello\" & more", "echo hello\n");
        scripts.add(Phase::Drivers, "drivers", "pnputil");
        scripts.add_repeatable(Phase::Network, "addresses", "netsh");
        scripts.add(Phase::Drivers, "more-drivers", "pnputil");
        let expected = [
            "100-drivers.bat",
            "101-more-drivers.bat",
            "200-addresses.again.bat",
            "500-say--hello----more.bat",
        ];
        assert_eq!(names(&scripts), expected);
        let mut sorted = names(&scripts);
        sorted.sort();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn lines_end_as_cmd_wants_them_and_customers_have_time() {
        let mut scripts = Scripts::default();
        scripts.add(Phase::Agent, "a", "one\r\ntwo\nthree\n");
        scripts.add(Phase::Customer, "b", "echo Grüße");
        scripts.add(Phase::Customer, "c", "rem v2v-timeout 5\nexit");
        let (files, left_out) = scripts.batch_files(true);
        let text = |index: usize| std::str::from_utf8(&files[index].content).unwrap();
        assert_eq!(text(0), "@echo off\r\none\r\ntwo\r\nthree\r\n");
        assert_eq!(
            text(1),
            "@echo off\r\nchcp 65001 >nul\r\nrem v2v-timeout 7200\r\necho Grüße\r\n"
        );
        assert_eq!(text(2), "@echo off\r\nrem v2v-timeout 5\r\nexit\r\n");
        assert!(files[1].foreign && !files[0].foreign && left_out.is_empty());
        let (files, _) = scripts.batch_files(false);
        assert!(!String::from_utf8_lossy(&files[1].content).contains("chcp"));
    }

    #[test]
    fn a_phase_has_a_hundred_scripts() {
        let mut scripts = Scripts::default();
        for _ in 0..101 {
            scripts.add(Phase::Leftovers, "x", "");
        }
        let (files, left_out) = scripts.batch_files(true);
        assert_eq!((files.len(), left_out), (100, vec!["x"]));
        assert_eq!(files[99].name, "399-x.bat");
    }
}
