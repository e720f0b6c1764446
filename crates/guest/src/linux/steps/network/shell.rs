//! Files of shell assignments: which lines give a variable its value, also where an array or a quoted text goes on
//! over several lines, and putting new ones in their place.

/// One assignment and the lines that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) key: String,
    /// Text after the sign, quotes and brackets included.
    pub(super) raw: String,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Assignment {
    /// Words of the value, without quotes and brackets.
    pub(super) fn words(&self) -> Vec<&str> {
        self.raw
            .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')'))
            .filter(|word| !word.is_empty())
            .collect()
    }

    /// The first word.
    pub(super) fn word(&self) -> Option<&str> {
        self.words().first().copied()
    }
}

/// Every assignment in order.
pub(super) fn assignments(text: &str) -> Vec<Assignment> {
    let mut found: Vec<Assignment> = Vec::new();
    let mut open: Option<(char, Assignment)> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some((until, mut current)) = open.take() {
            current.last = number;
            current.raw.push('\n');
            current.raw += line;
            if line.contains(until) {
                found.push(current);
            } else {
                open = Some((until, current));
            }
            continue;
        }
        let trimmed = line.trim();
        let Some((key, raw)) = trimmed
            .split_once('=')
            .filter(|_| !trimmed.starts_with('#'))
        else {
            continue;
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '[' | ']' | '-' | '.');
        let key = key
            .strip_prefix("export ")
            .unwrap_or(key)
            .trim_end_matches('+')
            .trim();
        if key.is_empty() || !key.chars().all(plain) {
            continue;
        }
        let current = Assignment {
            key: key.to_owned(),
            raw: raw.trim().to_owned(),
            first: number,
            last: number,
        };
        match unclosed(&current.raw) {
            Some(until) => open = Some((until, current)),
            None => found.push(current),
        }
    }
    // What never ends ends its line.
    found.extend(open.map(|(_, mut current)| {
        current.last = current.first;
        current
    }));
    found
}

/// The character that ends a value which goes on in the next line.
fn unclosed(raw: &str) -> Option<char> {
    let first = raw.chars().next()?;
    let rest = raw.get(1..).unwrap_or_default();
    let until = match first {
        '(' => ')',
        '"' | '\'' => first,
        _ => return None,
    };
    (!rest.contains(until)).then_some(until)
}

/// Comments out the assignments that `is_old` and puts `block` at the end, unless it is there.
pub(super) fn replace(text: &str, block: &str, is_old: impl Fn(&str) -> bool) -> String {
    let (before, after) = match text.split_once(block) {
        Some((before, after)) if !block.is_empty() => (before, Some(after)),
        _ => (text, None),
    };
    let mut new = disable(before, &is_old);
    if let Some(after) = after {
        return format!("{new}{block}{}", disable(after, &is_old));
    }
    if !new.is_empty() && !new.ends_with('\n') {
        new.push('\n');
    }
    new + block
}

fn disable(text: &str, is_old: &impl Fn(&str) -> bool) -> String {
    let old: Vec<Assignment> = assignments(text)
        .into_iter()
        .filter(|one| is_old(&one.key))
        .collect();
    text.split_inclusive('\n')
        .enumerate()
        .map(|(number, line)| {
            if old
                .iter()
                .any(|one| (one.first..=one.last).contains(&number))
            {
                format!("# v2v: {line}")
            } else {
                line.to_owned()
            }
        })
        .collect()
}

/// A key with digits or `_LABEL` after it: `IPADDR0`, `IPADDR_2`.
pub(super) fn is_numbered(key: &str, base: &str) -> bool {
    key.strip_prefix(base).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('_') || rest.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_over_several_lines_are_one() {
        let text = "# A=0\nA=(\"1\"\n '2')\nB=\"x\n y\"\nC='z' # c\nexport D=1\n$(evil)=2\n";
        let all = assignments(text);
        let lines: Vec<_> = all
            .iter()
            .map(|one| (one.key.as_str(), one.first, one.last))
            .collect();
        assert_eq!(lines, [("A", 1, 2), ("B", 3, 4), ("C", 5, 5), ("D", 6, 6)]);
        assert_eq!(all[0].words(), ["1", "2"]);
        let new = replace(text, "A=3\n", |key| key == "A");
        assert_eq!(
            new,
            "# A=0\n# v2v: A=(\"1\"\n# v2v:  '2')\nB=\"x\n y\"\nC='z' # c\nexport D=1\n$(evil)=2\nA=3\n"
        );
        assert_eq!(replace(&new, "A=3\n", |key| key == "A"), new);
        assert_eq!(assignments("A=(").len(), 1);
    }
}
