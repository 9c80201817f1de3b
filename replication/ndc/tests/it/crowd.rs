//! Runs of one workflow id, written by clusters that do not hear of one another, arrive in any order: every
//! cluster ends with the same current run, whatever the wall clocks of the writers said, and no run stands
//! aside for one that is not there.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::Index};
use proto_ids::{FailoverVersion, RunId, Timestamp};
use replication_ndc::{Arbitration, RunFacts, Suppress, runs};

/// One batch of a run, on whatever branch.
#[derive(Clone, Debug)]
struct Batch {
    run: usize,
    version: i64,
    clock: i64,
    closes: bool,
}

/// What the clusters wrote, and when each run says it started.
#[derive(Clone, Debug)]
struct Written {
    batches: Vec<Batch>,
    started: Vec<i64>,
}

/// Each version is one cluster's: it goes on with a run of an earlier version or starts its own, one after the
/// other, and numbers what it writes.
fn written() -> impl Strategy<Value = Written> {
    let run = (1_usize..4, any::<i32>());
    let line = (
        any::<Option<Index>>(),
        prop::collection::vec(run, 1..4),
        any::<bool>(),
    );
    prop::collection::vec(line, 1..5).prop_map(|lines| {
        let mut written = Written {
            batches: Vec::new(),
            started: Vec::new(),
        };
        for (at, (takes_over, runs, ends_open)) in lines.into_iter().enumerate() {
            let version = at as i64 + 1;
            // Numbers of different clusters have nothing to do with one another.
            let mut clock = 1_000 - 100 * version;
            let last = runs.len() - 1;
            for (n, (batches, started)) in runs.into_iter().enumerate() {
                let known = written.started.len();
                let run = match takes_over.filter(|_| n == 0 && known > 0) {
                    Some(index) => index.index(known),
                    None => {
                        written.started.push(i64::from(started));
                        known
                    }
                };
                for batch in 0..batches {
                    clock += 2;
                    let closes = batch + 1 == batches && !(n == last && ends_open);
                    written.batches.push(Batch {
                        run,
                        version,
                        clock,
                        closes,
                    });
                }
            }
        }
        written
    })
}

/// What one cluster holds.
#[derive(Default)]
struct Held {
    runs: BTreeMap<usize, RunFacts>,
    zombies: Vec<usize>,
    current: Option<usize>,
    /// Versions of this cluster: runs it wrote last it ends itself.
    own: Option<i64>,
}

impl Held {
    fn take(&mut self, batch: &Batch, started: i64) {
        let version = FailoverVersion::new(batch.version);
        let facts = self.runs.entry(batch.run).or_insert_with(|| RunFacts {
            run_id: RunId::new(format!("run-{}", 99 - batch.run)),
            first_version: version,
            first_clock: batch.clock,
            started: Timestamp::from_nanos(started),
            ..RunFacts::default()
        });
        if (version, batch.clock) <= (facts.last_version, facts.last_clock) {
            return;
        }
        (facts.last_version, facts.last_clock) = (version, batch.clock);
        facts.open = !batch.closes;
        let target = facts.clone();
        let current = self.current.map(|run| self.runs[&run].clone());
        let is_local = |version: FailoverVersion| self.own == Some(version.get());
        match runs::arbitrate(&target, current.as_ref(), is_local) {
            Arbitration::Current => self.take_place(batch.run),
            Arbitration::Takes(suppress) => {
                if let Some(loser) = self.current {
                    match suppress {
                        Suppress::Closed => {}
                        Suppress::Zombie => self.zombies.push(loser),
                        Suppress::Terminate => self.end(loser),
                    }
                }
                self.take_place(batch.run);
            }
            Arbitration::Beside if target.open => self.zombies.push(batch.run),
            Arbitration::Beside => {}
        }
    }

    fn take_place(&mut self, run: usize) {
        self.zombies.retain(|zombie| *zombie != run);
        self.current = Some(run);
    }

    fn end(&mut self, run: usize) {
        let facts = self.runs.get_mut(&run).unwrap();
        facts.open = false;
        facts.last_clock += 1;
    }
}

fn deliver(written: &Written, order: &[u32], own: Option<i64>) -> Held {
    let mut held = Held {
        own,
        ..Held::default()
    };
    let mut batches: Vec<_> = written.batches.iter().enumerate().collect();
    batches.sort_by_key(|(at, _)| (order[at % order.len()], *at));
    for (_, batch) in batches {
        held.take(batch, written.started[batch.run]);
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_cluster_ends_with_the_same_current_run(
        written in written(),
        one in prop::collection::vec(any::<u32>(), 64),
        other in prop::collection::vec(any::<u32>(), 64),
        own in 1_i64..5,
    ) {
        let ends = [
            deliver(&written, &one, None),
            deliver(&written, &other, Some(own)),
            deliver(&written, &[0], Some(own)),
        ];
        // What was written last under the highest version.
        let newest = written.batches.iter().max_by_key(|b| (b.version, b.clock)).unwrap();
        for held in &ends {
            prop_assert_eq!(held.current, Some(newest.run));
            let winner = &held.runs[&newest.run];
            for (run, facts) in &held.runs {
                let stands_aside = held.zombies.contains(run);
                prop_assert!(stands_aside || !facts.open || *run == newest.run);
                prop_assert!(!stands_aside || (*run != newest.run && winner.wins_over(facts)));
            }
        }
    }
}
