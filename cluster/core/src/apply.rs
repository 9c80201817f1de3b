//! The one applier. Live decisions, replay, reset and replication all change a run's state here and
//! nowhere else (what is kept outside history, such as attempts and heartbeats, is the exception, and each
//! such field says so). Tasks are derived from events with fire times from event times, so that an active
//! cluster and a standby derive the same ones.

mod activity;
mod child;
mod close;
mod external;
mod properties;
mod signal;
mod start;
mod timer;
mod workflow_task;

pub(crate) use properties::is_null;

use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunId, RunKey, Timestamp};
use proto_messages::temporal::api::history::v1::HistoryEvent;

use crate::{
    Limits, MutableState,
    event::{Attributes, corrupt, event_time},
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
        Ok(applied)
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
        use Attributes as A;
        let Some(attributes) = &event.attributes else {
            // An event type of a later release: nothing here can depend on it.
            return Ok(());
        };
        match attributes {
            A::WorkflowExecutionStartedEventAttributes(a) => self.started(event, a, scope)?,
            A::WorkflowTaskScheduledEventAttributes(a) => self.task_scheduled(event, a, scope),
            A::WorkflowTaskStartedEventAttributes(a) => self.task_started(event, a, scope)?,
            A::WorkflowTaskCompletedEventAttributes(a) => self.task_completed(event, a, scope),
            A::WorkflowTaskTimedOutEventAttributes(a) => self.task_timed_out(event, a, scope),
            A::WorkflowTaskFailedEventAttributes(a) => self.task_failed(event, a, scope),
            A::ActivityTaskScheduledEventAttributes(a) => self.activity_scheduled(event, a, scope),
            A::ActivityTaskStartedEventAttributes(a) => self.activity_started(event, a, scope)?,
            A::ActivityTaskCancelRequestedEventAttributes(a) => {
                self.activity_cancel_requested(event, a, scope)
            }
            A::ActivityTaskCompletedEventAttributes(a) => {
                self.activity_closed(event, a.scheduled_event_id, scope)?
            }
            A::ActivityTaskFailedEventAttributes(a) => {
                self.activity_closed(event, a.scheduled_event_id, scope)?
            }
            A::ActivityTaskTimedOutEventAttributes(a) => {
                self.activity_closed(event, a.scheduled_event_id, scope)?
            }
            A::ActivityTaskCanceledEventAttributes(a) => {
                self.activity_closed(event, a.scheduled_event_id, scope)?
            }
            A::TimerStartedEventAttributes(a) => self.timer_started(event, a, scope),
            A::TimerFiredEventAttributes(a) => self.timer_ended(event, &a.timer_id, scope)?,
            A::TimerCanceledEventAttributes(a) => self.timer_canceled(&a.timer_id, scope),
            A::WorkflowExecutionSignaledEventAttributes(a) => self.signaled(a, scope),
            A::WorkflowExecutionCancelRequestedEventAttributes(_) => self.cancel_requested(),
            A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => self.options_updated(a, scope),
            A::UpsertWorkflowSearchAttributesEventAttributes(a) => {
                self.search_attributes_upserted(event, a, scope)
            }
            A::WorkflowPropertiesModifiedEventAttributes(a) => {
                self.properties_modified(event, a, scope)
            }
            _ => return self.effect_elsewhere(event, attributes, scope),
        }
        Ok(())
    }

    /// Effects of closing, of children and of other runs.
    fn effect_elsewhere(
        &mut self,
        event: &HistoryEvent,
        attributes: &Attributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        use Attributes as A;
        match attributes {
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                self.child_initiated(event, a, scope)
            }
            A::ChildWorkflowExecutionStartedEventAttributes(a) => {
                self.child_started(event, a, scope)?
            }
            A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::ChildWorkflowExecutionCompletedEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::ChildWorkflowExecutionFailedEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::ChildWorkflowExecutionCanceledEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::ChildWorkflowExecutionTimedOutEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::ChildWorkflowExecutionTerminatedEventAttributes(a) => {
                self.child_ended(event, a.initiated_event_id, scope)?
            }
            A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.external_cancel_initiated(event, a, scope)
            }
            A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
                self.external_cancel_ended(event, a.initiated_event_id, scope)?
            }
            A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
                self.external_cancel_ended(event, a.initiated_event_id, scope)?
            }
            A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.external_signal_initiated(event, a, scope)
            }
            A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
                self.external_signal_ended(event, a.initiated_event_id, scope)?
            }
            A::ExternalWorkflowExecutionSignaledEventAttributes(a) => {
                self.external_signal_ended(event, a.initiated_event_id, scope)?
            }
            _ => self.closed_by(event, attributes, scope),
        }
        Ok(())
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
