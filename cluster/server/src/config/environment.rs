//! `${NAME}` and `${NAME:-default}` in the configuration text.

/// Replaces every reference; one without a value and without a default is an error that names it. `$$` is
/// a plain dollar sign.
pub(super) fn substitute(
    text: &str,
    value_of: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
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
            let value = value_of(name).filter(|v| !v.is_empty());
            match value.as_deref().or(default) {
                Some(value) => out.push_str(value),
                None => {
                    return Err(format!(
                        "the environment variable {name} is not set; set it, or give a default with ${{{name}:-...}}"
                    ));
                }
            }
            rest = &inside[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}
