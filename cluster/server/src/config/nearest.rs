//! Suggestions for unknown keys.

/// Adds the nearest known key to the parser's message about an unknown one.
pub(super) fn explain(message: &str) -> String {
    let Some(unknown) = between(message, "unknown field `", "`") else {
        return message.to_owned();
    };
    let listed = ["expected one of ", "expected "]
        .into_iter()
        .find_map(|before| {
            between(message, before, " at line").or_else(|| between(message, before, "\n"))
        })
        .unwrap_or_default();
    let known = listed
        .split([',', ' '])
        .map(|k| k.trim_matches('`'))
        .filter(|k| !k.is_empty() && *k != "or");
    let nearest = known.min_by_key(|k| distance(&k.to_lowercase(), &unknown.to_lowercase()));
    match nearest {
        Some(nearest) => format!("unknown key `{unknown}`; did you mean `{nearest}`?\n{message}"),
        None => format!("unknown key `{unknown}`: no keys are known here\n{message}"),
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let begin = text.find(before)? + before.len();
    let end = text[begin..].find(after)? + begin;
    Some(&text[begin..end])
}

/// Edit distance: insertions, deletions and replacements.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
