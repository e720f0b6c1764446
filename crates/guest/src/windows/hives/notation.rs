//! Values as the report has them: like .reg files, but texts as texts.

use registry::{Kind, Value};
use sha2::{Digest, Sha256};

/// Longer data is cut, and told apart by its hash.
const BYTES_MAX: usize = 64;
const TEXT_MAX: usize = 2000;

/// `"text"`, `dword:0000001f`, `expand:"%SystemRoot%"`, `multi:"a","b"`, `hex(3):01,02`. Data that is not just what the
/// text says (no final NUL, something behind it) is shown in hexadecimal.
pub(crate) fn notation(value: &Value) -> String {
    if let (Kind::DWORD, Some(number), 4) = (value.kind, value.as_u32(), value.data.len()) {
        return format!("dword:{number:08x}");
    }
    match text(value) {
        Some(text) if text.len() <= TEXT_MAX => text,
        _ => hex(value),
    }
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_text().unwrap_or_default();
    match value.kind {
        Kind::SZ => (Value::text(&text) == *value).then(|| quoted(&text)),
        Kind::EXPAND_SZ => {
            (Value::expand(&text) == *value).then(|| format!("expand:{}", quoted(&text)))
        }
        Kind::MULTI_SZ => {
            let texts = value.as_multi()?;
            let shown: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            (Value::multi(&texts) == *value).then(|| format!("multi:{}", shown.join(",")))
        }
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn hex(value: &Value) -> String {
    let shown = value.data.iter().take(BYTES_MAX);
    let shown: Vec<String> = shown.map(|byte| format!("{byte:02x}")).collect();
    let mut text = format!("hex({:x}):{}", value.kind.0, shown.join(","));
    if value.data.len() > BYTES_MAX {
        let hash = Sha256::digest(&value.data);
        let hash: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let len = value.data.len();
        text.push_str(&format!(",… ({len} bytes, SHA-256 {hash}…)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_readable_and_told_apart() {
        assert_eq!(notation(&Value::text("a\"\\")), r#""a\"\\""#);
        assert_eq!(notation(&Value::dword(31)), "dword:0000001f");
        assert_eq!(notation(&Value::expand("%A%")), r#"expand:"%A%""#);
        assert_eq!(notation(&Value::multi(&["a", "b"])), r#"multi:"a","b""#);
        assert_eq!(notation(&Value::binary([1, 2])), "hex(3):01,02");
        let unended = Value {
            kind: Kind::SZ,
            data: vec![b'a', 0],
        };
        assert_eq!(notation(&unended), "hex(1):61,00");
        let (mut a, b) = (vec![0; 100], vec![0; 100]);
        a[99] = 1;
        let (a, b) = (notation(&Value::binary(a)), notation(&Value::binary(b)));
        assert!(a.contains("100 bytes") && a.len() < 300, "{a}");
        assert_ne!(a, b);
    }
}
