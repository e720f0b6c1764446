//! Options as they are typed in the page: words as a shell would cut them, without anything else that a shell does.

/// Longest list of options.
const MAX_WORDS: usize = 256;

/// Cuts at blanks; `'…'` and `"…"` keep them, a backslash keeps the next character.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("the options end with a backslash".to_owned()),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a closing {open} is missing in the options"));
    }
    words.extend(word);
    if words.len() > MAX_WORDS {
        return Err(format!("expected at most {MAX_WORDS} options"));
    }
    Ok(words)
}

/// The words as [`split`] would read them.
pub(super) fn join(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = !word.is_empty()
        && !word
            .chars()
            .any(|c| c.is_whitespace() || matches!(c, '\'' | '"' | '\\'));
    if plain {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_a_shell_cuts_them() {
        let cut = |text: &str| split(text).unwrap();
        assert_eq!(
            cut(" -o local\r\n -os  /srv "),
            ["-o", "local", "-os", "/srv"]
        );
        assert_eq!(
            cut(r#"-on 'web "1"' -os "a b"c\ d ''"#),
            ["-on", r#"web "1""#, "-os", "a bc d", ""]
        );
        assert!(cut("").is_empty());
        for wrong in ["'a", "\"a", "a\\"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
        assert!(split(&"a ".repeat(300)).is_err());
    }

    #[test]
    fn joined_words_come_back() {
        let words: Vec<String> = ["-on", "a \"b\" 'c' \\", "", "-os=/x\ty"]
            .map(Into::into)
            .into();
        assert_eq!(split(&join(&words)).unwrap(), words);
    }
}
