//! Which crate may depend on which.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    process::Command,
};

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use serde::Deserialize;

/// The table in `.ci/layers.toml`.
#[derive(Debug, Deserialize)]
pub struct Table {
    /// Allowed direct arrows, reduced.
    pub arrows: BTreeMap<String, BTreeSet<String>>,
    /// Packages refused in run-time trees.
    pub pure: Pure,
}

/// Crates that must stay free of some packages.
#[derive(Debug, Deserialize)]
pub struct Pure {
    /// The crates.
    pub crates: BTreeSet<String>,
    /// Crates they must not pull in.
    pub refuse: BTreeSet<String>,
}

/// Compares the crate graph with the table; each finding is a sentence. Development dependencies are free.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let path = root.join(".ci/layers.toml");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let table: Table =
        toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    // Of this platform only: a build downloads no crate that another platform alone would need, and asking for
    // the whole graph would, so that a machine which just built everything offline could not be checked.
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(vec!["--filter-platform".into(), host()?])
        .exec()
        .context("read the crate graph")?;
    Ok(findings(&table, &metadata))
}

/// The platform this runs on, as the compiler calls it.
fn host() -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(&cargo)
        .arg("-vV")
        .output()
        .with_context(|| format!("run {} -vV", cargo.display()))?;
    let text = String::from_utf8_lossy(&told.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo -vV names no host")?.trim().to_owned())
}

/// The defect.
pub fn findings(table: &Table, metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<&PackageId> = metadata.workspace_members.iter().collect();
    let names: BTreeMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.as_str()))
        .collect();
    let mut found = Vec::new();
    let resolve = metadata.resolve.as_ref();
    for node in resolve.iter().flat_map(|r| &r.nodes) {
        let name = names[&node.id];
        if members.contains(&node.id) {
            if !table.arrows.contains_key(name) {
                found.push(format!(
                    "{name} is not in .ci/layers.toml; add it with its arrows"
                ));
                continue;
            }
            let allowed = closure(table, name);
            for dep in &node.deps {
                let runs = dep
                    .dep_kinds
                    .iter()
                    .any(|k| k.kind != DependencyKind::Development);
                let to = names[&dep.pkg];
                if runs && members.contains(&dep.pkg) && !allowed.contains(to) {
                    found.push(format!(
                        "{name} must not depend on {to}: the arrow is not in .ci/layers.toml"
                    ));
                }
            }
        }
        if table.pure.crates.contains(name) && members.contains(&node.id) {
            for refused in run_time_tree(metadata, &node.id) {
                let refused = names[&refused];
                if table.pure.refuse.contains(refused) {
                    found.push(format!(
                        "{name} is pure, but {refused} is in its run-time tree"
                    ));
                }
            }
        }
    }
    found
}

/// Everything reachable over allowed arrows.
fn closure<'a>(table: &'a Table, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut todo = VecDeque::from([from]);
    while let Some(name) = todo.pop_front() {
        for to in table.arrows.get(name).into_iter().flatten() {
            if seen.insert(to.as_str()) {
                todo.push_back(to);
            }
        }
    }
    seen
}

/// Everything linked into the crate: normal dependencies of normal dependencies.
fn run_time_tree(metadata: &Metadata, from: &PackageId) -> BTreeSet<PackageId> {
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .iter()
        .flat_map(|r| &r.nodes)
        .map(|n| (&n.id, n))
        .collect();
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(id) = todo.pop() {
        for dep in nodes.get(id).into_iter().flat_map(|n| &n.deps) {
            let normal = dep
                .dep_kinds
                .iter()
                .any(|k| k.kind == DependencyKind::Normal);
            if normal && seen.insert(dep.pkg.clone()) {
                todo.push(&dep.pkg);
            }
        }
    }
    seen
}
