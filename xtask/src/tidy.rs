//! How files look: module docs, length, nothing unfinished.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Longest file that is not a test.
const LINES_MAX: usize = 500;

/// Files that were longer when the rule came. The list may only shrink.
const LONGER: &[&str] = &[];

/// Checks every Rust file of the workspace; each finding is a sentence.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    let mut found = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        let is_test =
            name.contains("tests") || name.contains("/examples/") || name.ends_with("_test.rs");
        if file.file_name().is_some_and(|n| n == "mod.rs") {
            found.push(format!(
                "{name}: name the file after its module instead of mod.rs"
            ));
        }
        if !is_test && !text.trim_start().starts_with("//!") {
            found.push(format!("{name}: open it with a doc paragraph: its job, its invariant, what it leaves to others"));
        }
        let code = text.lines().take_while(|l| *l != "#[cfg(test)]").count();
        if code > LINES_MAX && !is_test && !LONGER.contains(&name.as_str()) {
            found.push(format!(
                "{name}: {code} lines; split it by noun (at most {LINES_MAX})"
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if ["todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .any(|u| line.trim_start().starts_with(u))
            {
                found.push(format!(
                    "{name}:{}: unfinished: {}",
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    Ok(found)
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.')
                && name != "target"
                && name != "data"
                && name != "node_modules"
            {
                collect(&path, into)?;
            }
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
    Ok(())
}
