//! The general transaction on one workflow id: read, decide, stage, submit. Everything staged is committed
//! together, and the next transaction builds on it before it is durable.

use std::sync::Arc;

use cluster_core::{
    BranchToken, DecisionContext, Delta, Durability, EventBatch, IdSeed, Limits, MutableState,
    Reply, Task, TaskKind, Transition,
};
use namespaces::Namespace;
use proto_ids::{FailoverVersion, RunId, Timestamp};
use proto_messages::Wire;
use proto_messages::temporal::api::history::v1::History;
use schema_store::execution::{BranchRecord, CurrentRecord, HistoryNode};

use crate::{
    error::{ShardError, TxnError},
    load::{Locked, Slot, WorkflowKey},
    queue::{QueuedTask, Rescheduled},
    record,
    shard::Shard,
};

mod handed_out;
mod submit;

use handed_out::HandedOut;

/// The context of one decision: its time, the namespace's failover version, limits, and a fresh seed.
#[derive(Clone, Debug)]
pub struct OwnedDecisionContext {
    now: Timestamp,
    version: FailoverVersion,
    clock: i64,
    limits: Arc<Limits>,
    seed: IdSeed,
}

/// The change of the workflow id's current pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CurrentChange {
    /// It stays. (When it names a run that closes, its status follows by itself.)
    #[default]
    Keep,
    /// It names this run now, whatever it named before.
    Become,
}

/// The condition under which a transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only while the namespace is active here and not in handover.
    Active,
    /// Always: events of other clusters, and deletions on a standby.
    Replicating,
}

/// A transaction in progress; the workflow id is locked. Dropping it half-way drops what it changed.
pub struct Txn {
    locked: Locked,
    namespace: Arc<Namespace>,
    limits: Arc<Limits>,
    mode: Mode,
    staged: Vec<Staged>,
    /// A run was handed out to be changed.
    touched: bool,
    /// Runs that were handed out and not staged since, as they were.
    handed_out: Vec<HandedOut>,
    invalidated: bool,
    finished: bool,
}

/// The staged write of one run.
struct Staged {
    run_id: RunId,
    delete: bool,
    delta: Delta,
    nodes: Vec<HistoryNode>,
    branches: Vec<BranchRecord>,
    tasks: Vec<Task>,
    rescheduled: Vec<Rescheduled>,
    durability: Durability,
    current: CurrentChange,
}

impl OwnedDecisionContext {
    /// The context as the core takes it.
    pub fn borrowed(&self) -> DecisionContext<'_> {
        DecisionContext {
            now: self.now,
            version: self.version,
            clock: self.clock,
            limits: &self.limits,
            seed: self.seed,
        }
    }

    /// The time of the decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl Txn {
    pub(crate) async fn begin<E>(
        shard: &Shard,
        key: WorkflowKey,
        mode: Mode,
    ) -> Result<Self, TxnError<E>> {
        let host = &shard.0.host;
        if !shard.0.lane.has_room() {
            return Err(TxnError::Busy(format!(
                "commit lane {} is full",
                shard.0.lane.name()
            )));
        }
        let namespace = match host.namespace(&key.namespace_id).await {
            // What is left of a deleted namespace can still be deleted.
            Err(TxnError::NamespaceNotFound(id)) if mode == Mode::Replicating => {
                Arc::new(Namespace {
                    id,
                    ..Namespace::default()
                })
            }
            found => found?,
        };
        if mode == Mode::Active {
            host.admit(&namespace)?;
        }
        let limits = host.limits.of(&namespace);
        let locked = Locked::lock(shard, key).await?;
        Ok(Self {
            locked,
            namespace,
            limits,
            mode,
            staged: Vec::new(),
            touched: false,
            handed_out: Vec::new(),
            invalidated: false,
            finished: false,
        })
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.locked.shard
    }

    /// The namespace as it was when the transaction began.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A context for one decision, with a seed of its own.
    pub fn decision_context(&self) -> OwnedDecisionContext {
        OwnedDecisionContext {
            now: self.locked.shard.0.host.now(),
            version: self.namespace.failover_version,
            clock: self.locked.shard.0.lease.tick(),
            limits: self.limits.clone(),
            seed: IdSeed(rand::random()),
        }
    }

    /// The workflow id's current pointer.
    pub async fn current(&mut self) -> Result<Option<CurrentRecord>, ShardError> {
        self.locked.current().await.cloned()
    }

    /// A run, to look at.
    pub async fn peek(&mut self, run_id: &RunId) -> Result<Option<&MutableState>, ShardError> {
        let at = self.locked.find(run_id).await?;
        Ok(at.map(|at| &self.locked.cached.runs[at].mutable_state))
    }

    /// A run, to decide on. A change of it has to be staged with [`Self::put`] or [`Self::replace`]; a caller
    /// that changed a run and then gives up calls [`Self::invalidate`]. (A refused request changes nothing;
    /// that is checked when the transaction ends.)
    pub async fn run(&mut self, run_id: &RunId) -> Result<Option<&mut MutableState>, ShardError> {
        let Some(at) = self.locked.find(run_id).await? else {
            return Ok(None);
        };
        self.touched = true;
        let ms = &mut self.locked.cached.runs[at].mutable_state;
        if !self.handed_out.iter().any(|h| h.run_id == *run_id) {
            self.handed_out.push(HandedOut::new(ms));
        }
        Ok(Some(ms))
    }

    /// Invalidates what is in memory of this workflow id: it is dropped when the transaction ends, whatever it
    /// ends with, and nothing staged is written.
    pub fn invalidate(&mut self) {
        self.invalidated = true;
    }

    /// Stages a decision made on a loaded run: events on its current branch, its changed parts, tasks, and
    /// the run that continues it, which becomes current.
    pub fn put(&mut self, run_id: &RunId, transition: Transition) -> Result<Reply, ShardError> {
        let slot = self.slot(run_id)?;
        let branch = branch_of(&slot.mutable_state)?;
        let nodes = transition.events.into_iter().map(|b| node_of(&branch, b));
        let staged = self.stage(run_id);
        staged.nodes.extend(nodes);
        staged.delta.merge(transition.delta);
        staged.tasks.extend(transition.tasks);
        staged.durability = stronger(staged.durability, transition.durability);
        if let Some(new) = transition.new_run {
            self.insert(
                new.mutable_state,
                new.events,
                new.tasks,
                CurrentChange::Become,
            )?;
        }
        Ok(transition.reply)
    }

    /// Stages a run that does not exist yet; `events` go to its current branch.
    pub fn insert(
        &mut self,
        ms: MutableState,
        events: Vec<EventBatch>,
        tasks: Vec<Task>,
        current: CurrentChange,
    ) -> Result<(), ShardError> {
        self.touched = true;
        let branch = branch_of(&ms)?;
        let run_id = ms.key.run_id.clone();
        let record = self.branch_record(&branch);
        self.locked
            .cached
            .runs
            .retain(|s| s.mutable_state.key.run_id != run_id);
        self.locked.cached.runs.push(Slot {
            mutable_state: ms,
            row: 0,
            write_behind: None,
            ahead: false,
            last: None,
            execution_info_bytes: 0,
            start_bytes: 0,
            item_bytes: 0,
        });
        let staged = self.stage(&run_id);
        staged.delta = Delta {
            start: true,
            replaced: true,
            ..Delta::default()
        };
        staged
            .nodes
            .extend(events.into_iter().map(|b| node_of(&branch, b)));
        staged.branches.push(record);
        staged.tasks.extend(tasks);
        staged.durability = Durability::Durable;
        staged.current = current;
        Ok(())
    }

    /// Stages events on any branch of a loaded run, current or not. The version histories in its state are
    /// the caller's to extend.
    pub fn write_branch_events(
        &mut self,
        run_id: &RunId,
        branch: &BranchToken,
        events: Vec<EventBatch>,
    ) -> Result<(), ShardError> {
        self.slot(run_id)?;
        let staged = self.stage(run_id);
        staged
            .nodes
            .extend(events.into_iter().map(|b| node_of(branch, b)));
        staged.durability = Durability::Durable;
        Ok(())
    }

    /// Stages a branch that begins now (a fork).
    pub fn new_branch(&mut self, run_id: &RunId, branch: &BranchToken) -> Result<(), ShardError> {
        self.slot(run_id)?;
        let record = self.branch_record(branch);
        let staged = self.stage(run_id);
        staged.branches.push(record);
        staged.durability = Durability::Durable;
        Ok(())
    }

    /// Stages a whole new state of an existing run (another branch won, or a snapshot arrived).
    pub fn replace(&mut self, ms: MutableState, tasks: Vec<Task>) -> Result<(), ShardError> {
        let run_id = ms.key.run_id.clone();
        self.slot(&run_id)?.mutable_state = ms;
        self.touched = true;
        let staged = self.stage(&run_id);
        staged.delta.merge(Delta {
            start: true,
            replaced: true,
            ..Delta::default()
        });
        staged.tasks.extend(tasks);
        staged.durability = Durability::Durable;
        Ok(())
    }

    /// Stages tasks that no change of state comes with.
    pub fn add_tasks(&mut self, run_id: &RunId, tasks: Vec<Task>) -> Result<(), ShardError> {
        self.slot(run_id)?;
        let staged = self.stage(run_id);
        staged.tasks.extend(tasks);
        staged.durability = Durability::Durable;
        Ok(())
    }

    /// Makes a loaded run the workflow id's current one.
    pub fn set_current(&mut self, run_id: &RunId) -> Result<(), ShardError> {
        self.slot(run_id)?;
        let staged = self.stage(run_id);
        staged.current = CurrentChange::Become;
        staged.durability = Durability::Durable;
        Ok(())
    }

    /// Stages the removal of a loaded run; the current pointer goes with it when it names this run, and its
    /// visibility row follows. History is deleted apart.
    pub fn delete(&mut self, run_id: &RunId) -> Result<(), ShardError> {
        let version = self.slot(run_id)?.mutable_state.last_version();
        let staged = self.stage(run_id);
        staged.delete = true;
        staged.tasks.push(Task {
            version,
            fire_at: None,
            kind: TaskKind::Visibility,
        });
        staged.durability = Durability::Durable;
        self.touched = true;
        Ok(())
    }

    /// Reschedules a stored task to a timer row.
    pub(crate) fn reschedule(&mut self, task: Arc<QueuedTask>, fire_at: Timestamp) {
        let run_id = task.run.run_id.clone();
        let staged = self.stage(&run_id);
        staged.rescheduled.push(Rescheduled { task, fire_at });
        staged.durability = Durability::Durable;
    }

    /// Stages write-behind state of at least this age.
    pub(crate) fn stage_write_behind(&mut self, older_than: std::time::Duration) {
        let old = |s: &&Slot| {
            s.write_behind
                .as_ref()
                .is_some_and(|b| b.since.elapsed() >= older_than)
        };
        let runs = self.locked.cached.runs.iter().filter(old);
        let runs: Vec<_> = runs.map(|s| s.mutable_state.key.run_id.clone()).collect();
        for run_id in runs {
            self.stage(&run_id).durability = Durability::Durable;
        }
        if self
            .locked
            .cached
            .runs
            .iter()
            .all(|s| s.write_behind.is_none())
        {
            // It was dropped with the state it belonged to.
            let shard = &self.locked.shard;
            shard.forget_write_behind(&self.locked.entry.key);
        }
    }

    /// Ends the transaction: what is staged goes to the lane, the lock is given up, and the answer waits for
    /// the last write of this workflow id that it may have seen.
    pub(crate) async fn end<T, E>(mut self, result: Result<T, E>) -> Result<T, TxnError<E>> {
        self.check_handed_out();
        let submitted = match &result {
            Ok(_) if self.invalidated => Err(TxnError::Shard(ShardError::Dropped(
                "the transaction was invalidated".to_owned(),
            ))),
            Ok(_) => self.submit().await,
            Err(_) => Ok(()),
        };
        // Not before: a transaction that is cancelled while it submits leaves changes that will never be written.
        self.finished = true;
        if self.invalidated || submitted.is_err() || (result.is_err() && !self.staged.is_empty()) {
            self.locked.invalidate();
        }
        let last = self.locked.cached.last.clone();
        drop(self);
        submitted?;
        if let Some(last) = last {
            last.wait().await?;
        }
        result.map_err(TxnError::Decided)
    }

    /// The same without waiting for anything.
    pub(crate) async fn end_unawaited(mut self) -> Result<(), TxnError<()>> {
        let submitted = self.submit().await;
        self.finished = true;
        if submitted.is_err() {
            self.locked.invalidate();
        }
        submitted
    }

    /// A run that was changed and not staged is a decision that was given up half-way: nothing of it may stay.
    fn check_handed_out(&mut self) {
        for handed_out in std::mem::take(&mut self.handed_out) {
            let Some(at) = self.locked.loaded(&handed_out.run_id) else {
                continue;
            };
            let ms = &self.locked.cached.runs[at].mutable_state;
            if handed_out.is_changed(ms) {
                tracing::error!(shard = %self.locked.shard.id(), run = %ms.key,
                    "a run was changed in memory and nothing of it staged; it is read again");
                self.invalidated = true;
            }
        }
    }

    fn slot(&mut self, run_id: &RunId) -> Result<&mut Slot, ShardError> {
        match self.locked.loaded(run_id) {
            Some(at) => Ok(&mut self.locked.cached.runs[at]),
            None => Err(ShardError::Corrupt(format!(
                "run {run_id} is staged but was never loaded"
            ))),
        }
    }

    fn stage(&mut self, run_id: &RunId) -> &mut Staged {
        self.handed_out.retain(|h| h.run_id != *run_id);
        let at = self
            .staged
            .iter()
            .position(|s| s.run_id == *run_id)
            .unwrap_or_else(|| {
                self.staged.push(Staged {
                    run_id: run_id.clone(),
                    delete: false,
                    delta: Delta::default(),
                    nodes: Vec::new(),
                    branches: Vec::new(),
                    tasks: Vec::new(),
                    rescheduled: Vec::new(),
                    durability: Durability::None,
                    current: CurrentChange::Keep,
                });
                self.staged.len() - 1
            });
        &mut self.staged[at]
    }

    fn branch_record(&self, branch: &BranchToken) -> BranchRecord {
        record::branch_record(self.locked.shard.id(), branch)
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        // Cancelled half-way: what was changed in memory was never staged, or never submitted.
        if !self.finished && (self.touched || !self.staged.is_empty()) {
            self.locked.invalidate();
        }
    }
}

/// The stronger of two durabilities, for several decisions of one transaction.
fn stronger(a: Durability, b: Durability) -> Durability {
    let rank = |d: Durability| match d {
        Durability::None => 0,
        Durability::WriteBehind => 1,
        Durability::Durable => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn branch_of(ms: &MutableState) -> Result<BranchToken, ShardError> {
    let versions = &ms.versions;
    match versions.histories.get(versions.current) {
        Some(history) => Ok(history.branch.clone()),
        None => Err(ShardError::Corrupt(format!("run {} has no branch", ms.key))),
    }
}

fn node_of(branch: &BranchToken, batch: EventBatch) -> HistoryNode {
    HistoryNode {
        tree_id: branch.tree_id.clone(),
        branch_id: branch.branch_id.clone(),
        node_id: batch.first_event_id().get(),
        next_node_id: batch.next_event_id().get(),
        data: History {
            events: batch.events,
        }
        .to_wire(),
    }
}
