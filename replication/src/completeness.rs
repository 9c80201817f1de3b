//! Whether another cluster has everything that this one, the active one, has of a namespace. Acknowledgements
//! cannot tell: a run may never have been sent because the cluster was added late, its tasks may have been
//! trimmed or dead-lettered, or the other side may have lost its disk. So the runs themselves are compared, page
//! by page; afterwards only those that changed meanwhile are, so that the last look, while writes are held back,
//! does not grow with the namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cluster_rpc::ReplicationClient;
use futures::{StreamExt, TryStreamExt, stream};
use proto_ids::{ClusterName, NamespaceId};
use proto_messages::{
    meridian::replication::v1::{
        Completeness, ListShardRunsRequest, RunDifference, RunStanding, run_difference::Kind,
    },
    temporal::api::common::v1::WorkflowExecution,
};
use tokio::time::Instant;
use tonic::Status;

use crate::remotes::Remotes;

mod calls;
mod told;

pub use told::{is_complete, names};

/// Runs compared in one call.
const PAGE: usize = 500;
/// Shards looked at at once.
const AT_ONCE: usize = 4;
/// How long what was written before a comparison may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Pause between two looks at what is on its way.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Changed runs that may be left for the last look.
const LEFT_MAX: usize = 100;
/// Looks at what changed before writes are held back.
const CATCH_UP_ROUNDS: usize = 10;
/// Runs that are lacking and kept to be looked at again; more are counted.
const OPEN_MAX: usize = 10_000;
/// Differences that are reported one by one.
pub const TOLD_MAX: usize = 100;

/// The reason why a comparison has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComparisonError {
    /// The peer does not offer the comparison, or cannot be reached.
    #[error("{0}")]
    Unknown(String),
    /// The comparison has to begin anew.
    #[error("{0}")]
    Interrupted(String),
}

/// A run, by (workflow id, run id).
type Key = (String, String);

/// A run that the target was not found to have.
struct Open {
    standing: RunStanding,
    difference: RunDifference,
}

/// The result of reading one shard.
#[derive(Default)]
struct Look {
    through: i64,
    runs: Vec<RunStanding>,
}

/// A comparison of one namespace with one cluster, under way.
pub struct Check {
    shards: ReplicationClient,
    remotes: Remotes,
    namespace_id: NamespaceId,
    to: ClusterName,
    /// The name under which shards keep what changes.
    watch: String,
    /// Up to where changes were looked at, by shard.
    seen: BTreeMap<i32, i64>,
    checked: u64,
    open: BTreeMap<Key, Open>,
    /// Further runs it was not found to have.
    more_open: usize,
    /// Runs with buffered events, and how many.
    buffered: BTreeMap<Key, i32>,
    dead_letters: i64,
    dead_letter_runs: Vec<WorkflowExecution>,
    /// Whether all runs were compared.
    compared: bool,
}

/// Says that the target had every run at a moment when none could change. Only [`Check::settle`] makes one.
#[derive(Debug)]
pub struct Complete {
    /// Runs that had to be waited for.
    pub waited_for: usize,
}

impl Check {
    /// Compares the namespace here with the namespace in `to`; nothing happens yet.
    pub fn new(
        shards: ReplicationClient,
        remotes: Remotes,
        namespace_id: NamespaceId,
        to: ClusterName,
    ) -> Self {
        Self {
            shards,
            remotes,
            namespace_id,
            to,
            watch: uuid::Uuid::new_v4().to_string(),
            seen: BTreeMap::new(),
            checked: 0,
            open: BTreeMap::new(),
            more_open: 0,
            buffered: BTreeMap::new(),
            dead_letters: 0,
            dead_letter_runs: Vec::new(),
            compared: false,
        }
    }

    /// Compares all runs. What is on its way is waited for, for a while; `progress` is notified of how many
    /// were compared.
    pub async fn all(&mut self, progress: impl Fn(u64)) -> Result<(), ComparisonError> {
        self.ask_dead_letters().await?;
        for shard_id in 1..=self.shards.shard_count() {
            // From here on changes are kept, so none falls between the pages.
            let begun = self.changed_page(shard_id, 0).await?;
            self.seen.insert(shard_id, begun.0.through);
            let mut after = (None, String::new());
            loop {
                let page = ListShardRunsRequest {
                    shard_id,
                    namespace_id: self.namespace_id.to_string(),
                    after: after.0,
                    after_namespace_id: after.1,
                    page_size: PAGE as i32,
                    ..Default::default()
                };
                let page = self.shards.list_shard_runs(page).await;
                let page = page.map_err(|s| here(shard_id, &s))?;
                self.checked += page.runs.len() as u64;
                self.take(page.runs).await?;
                progress(self.checked);
                if page.next.is_none() {
                    break;
                }
                after = (page.next, page.next_namespace_id);
            }
        }
        self.wait_for_what_is_on_its_way().await?;
        self.compared = true;
        Ok(())
    }

    /// Looks again at runs that were found lacking: each either arrives, or goes away here, or is lacking.
    async fn wait_for_what_is_on_its_way(&mut self) -> Result<(), ComparisonError> {
        let until = Instant::now() + ON_ITS_WAY;
        while !self.open.is_empty() && Instant::now() < until {
            // The more there are, the more a look costs.
            let pause = LOOK_EVERY * 5 + Duration::from_millis(self.open.len() as u64 / 10);
            tokio::time::sleep(pause).await;
            self.compare_open().await?;
        }
        let open: Vec<_> = self.open.keys().cloned().collect();
        let mut by_shard: BTreeMap<i32, Vec<WorkflowExecution>> = BTreeMap::new();
        for (workflow_id, run_id) in open {
            let shard = self.shard_of(&workflow_id);
            let run = WorkflowExecution {
                workflow_id,
                run_id,
            };
            by_shard.entry(shard).or_default().push(run);
        }
        for (shard_id, executions) in by_shard {
            for page in executions.chunks(PAGE) {
                let request = ListShardRunsRequest {
                    shard_id,
                    namespace_id: self.namespace_id.to_string(),
                    executions: page.to_vec(),
                    ..Default::default()
                };
                let now = self.shards.list_shard_runs(request).await;
                let now = now.map_err(|s| here(shard_id, &s))?;
                for run in now.runs.iter().filter(|run| run.gone) {
                    self.open.remove(&key_of(run.execution.as_ref()));
                }
            }
        }
        Ok(())
    }

    /// Compares what changed since the last look, again and again until little is left for the last one.
    pub async fn catch_up(&mut self) -> Result<(), ComparisonError> {
        for _ in 0..CATCH_UP_ROUNDS {
            if self.changes().await? <= LEFT_MAX && self.open.len() <= LEFT_MAX {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The last look: writes of the namespace are held back on every shard. Buffered events are written to
    /// history first; then all that changed is compared until the target has it. Tells what is lacking when the
    /// time is over.
    pub async fn settle(&mut self, until: Instant) -> Result<Complete, ComparisonError> {
        self.changes_within(until).await?;
        self.flush(until).await?;
        let mut waited_for = 0;
        let mut names = String::new();
        loop {
            let changed = match self.changes_within(until).await {
                // The look that was cut off says less than the one before.
                Err(ComparisonError::Interrupted(_))
                    if !names.is_empty() && Instant::now() >= until =>
                {
                    let text = format!("{} has not received {names}", self.to);
                    return Err(ComparisonError::Interrupted(text));
                }
                changed => changed?,
            };
            waited_for = waited_for.max(self.open.len());
            // Nothing changes any more, no watch was lost, and all of it is there.
            let lacking = self.open.len() + self.more_open;
            if changed == 0 && lacking == 0 && self.buffered.is_empty() {
                return Ok(Complete { waited_for });
            }
            names = self.names();
            if Instant::now() + LOOK_EVERY >= until {
                let text = format!("{} has not received {names}", self.to);
                return Err(ComparisonError::Interrupted(text));
            }
            if changed == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn changes_within(&mut self, until: Instant) -> Result<usize, ComparisonError> {
        let to = self.to.clone();
        let looked = tokio::time::timeout_at(until, self.changes()).await;
        looked.map_err(|_| {
            ComparisonError::Interrupted(format!(
                "the comparison with {to} did not end within the time"
            ))
        })?
    }

    /// Looks at what changed, and again at what was lacking. Returns how many runs changed.
    async fn changes(&mut self) -> Result<usize, ComparisonError> {
        let shards: Vec<_> = self
            .seen
            .iter()
            .map(|(shard, seen)| (*shard, *seen))
            .collect();
        let this = &*self;
        let looks: Vec<(i32, Look)> = stream::iter(shards)
            .map(|(shard, seen)| async move { Ok((shard, this.changed(shard, seen).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut runs = Vec::new();
        for (shard, look) in looks {
            self.seen.insert(shard, look.through);
            runs.extend(look.runs);
        }
        let changed = runs.len();
        // They are compared as they are now; what was known of them before is of no use.
        for run in &runs {
            self.open.remove(&key_of(run.execution.as_ref()));
        }
        self.compare_open().await?;
        self.take(runs).await?;
        Ok(changed)
    }

    /// Compares runs and notes what is lacking of them.
    async fn take(&mut self, runs: Vec<RunStanding>) -> Result<(), ComparisonError> {
        let mut asked = Vec::with_capacity(runs.len());
        for run in runs {
            let key = key_of(run.execution.as_ref());
            match run.buffered_events {
                1.. => self.buffered.insert(key.clone(), run.buffered_events),
                _ => self.buffered.remove(&key),
            };
            if run.gone {
                self.open.remove(&key);
            } else if run.damaged.is_empty() {
                asked.push(run);
            } else {
                let difference = RunDifference {
                    execution: run.execution.clone(),
                    kind: Kind::Damaged as i32,
                    detail: format!("it cannot be read in the active cluster: {}", run.damaged),
                    ..Default::default()
                };
                let standing = run;
                self.note(
                    key,
                    Open {
                        standing,
                        difference,
                    },
                );
            }
        }
        for page in asked.chunks(PAGE) {
            let answer = self.ask(page.to_vec(), false).await?;
            let mut lacking: BTreeMap<Key, RunDifference> = answer
                .differences
                .into_iter()
                .map(|d| (key_of(d.execution.as_ref()), d))
                .collect();
            for run in page {
                let key = key_of(run.execution.as_ref());
                if let Some(difference) = lacking.remove(&key) {
                    let standing = run.clone();
                    self.note(
                        key,
                        Open {
                            standing,
                            difference,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, key: Key, open: Open) {
        if self.open.len() < OPEN_MAX {
            self.open.insert(key, open);
        } else {
            self.more_open += 1;
        }
    }

    /// Asks again for what was lacking.
    async fn compare_open(&mut self) -> Result<(), ComparisonError> {
        let open = std::mem::take(&mut self.open);
        let again = open.into_values().map(|open| open.standing).collect();
        self.take(again).await
    }

    /// The runs that are lacking.
    pub fn findings(&self) -> Completeness {
        let mut lacking: BTreeSet<Key> = self.open.keys().cloned().collect();
        let mut differences: Vec<_> = self
            .open
            .values()
            .map(|open| open.difference.clone())
            .take(TOLD_MAX)
            .collect();
        for run in &self.dead_letter_runs {
            if lacking.insert(key_of(Some(run))) && differences.len() < TOLD_MAX {
                differences.push(RunDifference {
                    execution: Some(run.clone()),
                    kind: Kind::Behind as i32,
                    detail: "a change of it is a dead letter there".to_owned(),
                    ..Default::default()
                });
            }
        }
        let buffered = self
            .buffered
            .iter()
            .filter(|(key, _)| !lacking.contains(*key));
        let buffered: Vec<_> = buffered
            .map(|(key, events)| told::buffered(key, *events))
            .collect();
        let buffered_runs = buffered.len();
        differences.extend(buffered.into_iter().take(TOLD_MAX - differences.len()));
        Completeness {
            unknown: String::new(),
            checked_runs: i64::try_from(self.checked).unwrap_or(i64::MAX),
            lacking_runs: i64::try_from(lacking.len() + self.more_open).unwrap_or(i64::MAX),
            differences,
            dead_letters: self.dead_letters,
            sent_again: 0,
            buffered_runs: i64::try_from(buffered_runs).unwrap_or(i64::MAX),
        }
    }

    fn names(&self) -> String {
        let found = self.findings();
        match found.buffered_runs {
            0 => names(&found),
            runs => format!("{}; {runs} workflows have buffered events", names(&found)),
        }
    }

    fn shard_of(&self, workflow_id: &str) -> i32 {
        let shards = &self.shards;
        shards
            .shard_of(self.namespace_id.as_str(), workflow_id)
            .get()
    }
}

fn key_of(execution: Option<&WorkflowExecution>) -> Key {
    execution
        .map(|e| (e.workflow_id.clone(), e.run_id.clone()))
        .unwrap_or_default()
}

fn here(shard_id: i32, status: &Status) -> ComparisonError {
    ComparisonError::Interrupted(format!(
        "shard {shard_id} of the active cluster cannot be looked at: {}",
        status.message()
    ))
}
