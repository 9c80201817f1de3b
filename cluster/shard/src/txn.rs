//! The general transaction on one workflow id: read, decide, stage, submit. Everything staged is committed
//! together, and the next transaction builds on it before it is durable.

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

use bytes::Bytes;
use cluster_core::{
    BranchToken, Delta, Durability, EventBatch, Given, IdSeed, Outcome, Policy, Reply, Task,
    TaskKind, Workflow, task::Category,
};
use namespaces::Namespace;
use prost::Message;
use proto_ids::{FailoverVersion, RunId, TaskId, Timestamp};
use proto_messages::temporal::api::history::v1::History;
use schema_store::execution::{
    BranchRecord, CurrentExpected, CurrentRecord, CurrentWrite, Expected, HistoryNode, RowWrite,
};
use tokio::time::Instant;

use crate::{
    commit::{RunWrite, Ticket, Unit, Write, bytes_of},
    error::{ShardError, TxnError},
    load::{Behind, Locked, Slot, WorkflowKey},
    notify::RunProgress,
    queue::{Homed, QueuedTask},
    record,
    shard::Shard,
};

/// What surrounds one decision: its moment, the namespace's failover version, limits, and a fresh seed.
#[derive(Clone, Debug)]
pub struct Moment {
    now: Timestamp,
    version: FailoverVersion,
    policy: Arc<Policy>,
    seed: IdSeed,
}

/// What becomes of the workflow id's current pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CurrentChange {
    /// It stays. (When it names a run that closes, its status follows by itself.)
    #[default]
    Keep,
    /// It names this run now, whatever it named before.
    Become,
}

/// Who may write.
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
    policy: Arc<Policy>,
    mode: Mode,
    staged: Vec<Staged>,
    /// A run was handed out to be changed.
    touched: bool,
    spoiled: bool,
    finished: bool,
}

/// What is to be written of one run.
struct Staged {
    run_id: RunId,
    delete: bool,
    delta: Delta,
    nodes: Vec<HistoryNode>,
    branches: Vec<BranchRecord>,
    tasks: Vec<Task>,
    rehomed: Vec<Homed>,
    durability: Durability,
    current: CurrentChange,
}

impl Moment {
    /// As the rules take it.
    pub fn given(&self) -> Given<'_> {
        Given {
            now: self.now,
            version: self.version,
            policy: &self.policy,
            seed: self.seed,
        }
    }

    /// The moment of the decision.
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
        let namespace = host.namespace(&key.namespace_id).await?;
        if mode == Mode::Active {
            host.admit(&namespace)?;
        }
        let policy = host.policies.of(&namespace);
        let locked = Locked::lock(shard, key).await?;
        Ok(Self {
            locked,
            namespace,
            policy,
            mode,
            staged: Vec::new(),
            touched: false,
            spoiled: false,
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

    /// Surroundings for one decision, with a seed of its own.
    pub fn moment(&self) -> Moment {
        Moment {
            now: self.locked.shard.0.host.now(),
            version: self.namespace.failover_version,
            policy: self.policy.clone(),
            seed: IdSeed(rand::random()),
        }
    }

    /// The workflow id's current pointer.
    pub async fn current(&mut self) -> Result<Option<CurrentRecord>, ShardError> {
        self.locked.current().await.cloned()
    }

    /// A run, to look at.
    pub async fn peek(&mut self, run_id: &RunId) -> Result<Option<&Workflow>, ShardError> {
        let at = self.locked.find(run_id).await?;
        Ok(at.map(|at| &self.locked.cached.runs[at].workflow))
    }

    /// A run, to decide on. A change of it has to be staged with [`Self::put`] or [`Self::replace`]; whoever
    /// changed a run and then gives up calls [`Self::spoil`]. (A refused request changes nothing.)
    pub async fn run(&mut self, run_id: &RunId) -> Result<Option<&mut Workflow>, ShardError> {
        let Some(at) = self.locked.find(run_id).await? else {
            return Ok(None);
        };
        self.touched = true;
        Ok(Some(&mut self.locked.cached.runs[at].workflow))
    }

    /// What is in memory of this workflow id is wrong: it is dropped when the transaction ends, whatever it
    /// ends with, and nothing staged is written.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Stages a decision made on a loaded run: events on its current branch, its changed parts, tasks, and
    /// the run that continues it, which becomes current.
    pub fn put(&mut self, run_id: &RunId, outcome: Outcome) -> Result<Reply, ShardError> {
        let slot = self.slot(run_id)?;
        let branch = branch_of(&slot.workflow)?;
        let nodes = outcome.events.into_iter().map(|b| node_of(&branch, b));
        let staged = self.stage(run_id);
        staged.nodes.extend(nodes);
        staged.delta.merge(outcome.delta);
        staged.tasks.extend(outcome.tasks);
        staged.durability = stronger(staged.durability, outcome.durability);
        if let Some(new) = outcome.new_run {
            self.insert(new.workflow, new.events, new.tasks, CurrentChange::Become)?;
        }
        Ok(outcome.reply)
    }

    /// Stages a run that does not exist yet; `events` go to its current branch.
    pub fn insert(
        &mut self,
        workflow: Workflow,
        events: Vec<EventBatch>,
        tasks: Vec<Task>,
        current: CurrentChange,
    ) -> Result<(), ShardError> {
        self.touched = true;
        let branch = branch_of(&workflow)?;
        let run_id = workflow.key.run_id.clone();
        let record = self.branch_record(&branch);
        self.locked
            .cached
            .runs
            .retain(|s| s.workflow.key.run_id != run_id);
        self.locked.cached.runs.push(Slot {
            workflow,
            row: 0,
            behind: None,
            ahead: false,
            last: None,
            hot_bytes: 0,
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
    pub fn replace(&mut self, workflow: Workflow, tasks: Vec<Task>) -> Result<(), ShardError> {
        let run_id = workflow.key.run_id.clone();
        self.slot(&run_id)?.workflow = workflow;
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
        let version = self.slot(run_id)?.workflow.last_version();
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

    /// Moves a stored task to a timer row.
    pub(crate) fn rehome(&mut self, task: Arc<QueuedTask>, fire_at: Timestamp) {
        let run_id = task.run.run_id.clone();
        let staged = self.stage(&run_id);
        staged.rehomed.push(Homed { task, fire_at });
        staged.durability = Durability::Durable;
    }

    /// Stages whatever is behind, if it is that old.
    pub(crate) fn put_behind(&mut self, older_than: std::time::Duration) {
        let old = |s: &&Slot| {
            s.behind
                .as_ref()
                .is_some_and(|b| b.since.elapsed() >= older_than)
        };
        let runs: Vec<_> = self
            .locked
            .cached
            .runs
            .iter()
            .filter(old)
            .map(|s| s.workflow.key.run_id.clone())
            .collect();
        for run_id in runs {
            self.stage(&run_id).durability = Durability::Durable;
        }
    }

    /// Ends the transaction: what is staged goes to the lane, the lock is given up, and the answer waits for
    /// the last write of this workflow id that it may have seen.
    pub(crate) async fn end<T, E>(mut self, result: Result<T, E>) -> Result<T, TxnError<E>> {
        self.finished = true;
        let submitted = match &result {
            Ok(_) if self.spoiled => Err(TxnError::Shard(ShardError::Dropped(
                "the transaction was spoiled".to_owned(),
            ))),
            Ok(_) => self.submit().await,
            Err(_) => Ok(()),
        };
        if self.spoiled || submitted.is_err() || (result.is_err() && !self.staged.is_empty()) {
            self.locked.suspect();
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
        self.finished = true;
        let submitted = self.submit().await;
        if submitted.is_err() {
            self.locked.suspect();
        }
        submitted
    }

    async fn submit<E>(&mut self) -> Result<(), TxnError<E>> {
        let mut staged = std::mem::take(&mut self.staged);
        staged.retain(|s| s.durability != Durability::None || s.current != CurrentChange::Keep);
        let in_memory = |s: &Staged| {
            matches!(s.durability, Durability::Behind | Durability::Speculative)
                && s.current == CurrentChange::Keep
                // What has to go out at once cannot wait for a later write. (Other clusters can.)
                && s.tasks.iter().all(|t| t.kind.category() != Category::Transfer)
        };
        if staged.iter().all(in_memory) {
            for s in staged {
                self.keep_behind(s);
            }
            return Ok(());
        }
        let pointer = self.pointer(&staged).await?;
        let mut runs = Vec::with_capacity(staged.len());
        for s in staged {
            runs.extend(self.encode(s));
        }
        self.attach(pointer, &mut runs);
        self.hand_over(runs)
    }

    /// State that is written behind: visible at once, its timers armed at once.
    fn keep_behind(&mut self, staged: Staged) {
        let shard = self.locked.shard.clone();
        let Some(at) = self.locked.loaded(&staged.run_id) else {
            return;
        };
        let slot = &mut self.locked.cached.runs[at];
        slot.ahead = true;
        let now = shard.0.host.now();
        if staged.durability == Durability::Speculative {
            shard.arm(&slot.workflow.key, &staged.tasks, now, None);
            return;
        }
        let behind = slot.behind.get_or_insert_with(|| Behind {
            since: Instant::now(),
            delta: Delta::default(),
            nodes: Vec::new(),
            tasks: Vec::new(),
            superseded: Arc::new(AtomicBool::new(false)),
        });
        behind.delta.merge(staged.delta);
        behind.nodes.extend(staged.nodes);
        shard.arm(
            &slot.workflow.key,
            &staged.tasks,
            now,
            Some(&behind.superseded),
        );
        behind.tasks.extend(staged.tasks);
        shard.note_behind(&self.locked.entry);
    }

    /// The current pointer after everything staged, when it differs from the one before, with its guard.
    async fn pointer(&mut self, staged: &[Staged]) -> Result<Option<CurrentWrite>, ShardError> {
        // Most updates leave an open run open and need not know the pointer.
        let may_change = |s: &Staged| {
            s.delete
                || s.current == CurrentChange::Become
                || self
                    .locked
                    .loaded(&s.run_id)
                    .is_some_and(|at| !self.locked.cached.runs[at].workflow.is_running())
        };
        if self.locked.cached.current.is_none() && !staged.iter().any(may_change) {
            return Ok(None);
        }
        let before = self.locked.current().await?.clone();
        let mut after = before.clone();
        for s in staged {
            let Some(at) = self.locked.loaded(&s.run_id) else {
                continue;
            };
            let slot = &self.locked.cached.runs[at];
            let is_current = after.as_ref().is_some_and(|c| c.run_id == s.run_id);
            if s.delete {
                if is_current {
                    after = None;
                }
            } else if is_current || s.current == CurrentChange::Become {
                after = Some(current_of(&slot.workflow));
            }
        }
        if after == before {
            return Ok(None);
        }
        let expected = match &before {
            None => CurrentExpected::Absent,
            Some(record) => CurrentExpected::Run(record.run_id.clone()),
        };
        self.locked.cached.current = Some(after.clone());
        Ok(Some(CurrentWrite {
            expected,
            record: after,
        }))
    }

    /// Gives the pointer's change to the write of the run it names, or to the first.
    fn attach(&self, pointer: Option<CurrentWrite>, runs: &mut [RunWrite]) {
        let Some(pointer) = pointer else { return };
        let named = pointer.record.as_ref().map(|r| &r.run_id);
        let holder = runs
            .iter()
            .position(|r| Some(&r.key.run_id) == named)
            .unwrap_or(0);
        if let Some(run) = runs.get_mut(holder) {
            run.current = Some(pointer);
        }
    }

    /// Makes rows of a run's state, with whatever was behind.
    fn encode(&mut self, mut staged: Staged) -> Option<RunWrite> {
        let at = self.locked.shard.0.host.now();
        let key = self.locked.entry.run_key(&staged.run_id);
        let Some(place) = self.locked.loaded(&staged.run_id) else {
            // Only a task's home moves; the run itself may be gone or need not be loaded.
            let mut write = RunWrite::keep(key, Expected::Any, at);
            write.rehomed = staged.rehomed;
            return Some(write);
        };
        if staged.delete {
            let slot = self.locked.cached.runs.swap_remove(place);
            if let Some(behind) = slot.behind {
                behind.superseded.store(true, Ordering::Release);
            }
            if slot.row == 0 {
                return None;
            }
            let mut write = RunWrite::keep(key, Expected::Version(slot.row), at);
            write.row = RowWrite::Delete;
            write.tasks = staged.tasks;
            write.progress = Some(RunProgress {
                deleted: true,
                closed: true,
                ..RunProgress::default()
            });
            return Some(write);
        }
        let slot = &mut self.locked.cached.runs[place];
        if let Some(behind) = slot.behind.take() {
            behind.superseded.store(true, Ordering::Release);
            let mut delta = behind.delta;
            delta.merge(std::mem::take(&mut staged.delta));
            staged.delta = delta;
            let mut nodes = behind.nodes;
            nodes.append(&mut staged.nodes);
            staged.nodes = nodes;
            // What became obsolete meanwhile is never stored.
            let mut tasks = behind.tasks;
            tasks.retain(|t| slot.workflow.owes(&t.kind));
            tasks.append(&mut staged.tasks);
            staged.tasks = tasks;
        }
        let expected = if slot.row == 0 {
            Expected::Absent
        } else {
            Expected::Version(slot.row)
        };
        slot.row += 1;
        let hot = record::encode_hot(&slot.workflow);
        let start = staged
            .delta
            .start
            .then(|| record::encode_start(&slot.workflow));
        let items = record::encode_items(&slot.workflow, &staged.delta);
        slot.hot_bytes = hot.len();
        slot.start_bytes = start.as_ref().map_or(slot.start_bytes, Bytes::len);
        slot.item_bytes = if record::has_items(&slot.workflow) {
            slot.item_bytes
                + items
                    .iter()
                    .filter_map(|i| i.value.as_ref())
                    .map(Bytes::len)
                    .sum::<usize>()
        } else {
            0
        };
        Some(RunWrite {
            expected,
            row: RowWrite::Put {
                version: slot.row,
                hot,
                start,
            },
            items,
            items_replaced: staged.delta.replaced && slot.row > 1,
            branches: staged.branches,
            history: staged.nodes,
            tasks: staged.tasks,
            rehomed: staged.rehomed,
            progress: Some(RunProgress::of(&slot.workflow)),
            ..RunWrite::keep(key, Expected::Any, at)
        })
    }

    /// Gives the write to the lane. The namespace is looked at once more: a freeze or a failover that was
    /// published meanwhile holds for this write.
    fn hand_over<E>(&mut self, runs: Vec<RunWrite>) -> Result<(), TxnError<E>> {
        if runs.is_empty() {
            return Ok(());
        }
        let shard = self.locked.shard.clone();
        shard.check()?;
        let host = &shard.0.host;
        let frozen = host.frozen.read();
        if self.mode == Mode::Active {
            let now = host.deps.registry.by_id(&self.namespace.id);
            let now = now.as_ref().unwrap_or(&self.namespace);
            if now.handover || frozen.contains(&now.id) {
                return Err(TxnError::Handover(now.name.clone()));
            }
            if now.failover_version != self.namespace.failover_version {
                let why = "the namespace failed over meanwhile".to_owned();
                return Err(TxnError::Shard(ShardError::Dropped(why)));
            }
        }
        let ticket = Arc::new(Ticket::default());
        self.locked.cached.last = Some(ticket.clone());
        for run in &runs {
            if let Some(at) = self.locked.loaded(&run.key.run_id) {
                let slot = &mut self.locked.cached.runs[at];
                slot.last = Some(ticket.clone());
                slot.ahead = false;
            }
        }
        let write = Write {
            bytes: bytes_of(&runs),
            entry: self.locked.entry.clone(),
            epoch: self.locked.cached.epoch,
            shard: shard.clone(),
            runs,
            ticket,
        };
        shard.0.lane.push(Unit::Write(Box::new(write)));
        drop(frozen);
        self.locked.prune();
        if self.locked.cached.runs.iter().all(|s| s.behind.is_none()) {
            shard.forget_behind(&self.locked.entry.key);
        }
        Ok(())
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
                    rehomed: Vec::new(),
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
            self.locked.suspect();
        }
    }
}

impl RunWrite {
    fn keep(key: proto_ids::RunKey, expected: Expected, at: Timestamp) -> Self {
        Self {
            key,
            expected,
            row: RowWrite::Keep,
            items: Vec::new(),
            items_replaced: false,
            current: None,
            branches: Vec::new(),
            history: Vec::new(),
            tasks: Vec::new(),
            rehomed: Vec::new(),
            at,
            progress: None,
        }
    }
}

impl Shard {
    /// Arms timers in memory that are not stored (yet); other tasks wait until they are.
    fn arm(
        &self,
        run: &proto_ids::RunKey,
        tasks: &[Task],
        at: Timestamp,
        superseded: Option<&Arc<AtomicBool>>,
    ) {
        for task in tasks.iter().filter(|t| t.fire_at.is_some()) {
            let queued = QueuedTask {
                task_id: TaskId::default(),
                run: run.clone(),
                task: task.clone(),
                at,
            };
            self.arm_unsaved(queued, superseded.cloned());
        }
    }
}

/// What is demanded last among several decisions of one transaction.
fn stronger(a: Durability, b: Durability) -> Durability {
    let rank = |d: Durability| match d {
        Durability::None => 0,
        Durability::Speculative => 1,
        Durability::Behind => 2,
        Durability::Durable => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn branch_of(workflow: &Workflow) -> Result<BranchToken, ShardError> {
    let versions = &workflow.versions;
    match versions.histories.get(versions.current) {
        Some(history) => Ok(history.branch.clone()),
        None => Err(ShardError::Corrupt(format!(
            "run {} has no branch",
            workflow.key
        ))),
    }
}

fn node_of(branch: &BranchToken, batch: EventBatch) -> HistoryNode {
    HistoryNode {
        tree_id: branch.tree_id.clone(),
        branch_id: branch.branch_id.clone(),
        node_id: batch.first_event_id().get(),
        next_node_id: batch.next_event_id().get(),
        data: Bytes::from(
            History {
                events: batch.events,
            }
            .encode_to_vec(),
        ),
    }
}

fn current_of(workflow: &Workflow) -> CurrentRecord {
    CurrentRecord {
        run_id: workflow.key.run_id.clone(),
        request_id: workflow.start.request_id.clone(),
        status: workflow.hot.status as i32,
        last_write_version: workflow.last_version().get(),
        start_time: workflow.start.start_time,
        first_run_id: workflow.start.first_run_id.clone(),
    }
}
