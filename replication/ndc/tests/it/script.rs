//! Runs `scripts/*.txt`: commands, then `----`, then what they print. `UPDATE_SCRIPTS=1` records anew.
//!
//! `local [*] 5@1 8@2` adds a branch (`*`: current). `batch 6-8@11 on 5@1 9@11` is a batch of events 6 to 8
//! of version 11 on that branch; it prints the verdict, carries it out, and prints the branches.

use std::{fmt::Write, fs, path::Path};

use cluster_core::{VersionHistories, VersionHistory, VersionItem};
use replication_ndc::{
    BatchDecision, BranchRole, Incoming, Missing, Target, batch_decision::fork_token,
};

use crate::election;

pub fn items<'a>(words: impl Iterator<Item = &'a str>) -> Vec<VersionItem> {
    words
        .map(|word| {
            let (event, version) = word.split_once('@').unwrap();
            let (event, version): (i64, i64) = (event.parse().unwrap(), version.parse().unwrap());
            VersionItem {
                event_id: event.into(),
                version: version.into(),
            }
        })
        .collect()
}

pub fn show(items: &[VersionItem]) -> String {
    let words: Vec<_> = items
        .iter()
        .map(|i| format!("{}@{}", i.event_id, i.version))
        .collect();
    words.join(" ")
}

fn gap(missing: &Missing) -> String {
    let after = missing
        .after
        .map_or("start".to_owned(), |item| show(&[item]));
    format!("gap {after} .. {}", show(&[missing.before]))
}

fn batch(local: &mut VersionHistories, line: &str, out: &mut String) {
    let (events, branch) = line.split_once(" on ").unwrap();
    let (range, version) = events.split_once('@').unwrap();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (i64, i64) = (first.parse().unwrap(), last.parse().unwrap());
    let branch = items(branch.split_whitespace());
    let incoming = Incoming {
        items: &branch,
        first: first.into(),
        next: (last + 1).into(),
        version: version.parse::<i64>().unwrap().into(),
    };
    match incoming.against(local) {
        Err(refused) => writeln!(out, "refused: {refused}").unwrap(),
        Ok(BatchDecision::Duplicate) => writeln!(out, "duplicate").unwrap(),
        Ok(BatchDecision::Gap(missing)) => writeln!(out, "{}", gap(&missing)).unwrap(),
        Ok(BatchDecision::Apply(plan)) => {
            let target = match plan.target {
                Target::Branch(index) => format!("append to {index}"),
                Target::Fork { from, at } => format!("fork {from} at {}", show(&[at])),
            };
            let role = match plan.role {
                BranchRole::Current => "current",
                BranchRole::NonCurrent => "stays behind",
                BranchRole::Wins => "wins",
            };
            writeln!(out, "{target}, {role}, from {}", plan.from).unwrap();
            let token = |base: &VersionHistory, at| fork_token(&base.branch, at, "fork".to_owned());
            plan.carry_out(local, token, incoming.next, incoming.version)
                .unwrap();
            assert_eq!(
                election::elect(local),
                local.current,
                "the elected branch is current"
            );
        }
    }
}

fn run(script: &str) -> String {
    let mut local = VersionHistories::default();
    let mut out = String::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if let Some(rest) = line.strip_prefix("local ") {
            let rest = rest.trim();
            let current = rest.strip_prefix('*');
            if current.is_some() {
                local.current = local.histories.len();
            }
            let items = items(current.unwrap_or(rest).split_whitespace());
            local.histories.push(VersionHistory {
                items,
                ..VersionHistory::default()
            });
        } else if let Some(rest) = line.strip_prefix("batch ") {
            batch(&mut local, rest, &mut out);
        } else {
            panic!("what is {line:?}?");
        }
    }
    for (index, history) in local.histories.iter().enumerate() {
        let mark = if index == local.current { '*' } else { ' ' };
        writeln!(out, "{mark} {}", show(&history.items)).unwrap();
    }
    out
}

#[test]
fn drawings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let printed = run(script);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&path, format!("{script}----\n{printed}")).unwrap();
        } else {
            assert_eq!(printed, expected, "{}", path.display());
        }
    }
}
