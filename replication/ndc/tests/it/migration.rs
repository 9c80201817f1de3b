//! A recorded run that moved to another cluster and back, given batch by batch in both orders.

use std::{fs, path::Path};

use cluster_core::{VersionHistories, VersionItem};
use replication_ndc::{Absent, BatchDecision, Incoming, branch};

use crate::script::show;

/// (first, last, version) of each batch of the fixture.
fn batches(text: &str) -> Vec<(i64, i64, i64)> {
    // The fixture is protobuf JSON; only ids and versions are needed, and they are plain strings.
    let mut events = Vec::new();
    let mut id = 0;
    let mut batches = Vec::new();
    let mut depth = 0;
    for line in text.lines().map(str::trim) {
        let number = |name: &str| -> Option<i64> {
            let rest = line.strip_prefix(&format!("\"{name}\": \""))?;
            rest.split('"').next()?.parse().ok()
        };
        if let Some(n) = number("eventId") {
            id = n;
        }
        if let Some(version) = number("version") {
            events.push((id, version));
        }
        depth += line.matches('[').count() as i32 - line.matches(']').count() as i32;
        if depth == 1 && !events.is_empty() {
            let (first, last) = (events[0], events[events.len() - 1]);
            assert_eq!(first.1, last.1, "one version per batch");
            batches.push((first.0, last.0, first.1));
            events.clear();
        }
    }
    batches
}

#[test]
fn a_run_that_came_back_is_one_line() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/fixtures/ndc-migration-back-and-forth.json");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let batches = batches(&text);
    assert_eq!(batches.len(), 8);
    let mut branch = Vec::new();
    for &(_, last, version) in &batches {
        branch::append(&mut branch, last.into(), version.into()).unwrap();
    }
    assert_eq!(show(&branch), "5@1 10@2 12@11");
    let incoming = |index: usize| Incoming {
        items: &branch,
        first: batches[index].0.into(),
        next: (batches[index].1 + 1).into(),
        version: batches[index].2.into(),
    };
    assert_eq!(incoming(0).for_absent(), Ok(Absent::Create));
    let mut local = VersionHistories::single(Default::default());
    local.current_mut().items = vec![VersionItem {
        event_id: 1.into(),
        version: batches[0].2.into(),
    }];
    // The last first: it names all that is missing.
    let Ok(BatchDecision::Gap(missing)) = incoming(7).against(&local) else {
        panic!("no gap")
    };
    assert_eq!(missing.after.map(|i| i.event_id.get()), Some(1));
    assert_eq!(
        (missing.before.event_id.get(), missing.before.version.get()),
        (11, 11)
    );
    for index in 1..batches.len() {
        let Ok(BatchDecision::Apply(plan)) = incoming(index).against(&local) else {
            panic!("{index}")
        };
        let (next, version) = (incoming(index).next, incoming(index).version);
        plan.carry_out(&mut local, |_, _| panic!("nothing forks"), next, version)
            .unwrap();
    }
    assert_eq!(local.current().items, branch);
    assert_eq!(incoming(3).against(&local), Ok(BatchDecision::Duplicate));
}
