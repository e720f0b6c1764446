//! `--edit FILE:EXPR`: Perl's substitutions `s/REGEX/REPLACEMENT/FLAGS` (perlop, "Regexp Quote-Like Operators"), one or
//! several with `;` between them, on each line as `perl -pe` would do it.
//!
//! Everything else of Perl is refused by name: nothing is half done. Regular expressions are of the crate `regex`,
//! without look-around and backreferences, and take time linear in the line.

use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::{Error, Result};

/// What the refusals offer instead.
const INSTEAD: &str = "use --run-command with --allow-guest-code, or --upload";
/// Longest expression that is looked at, in bytes.
const EXPRESSION_MAX: usize = 64 << 10;

/// Substitutions in order.
#[derive(Debug)]
pub(crate) struct Program {
    substitutions: Vec<Substitution>,
}

#[derive(Debug)]
struct Substitution {
    regex: Regex,
    replacement: Vec<Piece>,
    global: bool,
}

/// A part of a replacement.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

impl Program {
    /// Understands an expression, or says what of it is not.
    pub(crate) fn parse(expression: &str) -> Result<Self> {
        if expression.len() > EXPRESSION_MAX {
            return Err(refused(&format!("is longer than {EXPRESSION_MAX} bytes")));
        }
        let mut substitutions = Vec::new();
        let mut rest = expression.trim_start_matches([' ', '\t', '\n', ';']);
        while !rest.is_empty() {
            let (substitution, behind) = substitution(rest)?;
            substitutions.push(substitution);
            let behind = behind.trim_start();
            if !behind.is_empty() && !behind.starts_with(';') {
                return Err(refused(&format!("`{behind}` follows a substitution")));
            }
            rest = behind.trim_start_matches([' ', '\t', '\n', ';']);
        }
        if substitutions.is_empty() {
            return Err(refused("is empty"));
        }
        Ok(Self { substitutions })
    }

    /// The content with every line edited.
    pub(crate) fn apply(&self, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(content.len());
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            let (text, end) = match line.strip_suffix(b"\n") {
                Some(text) => (text, &b"\n"[..]),
                None => (line, &b""[..]),
            };
            let mut text = text.to_vec();
            for substitution in &self.substitutions {
                text = substitution.apply(&text);
            }
            out.extend_from_slice(&text);
            out.extend_from_slice(end);
        }
        out
    }
}

impl Substitution {
    fn apply(&self, text: &[u8]) -> Vec<u8> {
        let limit = usize::from(!self.global);
        let replace = |captures: &Captures<'_>| {
            let mut out = Vec::new();
            for piece in &self.replacement {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text),
                    Piece::Group(index) => {
                        let group = captures.get(*index);
                        out.extend_from_slice(group.map_or(&b""[..], |group| group.as_bytes()));
                    }
                }
            }
            out
        };
        self.regex.replacen(text, limit, replace).into_owned()
    }
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!(
        "the expression {what}: only substitutions s/REGEX/REPLACEMENT/FLAGS are understood; for other Perl {INSTEAD}"
    ))
}

/// One substitution and what is behind it.
fn substitution(text: &str) -> Result<(Substitution, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let open = text
        .strip_prefix('s')
        .and_then(|rest| rest.chars().next())
        .filter(|open| open.is_ascii_punctuation() && *open != '_');
    let Some(open) = open else {
        return Err(refused(&format!("begins with `{}`", clip(text))));
    };
    if matches!(open, '\'' | '\\' | ';') {
        return Err(refused(&format!("has {open} as its delimiter")));
    }
    let rest = text.get(2..).unwrap_or_default();
    let (pattern, rest) = part(rest, open)?;
    let (replacement, rest) = match closing(open) {
        // s{…}{…}, perhaps with blanks or another pair between.
        Some(_) => {
            let rest = rest.trim_start();
            let second = rest.chars().next().unwrap_or_default();
            if !second.is_ascii_punctuation() || matches!(second, '\'' | '_') {
                return Err(refused("has no replacement"));
            }
            part(rest.get(1..).unwrap_or_default(), second)?
        }
        None => part(rest, open)?,
    };
    let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
    let (flags, rest) = rest.split_at(end);
    let (regex, global) = compile(&pattern_of(pattern)?, flags)?;
    let replacement = replacement_of(replacement, open)?;
    for piece in &replacement {
        if let Piece::Group(index) = piece
            && *index >= regex.captures_len()
        {
            return Err(refused(&format!("has no group {index}")));
        }
    }
    let substitution = Substitution {
        regex,
        replacement,
        global,
    };
    Ok((substitution, rest))
}

/// The first characters, for a message.
fn clip(text: &str) -> String {
    text.chars().take(20).collect()
}

fn closing(open: char) -> Option<char> {
    match open {
        '{' => Some('}'),
        '(' => Some(')'),
        '[' => Some(']'),
        '<' => Some('>'),
        _ => None,
    }
}

/// Up to the closing delimiter, which may be escaped, and if it is one of a pair, nested.
fn part(text: &str, open: char) -> Result<(&str, &str)> {
    let close = closing(open).unwrap_or(open);
    let (mut depth, mut escaped) = (0usize, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == close && depth == 0 {
            let (part, rest) = text.split_at(at);
            return Ok((part, rest.get(close.len_utf8()..).unwrap_or_default()));
        } else if c == close {
            depth -= 1;
        } else if c == open {
            depth += 1;
        }
    }
    Err(refused(&format!("has no closing {close}")))
}

/// Perl's regular expression in the crate's words. Variables are refused: `$` is an anchor only at the end, before `)`
/// and before `|`, `@` only before what is no name.
fn pattern_of(perl: &str) -> Result<String> {
    let mut out = String::new();
    let mut chars = perl.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                // Words begin and end so in the crate; in Perl they are the characters.
                Some(angle @ ('<' | '>')) => out.push(angle),
                Some('n') => return Err(refused("matches line ends (a line is edited at a time)")),
                Some('Z') => out.push_str("\\z"),
                Some('h') => out.push_str("[ \\t]"),
                Some(other) => out.extend(['\\', other]),
                None => return Err(refused("ends in a backslash")),
            },
            '$' if chars.peek().is_some_and(|next| !matches!(next, ')' | '|')) => {
                return Err(refused(
                    "has a variable in its regular expression (write \\$)",
                ));
            }
            '@' if chars
                .peek()
                .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '_' | '{')) =>
            {
                return Err(refused(
                    "has an array in its regular expression (write \\@)",
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn compile(pattern: &str, flags: &str) -> Result<(Regex, bool)> {
    let mut builder = RegexBuilder::new(pattern);
    // Bytes, as Perl has them without -C.
    builder.unicode(false);
    let mut global = false;
    for flag in flags.chars() {
        match flag {
            'g' => global = true,
            'i' => {
                builder.case_insensitive(true);
            }
            'm' => {
                builder.multi_line(true);
            }
            's' => {
                builder.dot_matches_new_line(true);
            }
            'x' => {
                builder.ignore_whitespace(true);
            }
            'o' => {}
            flag => return Err(refused(&format!("has the flag {flag}"))),
        }
    }
    let regex = builder.build().map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        refused(last.strip_prefix("error: ").unwrap_or(last))
    })?;
    Ok((regex, global))
}

/// A replacement is a double-quoted string of Perl.
fn replacement_of(perl: &str, delimiter: char) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut chars = perl.chars().peekable();
    let mut buffer = [0u8; 4];
    while let Some(c) = chars.next() {
        let group = match c {
            '\\' => match chars.next() {
                Some('n') => {
                    text.push(b'\n');
                    None
                }
                Some('t') => {
                    text.push(b'\t');
                    None
                }
                // sed's spelling; Perl takes it as well (perlre, "Warning on \1 Instead of $1").
                Some(digit @ '1'..='9') => Some(number(digit, &mut chars)),
                Some(other) if other.is_ascii_punctuation() || other == delimiter => {
                    text.extend_from_slice(other.encode_utf8(&mut buffer).as_bytes());
                    None
                }
                Some(other) => return Err(refused(&format!("has \\{other} in its replacement"))),
                None => return Err(refused("ends in a backslash")),
            },
            '$' => Some(variable(&mut chars)?),
            '@' if chars
                .peek()
                .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '_' | '{')) =>
            {
                return Err(refused("has an array in its replacement (write \\@)"));
            }
            c => {
                text.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                None
            }
        };
        if let Some(index) = group {
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Group(index));
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// `$1`, `${1}` or `$&`, behind the dollar.
fn variable(chars: &mut Chars<'_>) -> Result<usize> {
    match chars.next() {
        Some('&') => Ok(0),
        Some(digit @ '1'..='9') => Ok(number(digit, chars)),
        Some('{') => {
            let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
            let index = inside.parse().ok().filter(|index| *index > 0);
            index.ok_or_else(|| refused("has a variable in its replacement (write \\$)"))
        }
        _ => Err(refused("has a variable in its replacement (write \\$)")),
    }
}

fn number(first: char, chars: &mut Chars<'_>) -> usize {
    let mut digits = first.to_string();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(expression: &str, content: &str) -> String {
        let program = Program::parse(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        String::from_utf8(program.apply(content.as_bytes())).unwrap()
    }

    #[test]
    fn substitutions_do_as_perl_does() {
        for (expression, before, after) in [
            ("s/a/b/", "aa\naa", "ba\nba"),
            ("s/a/b/g", "aa\n", "bb\n"),
            ("s/^#?(Port)\\s+.*/$1 2222/i", "#port 22\n", "port 2222\n"),
            ("s,/usr/bin,/bin,", "x /usr/bin\n", "x /bin\n"),
            ("s|a\\|b|c|", "a|b\n", "c\n"),
            ("s{^(\\w+)=.*$}{${1}=x}", "key=1\n", "key=x\n"),
            ("s(a) {b}", "a\n", "b\n"),
            ("s/a/b/; s/b/c/;", "a\n", "c\n"),
            ("s/$/ end/", "line\nlast", "line end\nlast end"),
            ("s/^root:\\K?x/y/", "", ""),
            ("s/a/\\n/", "a\n", "\n\n"),
            ("s/a/[$&]/", "a\n", "[a]\n"),
            ("s/(a)(b)?/\\1-$2-/", "a\n", "a--\n"),
            ("s/.*\\n?/x/", "", ""),
            ("s/\\$HOME/\\$PATH/", "$HOME\n", "$PATH\n"),
            ("s/a\\@b/c\\@d/", "a@b\n", "c@d\n"),
            ("s/\\<x\\>/y/", "<x>\n", "y\n"),
            ("s/é/e/", "é\n", "e\n"),
            ("s#a b#c#x", "ab\n", "c\n"),
        ] {
            if expression.contains("\\K") || expression.contains("\\n?") {
                assert!(Program::parse(expression).is_err(), "{expression}");
                continue;
            }
            assert_eq!(edited(expression, before), after, "{expression}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_stay() {
        let program = Program::parse("s/a.c/x/").unwrap();
        assert_eq!(program.apply(b"\xff a\xe9c \xfe\r\n"), b"\xff x \xfe\r\n");
    }

    #[test]
    fn other_perl_is_refused_with_the_way_out() {
        for (expression, word) in [
            ("", "empty"),
            ("tr/a/b/", "begins with `tr/a/b/`"),
            ("$_ = uc", "begins with"),
            ("s/a/b/e", "flag e"),
            ("s/a/b", "no closing /"),
            ("s/a/b/ if 1", "`if 1` follows"),
            ("s/a/$name/", "variable in its replacement"),
            ("s/a/$2/", "no group 2"),
            ("s/$x/b/", "variable in its regular"),
            ("s/a@b.c/d/", "array in its regular"),
            ("s/(?=a)/b/", "look-around"),
            ("s/(a)\\1/b/", "backreferences"),
            ("s/a/\\U$&/", "\\U"),
            ("s'a'b'", "' as its delimiter"),
            ("s/a/b\\", "no closing"),
            ("sxaxbx", "begins with"),
        ] {
            let error = Program::parse(expression).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains("--run-command") && !error.contains('\n'),
                "{expression}: {error}"
            );
        }
    }

    #[test]
    fn time_is_linear_in_the_line() {
        let line = "a".repeat(1 << 20);
        assert_eq!(edited("s/(a+)+b/x/", &line), line);
    }
}
