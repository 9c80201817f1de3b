//! Watches beside the load: who each cluster believes to be active, and how long a fresh write takes
//! from one cluster to another. Markers are signals to a workflow nobody works on, seen by a long poll
//! that the other cluster must answer from its own data.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto_messages::temporal::api::{
    enums::v1::ReplicationState, history::v1::history_event::Attributes,
};
use scenarios_load::{
    client::{Client, Whose},
    script::{Script, Step},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Side, clients::FINISH};
use crate::{
    oracle::{Op, Oracle},
    timeline::{Kind, LagSample, Timeline},
    world,
};

/// How often a cluster is asked about its role.
const ROLE_EVERY: Duration = Duration::from_millis(200);

/// How often a marker is written.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// How often a follower reads a history from its beginning.
const READ_AGAIN: Duration = Duration::from_secs(3);

/// The workflow of the lag probe.
const PROBE: &str = "probe-lag";

/// Notes every change in what a cluster says about the namespace.
pub(super) async fn watch_role(side: Side, timeline: Timeline, stop: CancellationToken) {
    let mut last = String::new();
    let mut every = tokio::time::interval(ROLE_EVERY);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        let now = match world::describe(side.client.connections()).await {
            Ok(description) => {
                let config = description.replication_config.unwrap_or_default();
                let handover = config.state() == ReplicationState::Handover;
                format!(
                    "{} active, version {}{}",
                    config.active_cluster_name,
                    description.failover_version,
                    if handover { ", hand-over" } else { "" }
                )
            }
            Err(_) => "does not answer".to_owned(),
        };
        if now != last {
            timeline.mark(Kind::Role, Some(&side.cluster), now.clone());
            last = now;
        }
    }
}

/// When a follower first saw each marker, by the marker's name.
#[derive(Clone, Default)]
pub(crate) struct Markers {
    first_seen: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Markers {
    fn note(&self, name: String) {
        let mut seen = self.first_seen.lock();
        seen.entry(name).or_insert_with(Instant::now);
    }

    /// When a marker was first seen.
    pub(crate) fn seen(&self, name: &str) -> Option<Instant> {
        self.first_seen.lock().get(name).copied()
    }

    /// Follows a run on one cluster and notes the signals it sees, until dropped.
    pub(crate) async fn follow(self, client: Client, id: String, run: String) {
        let mut token = Bytes::new();
        let mut begun = Instant::now();
        loop {
            // A history that forked may have changed before the place a token stands for.
            if begun.elapsed() > READ_AGAIN {
                token = Bytes::new();
                begun = Instant::now();
            }
            match client
                .next_events(&id, &run, token.clone(), Whose::Own)
                .await
            {
                Ok((events, next)) => {
                    for event in events {
                        if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) =
                            event.attributes
                        {
                            self.note(a.signal_name);
                        }
                    }
                    // A run that ended is read from its beginning; seeing twice is harmless.
                    token = next;
                    if token.is_empty() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Err(_) => {
                    token = Bytes::new();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Measures lag all the time: markers go through whichever side takes them, and every side is followed.
pub(super) struct Lag {
    sides: Vec<Side>,
    oracle: Oracle,
    timeline: Timeline,
}

impl Lag {
    pub(super) fn new(sides: Vec<Side>, oracle: Oracle, timeline: Timeline) -> Self {
        Self {
            sides,
            oracle,
            timeline,
        }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let input = Script {
            steps: vec![Step::Until(FINISH.to_owned())],
            ..Default::default()
        }
        .input(0);
        let begun = Instant::now();
        let Ok(run) = self.sides[0].client.start(PROBE, PROBE, &input).await else {
            tracing::warn!("lag is not measured: its workflow could not be started");
            return;
        };
        let first = &self.sides[0].cluster;
        self.oracle
            .record(first, Op::Start, PROBE, &run, begun.elapsed(), Ok(()));
        let markers: Vec<Markers> = self.sides.iter().map(|_| Markers::default()).collect();
        let mut followers = JoinSet::new();
        for (side, markers) in self.sides.iter().zip(&markers) {
            let follow = markers
                .clone()
                .follow(side.client.clone(), PROBE.to_owned(), run.clone());
            followers.spawn(follow);
        }
        let mut every = tokio::time::interval(MARK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut waiting: Vec<(String, usize, Instant)> = Vec::new();
        for n in 0u64.. {
            if stop.run_until_cancelled(every.tick()).await.is_none() {
                break;
            }
            let name = format!("mark-{n}");
            if let Some(writer) = self.write(&name).await {
                waiting.push((name, writer, Instant::now()));
            }
            self.settle(&mut waiting, &markers);
        }
        self.write(FINISH).await;
    }

    /// Writes a marker through the first side that takes it at once.
    async fn write(&self, name: &str) -> Option<usize> {
        for (index, side) in self.sides.iter().enumerate() {
            let begun = Instant::now();
            let call = side.client.signal(PROBE, name, name);
            let outcome = tokio::time::timeout(Duration::from_secs(1), call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("given up after 1 s")));
            let op = Op::Signal {
                name: name.to_owned(),
            };
            let known = outcome.as_ref().copied();
            self.oracle
                .record(&side.cluster, op, PROBE, "", begun.elapsed(), known);
            if outcome.is_ok() {
                return Some(index);
            }
        }
        None
    }

    /// Turns markers into samples: those that every side has seen for good, the oldest missing one for
    /// as long as it is missing.
    fn settle(&self, waiting: &mut Vec<(String, usize, Instant)>, markers: &[Markers]) {
        let clock = self.timeline.clock();
        waiting.retain(|(name, writer, acknowledged)| {
            let sights: Vec<Option<Instant>> = markers.iter().map(|m| m.seen(name)).collect();
            let Some(last) = sights
                .iter()
                .copied()
                .collect::<Option<Vec<_>>>()
                .and_then(|s| s.into_iter().max())
            else {
                return true;
            };
            // The side where it showed last is the one it had to travel to.
            let to = sights
                .iter()
                .position(|s| *s == Some(last))
                .unwrap_or_default();
            let first = sights.iter().flatten().min().copied().unwrap_or(last);
            let lag = last.saturating_duration_since(first.max(*acknowledged));
            self.timeline.lag(LagSample {
                at_ms: clock.ms_at(*acknowledged),
                from: self.sides[*writer].cluster.clone(),
                to: self.sides[to].cluster.clone(),
                lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
                seen: true,
            });
            false
        });
        if let Some((name, writer, acknowledged)) = waiting.first()
            && acknowledged.elapsed() > Duration::from_secs(1)
        {
            let missing = markers.iter().position(|m| m.seen(name).is_none());
            self.timeline.lag(LagSample {
                at_ms: clock.now_ms(),
                from: self.sides[*writer].cluster.clone(),
                to: self.sides[missing.unwrap_or_default()].cluster.clone(),
                lag_ms: u64::try_from(acknowledged.elapsed().as_millis()).unwrap_or(u64::MAX),
                seen: false,
            });
        }
    }
}
