//! `${NAME}` and `${NAME:-default}` in the configuration text, and the values that no message may repeat.

/// The text with every reference replaced.
#[derive(Default)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Values from the environment: what to print instead, and the value.
    hidden: Vec<(String, String)>,
}

/// Values shorter than this are hidden only where a message quotes them as a whole: a `1` is everywhere.
const SHORT: usize = 4;

/// Replaces every reference; one without a value and without a default is an error that names it. `$$` is
/// a plain dollar sign. A value that stands alone is text whatever characters it has.
pub(super) fn substitute(
    text: &str,
    value_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, String> {
    let mut expanded = Expanded::default();
    let out = &mut expanded.text;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = inside
                .find('}')
                .ok_or("a reference to the environment, ${, is not closed by }")?;
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inside[..end], None),
            };
            rest = &inside[end + 1..];
            match value_of(name).filter(|v| !v.is_empty()) {
                Some(value) => {
                    match begins_scalar(out) && ends_scalar(rest) && !is_plain(&value) {
                        true => quote(out, &value),
                        false => out.push_str(&value),
                    }
                    expanded.hidden.push((format!("${{{name}}}"), value));
                }
                None => out.push_str(default.ok_or_else(|| {
                    format!(
                        "the environment variable {name} is not set; set it, or give a default with ${{{name}:-...}}"
                    )
                })?),
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(expanded)
}

impl Expanded {
    /// The message without passwords and without values from the environment; those are shown by name.
    pub(super) fn redact(&self, message: &str) -> String {
        let passwords = passwords(&self.text).map(|p| ("[redacted]".to_owned(), p));
        let mut hidden: Vec<_> = self.hidden.iter().cloned().chain(passwords).collect();
        hidden.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let mut message = message.to_owned();
        for (shown, value) in hidden {
            let escaped: String = value.escape_debug().collect();
            for value in [escaped, value] {
                if value.len() >= SHORT {
                    message = message.replace(&value, &shown);
                    continue;
                }
                for quote in ["\"", "`", "'"] {
                    let quoted = |inner: &str| format!("{quote}{inner}{quote}");
                    message = message.replace(&quoted(&value), &quoted(&shown));
                }
            }
        }
        message
    }
}

/// Whether what comes next begins a value.
fn begins_scalar(before: &str) -> bool {
    let trimmed = before.trim_end_matches(' ');
    let has_space = trimmed.len() < before.len();
    match trimmed.chars().next_back() {
        Some(':' | '-') => has_space,
        Some('[' | ',') => true,
        _ => false,
    }
}

/// Whether a value ends here.
fn ends_scalar(after: &str) -> bool {
    let trimmed = after.trim_start_matches([' ', '\t']);
    match trimmed.chars().next() {
        None | Some('\n' | '\r' | ',' | ']' | '}') => true,
        Some('#') => trimmed.len() < after.len(),
        _ => false,
    }
}

/// Whether YAML reads the value as it is.
fn is_plain(value: &str) -> bool {
    let begins = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    begins && !value.ends_with(':') && value.chars().all(plain)
}

fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// The values of all keys that are passwords.
fn passwords(text: &str) -> impl Iterator<Item = String> {
    text.lines().flat_map(|line| {
        line.match_indices("assword").filter_map(move |(at, word)| {
            let after = line[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
            let value = after.strip_prefix(':')?.trim();
            let value = match value.chars().next()? {
                quote @ ('"' | '\'') => value[1..].split(quote).next()?,
                _ => value.split([',', '}', '#']).next()?.trim(),
            };
            (!value.is_empty()).then(|| value.to_owned())
        })
    })
}
