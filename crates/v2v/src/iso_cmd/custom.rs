//! custom.cfg: the file on a P2V ISO that GRUB reads before it shows its menu, and that is rewritten in place.
//!
//! Text of a fixed size: comment lines from the build (format, size, bytes left for kernel words, the menu's own
//! words), then `set NAME='VALUE'` lines, then blank lines up to the size. GRUB splits `$p2v_kargs` into words and quotes what it
//! finds special in them, so the only characters that are let in mean nothing to GRUB's shell, inside quotes or outside.

use anyhow::{Context, Result, bail, ensure};

/// How the file begins; the number goes up with its layout.
const MAGIC: &str = "# v2v iso custom ";
const VERSION: &str = "1";
/// What the first menu entry gives the kernel.
const BASE: &str = "# base ";
/// The build's file has 16 KiB; a bound on what a foreign one makes us read.
pub(super) const MAX_SIZE: u64 = 1 << 20;
/// Of a blank line, its end included.
const PADDING_LINE: usize = 64;
/// Characters of kernel words beside letters and digits.
const PLAIN: &str = "-_.,:=/+@%~^!()[]#";
/// Longest time that the menu waits, in seconds.
pub(super) const MAX_TIMEOUT: u16 = 3600;

/// What a user can put into the menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Kernel words, one space between two.
    pub(super) kargs: String,
    /// The menu says that nobody will be asked.
    pub(super) auto: bool,
    /// How long the menu waits, in seconds; `None`: the menu's own time.
    pub(super) timeout: Option<u16>,
}

/// The file as read.
#[derive(Debug)]
pub(super) struct Custom {
    /// Comment lines of the build, each with its line end.
    head: String,
    size: usize,
    /// Bytes that kernel words may have.
    kargs_limit: usize,
    /// Kernel words of the menu's first entry.
    pub(super) base: String,
    /// What is set.
    pub(super) settings: Settings,
}

impl Custom {
    /// Reads `bytes`, the whole file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context("custom.cfg is no text")?;
        let first = text.lines().next().unwrap_or_default();
        let fields = first
            .strip_prefix(MAGIC)
            .with_context(|| format!("custom.cfg does not begin with {MAGIC:?}"))?;
        let mut fields = fields.split(' ');
        let version = fields.next().unwrap_or_default();
        ensure!(
            version == VERSION,
            "custom.cfg has layout {version}, this v2v knows {VERSION}: use the v2v of the same release as the ISO"
        );
        let mut number = |name: &str| -> Result<usize> {
            fields
                .next()
                .and_then(|field| field.strip_prefix(name)?.strip_prefix('='))
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("custom.cfg does not name its {name}"))
        };
        let (size, kargs_limit) = (number("size")?, number("kargs")?);
        ensure!(
            size == bytes.len(),
            "custom.cfg has {} bytes and says {size}",
            bytes.len()
        );
        let head: String = text
            .split_inclusive('\n')
            .take_while(|line| line.starts_with('#'))
            .collect();
        let base = head.lines().find_map(|line| line.strip_prefix(BASE));
        Ok(Self {
            size,
            kargs_limit,
            base: base.unwrap_or_default().to_owned(),
            settings: Settings::parse(text.get(head.len()..).unwrap_or_default())?,
            head,
        })
    }

    /// The file with `settings` instead of its own, of the same size.
    pub(super) fn with(&self, settings: &Settings) -> Result<Vec<u8>> {
        check_words(&settings.kargs)?;
        ensure!(
            settings.kargs.len() <= self.kargs_limit,
            "the kernel words have {} bytes, the kernel's command line has room for {}",
            settings.kargs.len(),
            self.kargs_limit
        );
        let mut text = self.head.clone();
        text.push_str(&format!("set p2v_kargs='{}'\n", settings.kargs));
        if settings.auto {
            text.push_str("set p2v_auto='1'\n");
        }
        if let Some(timeout) = settings.timeout {
            text.push_str(&format!("set p2v_timeout='{timeout}'\n"));
        }
        ensure!(text.len() <= self.size, "custom.cfg is full");
        while text.len() < self.size {
            let line = PADDING_LINE.min(self.size - text.len());
            text.push_str(&" ".repeat(line - 1));
            text.push('\n');
        }
        Ok(text.into_bytes())
    }
}

impl Settings {
    fn parse(text: &str) -> Result<Self> {
        let mut settings = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let value = |name: &str| -> Option<&str> {
                let value = line.strip_prefix("set ")?.strip_prefix(name)?;
                value.strip_prefix("='")?.strip_suffix('\'')
            };
            if let Some(kargs) = value("p2v_kargs") {
                check_words(kargs)?;
                kargs.clone_into(&mut settings.kargs);
            } else if let Some(auto) = value("p2v_auto") {
                settings.auto = auto == "1";
            } else if let Some(timeout) = value("p2v_timeout") {
                settings.timeout = Some(timeout.parse().context("p2v_timeout is no number")?);
            } else {
                bail!("custom.cfg has a line that v2v did not write: {line:?}");
            }
        }
        Ok(settings)
    }
}

/// Refuses what GRUB would take for its own.
pub(super) fn check_words(words: &str) -> Result<()> {
    let odd = words
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !PLAIN.contains(*c) && *c != ' ');
    match odd {
        Some(odd) => bail!(
            "the character {odd:?} cannot stand in kernel words on the ISO: GRUB would change it \
             (allowed: letters, digits, spaces between words, {PLAIN})"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Vec<u8> {
        let template = include_str!("../../../../iso/custom.cfg");
        let head = template
            .replace("@KARGS@", "1800")
            .replace("@BASE@", "quiet console=tty0");
        let mut bytes = head.into_bytes();
        bytes.resize(16384, b'\n');
        bytes
    }

    #[test]
    fn what_the_build_writes_is_rewritten_in_its_size_and_read_again() {
        let custom = Custom::parse(&built()).unwrap();
        assert_eq!(custom.settings, Settings::default());
        assert_eq!(custom.base, "quiet console=tty0");
        let settings = Settings {
            kargs: "p2v.join=v2v1.Ab-_ p2v.server=[2001:db8::7]:7440 ip=::eth0".into(),
            auto: true,
            timeout: Some(0),
        };
        let bytes = custom.with(&settings).unwrap();
        assert_eq!(bytes.len(), 16384);
        let again = Custom::parse(&bytes).unwrap();
        assert_eq!(again.settings, settings);
        // Nothing of the first remains.
        let plain = again.with(&Settings::default()).unwrap();
        assert_eq!(Custom::parse(&plain).unwrap().settings, Settings::default());
        assert!(!String::from_utf8(plain).unwrap().contains("v2v1"));
    }

    #[test]
    fn what_grub_would_interpret_is_refused() {
        let custom = Custom::parse(&built()).unwrap();
        for bad in [
            "a'b",
            "a\"b",
            "a\\b",
            "$x",
            "a\nset x=1",
            "a*",
            "b?",
            "a;b",
            "a|b",
            "a&b",
            "{a}",
            "<a",
            "é",
            "`a`",
        ] {
            let kargs = bad.to_owned();
            let settings = Settings {
                kargs,
                ..Settings::default()
            };
            let error = custom.with(&settings).unwrap_err().to_string();
            assert!(error.contains("GRUB"), "{bad}: {error}");
        }
    }

    #[test]
    fn words_that_the_kernel_would_cut_off_are_refused() {
        let custom = Custom::parse(&built()).unwrap();
        let with = |len: usize| {
            custom.with(&Settings {
                kargs: "x".repeat(len),
                ..Settings::default()
            })
        };
        assert!(with(1800).is_ok());
        let error = with(1801).unwrap_err().to_string();
        assert!(error.contains("1801") && error.contains("1800"), "{error}");
    }

    #[test]
    fn another_layout_and_foreign_lines_are_refused() {
        let text = String::from_utf8(built()).unwrap();
        let error = |text: String| Custom::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error(text.replace("custom 1 ", "custom 2 ")).contains("layout 2"));
        assert!(error(text.replace("size=16384", "size=16385")).contains("16385"));
        assert!(error(text.replace("size=", "sise=")).contains("size"));
        assert!(error("menuentry x {}".into()).contains("begin"));
        let mut foreign = text.replacen("\n\n", "\ninsmod x\n", 1);
        foreign.truncate(text.len());
        assert!(error(foreign).contains("insmod"));
    }
}
