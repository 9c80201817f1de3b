//! Names the nearest known word for a misspelt one.

/// Adds the nearest expected word to a message of serde about an unknown field or variant.
pub(super) fn with_nearest(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    // The text before the error proper quotes the offending line, which may hold back quotes of its own
    // only in a drill's prose; serde's own words come last, unknown first and expected after it.
    let Some((wrong, expected)) = words.split_first().filter(|_| unknown) else {
        return message.to_owned();
    };
    match nearest(wrong, expected.iter().copied()) {
        Some(word) => format!("{}\ndid you mean `{word}`?", message.trim_end()),
        None => message.to_owned(),
    }
}

/// The known word that takes the fewest edits to reach, if it is near at all.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|word| (edits(wrong, word), word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().max(wrong.len()) / 2)
        .map(|(_, word)| word)
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
