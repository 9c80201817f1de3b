//! Any arrival order of the same branches ends with equal version histories and the same current branch.
//! The receiver under test is the crate's own rules with the smallest driver: a gap is pulled from the
//! branch the batch came with, everything else is carried out as told.

use std::collections::BTreeSet;

use cluster_core::{VersionHistories, VersionItem};
use proptest::{prelude::*, sample::Index};
use replication_ndc::{Absent, BatchDecision, Incoming, batch_decision::fork_token, branch};

type Items = Vec<VersionItem>;

/// A tree of branches as clusters make them: each grows from an event of an earlier one, under versions
/// higher than the one it leaves and used nowhere else.
fn tree() -> impl Strategy<Value = Vec<Items>> {
    let growth = (
        any::<Index>(),
        any::<Index>(),
        prop::collection::vec(1_i64..5, 1..4),
    );
    (1_i64..8, prop::collection::vec(growth, 0..6)).prop_map(|(root, growths)| {
        let mut branches = vec![vec![VersionItem {
            event_id: root.into(),
            version: 1.into(),
        }]];
        let mut version = 1;
        for (base, at, steps) in growths {
            let base = &branches[base.index(branches.len())];
            let mut event = 1 + at.index(base.last().unwrap().event_id.get() as usize) as i64;
            let mut grown = branch::up_to(base, event.into());
            for step in steps {
                (event, version) = (event + step, version + 1);
                branch::append(&mut grown, event.into(), version.into()).unwrap();
            }
            branches.push(grown);
        }
        branches
    })
}

/// One batch: events `first..=last` of one version, and the branch they came with.
#[derive(Clone, Debug)]
struct Batch {
    items: Items,
    first: i64,
    last: i64,
}

impl Batch {
    fn version(&self) -> i64 {
        branch::version_of(&self.items, self.first.into())
            .unwrap()
            .get()
    }

    fn incoming(&self) -> Incoming<'_> {
        Incoming {
            items: &self.items,
            first: self.first.into(),
            next: (self.last + 1).into(),
            version: self.version().into(),
        }
    }
}

/// The batches that wrote a branch, each with the branch as it was then or as it is now.
fn batches(items: &Items, size: i64, whole: bool) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut first = 1;
    for item in items {
        while first <= item.event_id.get() {
            let last = (first + size - 1).min(item.event_id.get());
            let items = if whole {
                items.clone()
            } else {
                branch::up_to(items, last.into())
            };
            batches.push(Batch { items, first, last });
            first = last + 1;
        }
    }
    batches
}

fn deliver(local: &mut Option<VersionHistories>, batch: &Batch) {
    let Some(histories) = local else {
        match batch.incoming().for_absent().unwrap() {
            Absent::Create => {
                let mut created = VersionHistories::single(Default::default());
                let (last, version) = (batch.last.into(), batch.version().into());
                branch::append(&mut created.current_mut().items, last, version).unwrap();
                *local = Some(created);
            }
            Absent::Gap(_) => {
                pull(local, &batch.items, 1, batch.first);
                deliver(local, batch);
            }
        }
        return;
    };
    match batch.incoming().against(histories).unwrap() {
        BatchDecision::Duplicate => {}
        BatchDecision::Gap(missing) => {
            let from = missing.after.unwrap().event_id.get() + 1;
            pull(local, &batch.items, from, missing.before.event_id.get());
            deliver(local, batch);
        }
        BatchDecision::Apply(plan) => {
            let incoming = batch.incoming();
            let index = plan
                .carry_out(
                    histories,
                    |base, at| fork_token(&base.branch, at, at.to_string()),
                    incoming.next,
                    incoming.version,
                )
                .unwrap();
            branch::check(&histories.histories[index].items).unwrap();
        }
    }
    let histories = local.as_ref().unwrap();
    assert_eq!(crate::election::elect(histories), histories.current);
}

fn pull(local: &mut Option<VersionHistories>, items: &Items, from: i64, to: i64) {
    for missing in batches(items, 1, true) {
        if missing.first >= from && missing.last < to {
            deliver(local, &missing);
        }
    }
}

fn flat(items: &[VersionItem]) -> Vec<(i64, i64)> {
    items
        .iter()
        .map(|i| (i.event_id.get(), i.version.get()))
        .collect()
}

/// The branches that are not the beginning of another one.
fn leaves(branches: &[Items]) -> BTreeSet<Vec<(i64, i64)>> {
    let is_part =
        |a: &Items, b: &Items| a != b && branch::lowest_common_ancestor(a, b) == a.last().copied();
    branches
        .iter()
        .filter(|a| !branches.iter().any(|b| is_part(a, b)))
        .map(|items| flat(items))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn order_does_not_matter(
        branches in tree(),
        size in 1_i64..4,
        whole in any::<bool>(),
        order in prop::collection::vec(any::<u32>(), 128),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let mut tasks: Vec<Batch> =
            branches.iter().flat_map(|items| batches(items, size, whole)).collect();
        for index in repeated {
            tasks.push(tasks[index.index(tasks.len())].clone());
        }
        let mut keyed: Vec<_> = tasks.iter().enumerate().collect();
        keyed.sort_by_key(|(i, _)| order[i % order.len()].wrapping_add(*i as u32 / 128));
        let mut local = None;
        for (_, task) in keyed {
            deliver(&mut local, task);
        }
        let local = local.unwrap();
        let held: BTreeSet<_> = local.histories.iter().map(|h| flat(&h.items)).collect();
        prop_assert_eq!(&held, &leaves(&branches));
        prop_assert_eq!(held.len(), local.histories.len());
        let highest = held.iter().map(|items| items.last().unwrap().1).max();
        prop_assert_eq!(flat(&local.current().items).last().map(|i| i.1), highest);
    }
}
