//! GRUB 2's environment block: `name=value` lines in a file of exactly 1024 bytes, padded with `#`
//! (GRUB manual 2.06, section 16.2 "The GRUB environment block"). GRUB writes it sector by sector and never lengthens it.

/// Its exact length.
pub(crate) const LEN: usize = 1024;
/// Its first line; a block without it is refused by GRUB.
pub(crate) const SIGNATURE: &str = "# GRUB Environment Block\n";

/// Value of a variable; a backslash hides the character behind it, a line's end among them.
pub(crate) fn get(block: &str, name: &str) -> Option<String> {
    let value = lines(block).find_map(|line| value_of(line, name))?;
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    Some(out).filter(|value| !value.is_empty())
}

/// The block with a variable set; `None` when it does not fit. An empty block becomes a new one.
pub(crate) fn set(block: &str, name: &str, value: &str) -> Option<String> {
    map(block, name, |_| Some(escape(value)), true)
}

/// The block with the value of a variable, as written, changed by `edit`: `Ok(None)` when nothing changes, `Err` when
/// it does not fit.
pub(crate) fn edit(
    block: &str,
    name: &str,
    edit: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, ()> {
    let there = lines(block).find_map(|line| value_of(line, name));
    match there.and_then(|old| edit(old).filter(|new| new != old)) {
        None => Ok(None),
        Some(new) => map(block, name, |_| Some(new.clone()), false)
            .map(Some)
            .ok_or(()),
    }
}

fn map(block: &str, name: &str, new: impl Fn(&str) -> Option<String>, add: bool) -> Option<String> {
    let mut out = String::with_capacity(LEN);
    let mut done = false;
    if !block.starts_with(SIGNATURE) {
        out.push_str(SIGNATURE);
    }
    for line in lines(block) {
        match value_of(line, name).and_then(&new) {
            Some(_) if done => {}
            Some(value) => {
                out.push_str(&format!("{name}={value}\n"));
                done = true;
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    if !done && add {
        out.push_str(&format!("{name}={}\n", new("")?));
    }
    let len = out.chars().count();
    let padding = LEN.checked_sub(len)?;
    out.push_str(&"#".repeat(padding));
    Some(out)
}

/// Lines without the padding, which begins at a line's start.
fn lines(block: &str) -> impl Iterator<Item = &str> {
    let padding = |line: &&str| line.bytes().all(|byte| byte == b'#');
    block
        .trim_end_matches('\n')
        .split('\n')
        .filter(move |line| !line.is_empty() && !padding(line))
}

fn value_of<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.strip_prefix(name)?.strip_prefix('=')
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stays_1024_bytes_and_keeps_its_other_variables() {
        let mut block =
            format!("{SIGNATURE}saved_entry=0\nkernelopts=root=/dev/sda1 ro \nboot_success=0\n");
        block.push_str(&"#".repeat(LEN - block.len()));
        let new = set(&block, "saved_entry", "Advanced>Debian").unwrap();
        assert_eq!(new.len(), LEN);
        assert_eq!(get(&new, "saved_entry").as_deref(), Some("Advanced>Debian"));
        assert_eq!(get(&new, "boot_success").as_deref(), Some("0"));
        assert!(new.starts_with(SIGNATURE) && new.ends_with("###"));
        assert_eq!(set(&new, "saved_entry", "Advanced>Debian").unwrap(), new);
        let edited = edit(&block, "kernelopts", |old| {
            Some(old.replace("/dev/sda1", "UUID=1"))
        });
        let edited = edited.unwrap().unwrap();
        assert_eq!(
            get(&edited, "kernelopts").as_deref(),
            Some("root=UUID=1 ro ")
        );
        assert_eq!(edited.len(), LEN);
        assert_eq!(edit(&edited, "kernelopts", |_| None), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(set("", "a", &"x".repeat(LEN)), None);
        assert!(edit(&format!("{SIGNATURE}k=1\n"), "k", |_| Some("x".repeat(LEN))).is_err());
        assert_eq!(
            set("", "saved_entry", "1").map(|block| block.len()),
            Some(LEN)
        );
    }

    #[test]
    fn a_value_with_a_backslash_comes_back() {
        let block = set("", "saved_entry", r"a\b").unwrap();
        assert!(block.contains(r"saved_entry=a\\b"));
        assert_eq!(get(&block, "saved_entry").as_deref(), Some(r"a\b"));
    }
}
