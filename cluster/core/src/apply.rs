//! The one applier. Live decisions, replay, reset and replication all change a run's state here and
//! nowhere else (what is kept outside history, such as attempts and heartbeats, is the exception, and each
//! such field says so). Tasks are derived from events with fire times from event times, so that an active
//! cluster and a standby derive the same ones.

use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunId, RunKey, Timestamp};
use proto_messages::temporal::api::history::v1::HistoryEvent;

use crate::{
    Limits, MutableState, component,
    event::{corrupt, event_time, event_type},
    task::{Task, TaskKind},
    transition::{Applied, Corrupt, EventBatch, ItemKey},
    version::{BranchToken, VersionHistories},
};

/// The scope of applying an event: what its effect may read beside the event, and where its consequences go.
pub(crate) struct Scope<'a> {
    pub(crate) limits: &'a Limits,
    /// First event of the batch the event is stored in.
    pub(crate) batch_first: EventId,
    pub(crate) applied: &'a mut Applied,
}

impl Scope<'_> {
    pub(crate) fn now(&mut self, event: &HistoryEvent, kind: TaskKind) {
        let version = FailoverVersion::new(event.version);
        self.applied.tasks.push(Task {
            version,
            fire_at: None,
            kind,
        });
    }

    pub(crate) fn at(&mut self, event: &HistoryEvent, at: Timestamp, kind: TaskKind) {
        let version = FailoverVersion::new(event.version);
        self.applied.tasks.push(Task {
            version,
            fire_at: Some(at),
            kind,
        });
    }

    pub(crate) fn touch(&mut self, item: ItemKey) {
        self.applied.delta.items.insert(item);
    }
}

impl MutableState {
    /// A run without history; events are applied to it next.
    pub fn empty(key: RunKey, branch: BranchToken) -> MutableState {
        let mut ms = MutableState {
            key,
            versions: VersionHistories::single(branch),
            ..Default::default()
        };
        ms.execution_info.next_event_id = EventId::new(1);
        ms
    }

    /// Applies one batch: replay, replication, reset. The sticky queue is forgotten, since the worker it
    /// belongs to knows nothing of these events. After an error this copy of the run must not be used.
    pub fn apply(&mut self, batch: &EventBatch, limits: &Limits) -> Result<Applied, Corrupt> {
        let Some(first) = batch.events.first() else {
            return Err(Corrupt {
                event_id: 0,
                reason: "the batch is empty".into(),
            });
        };
        self.execution_info.sticky = None;
        let mut applied = Applied::default();
        let mut scope = Scope {
            limits,
            batch_first: EventId::new(first.event_id),
            applied: &mut applied,
        };
        for event in &batch.events {
            if event.version != first.version {
                return Err(corrupt(event, "a batch holds two versions"));
            }
            self.apply_event(event, &mut scope)?;
        }
        self.execution_info.state_transition_count += 1;
        if let Some(last) = batch.events.last() {
            self.execution_info.last_update_time = event_time(last);
        }
        self.keep_pending(&mut applied.tasks);
        if self.execution_info.zombie {
            // A zombie run is kept; only its visibility record and its removal are pending.
            let kept = |kind: &TaskKind| matches!(kind, TaskKind::Retention | TaskKind::Visibility);
            applied.tasks.retain(|task| kept(&task.kind));
        }
        if limits.replicated {
            applied.tasks.push(self.replicate(batch, first.version));
        }
        match self.broken_invariant() {
            // Each event could be applied, and together they make no run that can be.
            Some(broken) => Err(corrupt(
                first,
                format!("after its batch, {broken} is untrue"),
            )),
            None => Ok(applied),
        }
    }

    /// The mutable state that a whole history leads to, with all pending tasks.
    pub fn replay(
        key: RunKey,
        branch: BranchToken,
        batches: impl IntoIterator<Item = EventBatch>,
        limits: &Limits,
    ) -> Result<(MutableState, Vec<Task>), Corrupt> {
        let mut ms = MutableState::empty(key, branch);
        for batch in batches {
            ms.apply(&batch, limits)?;
        }
        let tasks = ms.pending_tasks(limits);
        Ok((ms, tasks))
    }

    /// The task that sends a batch to other clusters.
    pub(crate) fn replicate(&self, batch: &EventBatch, version: i64) -> Task {
        let closes = batch
            .events
            .iter()
            .any(|e| e.event_id == self.execution_info.close_event_id.get());
        let new_run_id = (closes && !self.execution_info.new_run_id.is_empty())
            .then(|| self.execution_info.new_run_id.clone());
        Task {
            version: FailoverVersion::new(version),
            fire_at: None,
            kind: TaskKind::ReplicateHistory {
                first_event_id: batch.first_event_id(),
                next_event_id: batch.next_event_id(),
                new_run_id,
            },
        }
    }

    /// Applies one event that has its place in history.
    pub(crate) fn apply_event(
        &mut self,
        event: &HistoryEvent,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        if event.event_id != self.execution_info.next_event_id.get() {
            let expected = self.execution_info.next_event_id;
            return Err(corrupt(event, format!("event {expected} was expected")));
        }
        // The first event may carry any version: that of an old local history is negative.
        if self
            .versions
            .current()
            .last()
            .is_some_and(|last| event.version < last.version.get())
        {
            return Err(corrupt(
                event,
                "its version is lower than the version before",
            ));
        }
        self.effect(event, scope)?;
        self.advance(event);
        Ok(())
    }

    /// Gives an event its place: what all events do, whatever they mean.
    pub(crate) fn advance(&mut self, event: &HistoryEvent) {
        let id = EventId::new(event.event_id);
        let version = FailoverVersion::new(event.version);
        self.execution_info.last_running_clock = if version > self.last_version() {
            event.task_id
        } else {
            self.execution_info.last_running_clock.max(event.task_id)
        };
        self.execution_info.next_event_id = id.next();
        self.execution_info.history_size += event.encoded_len() as i64;
        self.versions.current_mut().extend_to(id, version);
    }

    /// Applies the effect of one event. A buffered event has its effect when it arrives, before it has an id.
    pub(crate) fn effect(
        &mut self,
        event: &HistoryEvent,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let Some(attributes) = &event.attributes else {
            // An event type of a later release: nothing here can depend on it.
            return Ok(());
        };
        match component::of_event(event_type(attributes)) {
            Some(component) => (component.apply)(self, event, attributes, scope),
            None => Ok(()),
        }
    }

    /// Drops tasks whose reason is gone by the end of the batch that made them, and repeated ones.
    pub(crate) fn keep_pending(&self, tasks: &mut Vec<Task>) {
        let mut visibility = false;
        tasks.retain(|task| match task.kind {
            TaskKind::Visibility => !std::mem::replace(&mut visibility, true),
            _ => self.is_pending(&task.kind),
        });
    }

    /// The run that continues this one, once known.
    pub(crate) fn continued_by(&mut self, run_id: &str) {
        if !run_id.is_empty() {
            self.execution_info.new_run_id = RunId::new(run_id);
        }
    }
}
