//! Shell patterns (glob(7)): `*`, `?`, `[a-z]`, `[!a-z]`; a backslash takes away the meaning of what follows it. A `[` that is
//! not closed means itself.

/// True for a pattern that does not mean itself alone.
pub fn is_glob(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some((token, behind)) = next(rest) {
        if !matches!(token, Token::One(_)) {
            return true;
        }
        rest = behind;
    }
    false
}

/// True for a text that the whole pattern describes. Time grows with the product of the lengths: nothing is tried again but
/// what follows the last star.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut star = None;
    loop {
        let mut left = text.chars();
        let have = left.next();
        match (next(pattern), have) {
            (None, None) => return true,
            (Some((Token::Any, behind)), _) => {
                pattern = behind;
                star = Some((behind, text));
                continue;
            }
            (Some((token, behind)), Some(have)) if token.takes(have) => {
                (pattern, text) = (behind, left.as_str());
                continue;
            }
            _ => {}
        }
        let Some((behind, from)) = star else {
            return false;
        };
        let mut later = from.chars();
        if later.next().is_none() {
            return false;
        }
        star = Some((behind, later.as_str()));
        (pattern, text) = (behind, later.as_str());
    }
}

#[derive(Clone, Copy, Debug)]
enum Token<'p> {
    One(char),
    /// `?`
    Each,
    /// `*`
    Any,
    Set {
        not: bool,
        inside: &'p str,
    },
}

impl Token<'_> {
    fn takes(self, have: char) -> bool {
        match self {
            Self::One(wanted) => wanted == have,
            Self::Each | Self::Any => true,
            Self::Set { not, inside } => holds(inside, have) != not,
        }
    }
}

/// The pattern's first element, and the rest.
fn next(pattern: &str) -> Option<(Token<'_>, &str)> {
    let mut chars = pattern.chars();
    let token = match chars.next()? {
        '*' => Token::Any,
        '?' => Token::Each,
        '[' => match set(chars.as_str()) {
            Some(found) => return Some(found),
            None => Token::One('['),
        },
        '\\' => Token::One(chars.next().unwrap_or('\\')),
        plain => Token::One(plain),
    };
    Some((token, chars.as_str()))
}

/// What follows a `[`, when it is closed. A `]` in front is of the set.
fn set(pattern: &str) -> Option<(Token<'_>, &str)> {
    let inside = pattern.strip_prefix(['!', '^']);
    let (not, inside) = (inside.is_some(), inside.unwrap_or(pattern));
    let (end, _) = inside.char_indices().skip(1).find(|(_, c)| *c == ']')?;
    let (inside, behind) = inside.split_at(end);
    Some((Token::Set { not, inside }, behind.get(1..)?))
}

fn holds(set: &str, have: char) -> bool {
    let mut rest = set.chars();
    while let Some(first) = rest.next() {
        let mut range = rest.clone();
        let last = match (range.next(), range.next()) {
            (Some('-'), Some(last)) => {
                rest = range;
                last
            }
            _ => first,
        };
        if (first..=last).contains(&have) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_s_do() {
        for (pattern, text, expected) in [
            ("ens*", "ens192", true),
            ("ens*", "enp1s0", false),
            ("e*s?", "enp1s0", true),
            ("eth[0-3]", "eth2", true),
            ("eth[0-3]", "eth4", false),
            ("eth[!0-3]", "eth2", false),
            ("eth[^0-3]", "eth4", true),
            ("eth[", "eth[", true),
            ("*6.[2-9].*", "debian-6.1.0.conf", false),
            ("*6.[!2-9].*", "debian-6.1.0.conf", true),
            ("[]]x", "]x", true),
            ("[!]a]", "b", true),
            ("[!]a]", "]", false),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[a-c-]", "-", true),
            ("[c-a]", "b", false),
            ("[", "", false),
            ("[]", "[]", true),
            ("*", "", true),
            ("**", "ab", true),
            ("?", "", false),
            ("?", "é", true),
            ("", "", true),
            ("", "a", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*a*b", "xaybzb", true),
            ("*.log", "a.log.1", false),
            ("a.*", "ab", false),
            ("*\n*", "a\nb", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"a\", r"a\", true),
            ("pc-q35-*", "pc-q35-9.0", true),
            ("vmxnet3", "vmxnet3", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // Would take for ever with a matcher that tries every split.
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
    }

    #[test]
    fn only_what_is_a_pattern_is_one() {
        for pattern in ["*", "a?", "[ab]", r"\\*"] {
            assert!(is_glob(pattern), "{pattern}");
        }
        for plain in ["", "a", "a[", "[]", r"\*", r"a\?b", r"\[ab]"] {
            assert!(!is_glob(plain), "{plain}");
        }
    }
}
