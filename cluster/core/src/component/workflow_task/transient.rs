//! Scheduling and starting a workflow task, and the events of attempts that history does not hold.

use proto_ids::EventId;
use proto_messages::{
    temporal::api::{
        enums::v1::{EventType, TaskQueueKind},
        history::v1::{
            HistoryEvent, WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes,
        },
        taskqueue::v1::TaskQueue,
    },
    time::{duration_to_proto, to_proto},
};

use super::WorkflowTask;
use crate::{MutableState, Refusal, decision::Decision, event::Attributes, task::TaskKind};

impl Decision<'_> {
    /// Schedules a workflow task unless one is pending or the run still waits for its first.
    pub(crate) fn schedule_workflow_task(&mut self) -> Result<(), Refusal> {
        let execution_info = &self.ms.execution_info;
        if !self.ms.is_running()
            || execution_info.workflow_task.is_some()
            || !execution_info.first_workflow_task_scheduled
        {
            return Ok(());
        }
        self.add_workflow_task_scheduled_event().map(|_| ())
    }

    /// Schedules a first attempt, whatever was pending.
    pub(crate) fn add_workflow_task_scheduled_event(&mut self) -> Result<EventId, Refusal> {
        self.write(Attributes::WorkflowTaskScheduledEventAttributes(
            WorkflowTaskScheduledEventAttributes {
                task_queue: Some(self.ms.workflow_task_queue()),
                start_to_close_timeout: Some(duration_to_proto(self.ms.start.task_timeout)),
                attempt: 1,
            },
        ))
    }

    /// After a workflow task ended badly: what waited is written, and then the next task is a first attempt;
    /// with nothing new, it is the next attempt of the same.
    pub(crate) fn flush_and_reschedule(&mut self) -> Result<(), Refusal> {
        if self.flush_buffered_events() {
            self.ms.execution_info.workflow_task = None;
        }
        self.schedule_workflow_task()
    }

    /// Starts the scheduled workflow task. Its started event opens a batch of its own.
    pub(crate) fn start_workflow_task(
        &mut self,
        request_id: &str,
        identity: &str,
    ) -> Result<(), Refusal> {
        let Some(task) = &self.ms.execution_info.workflow_task else {
            return Err(Refusal::WorkflowTaskNotFound);
        };
        let suggest = self.ms.suggests_continue_as_new(self.ctx.limits);
        let attributes = WorkflowTaskStartedEventAttributes {
            scheduled_event_id: task.scheduled_event_id.get(),
            identity: identity.to_owned(),
            request_id: request_id.to_owned(),
            suggest_continue_as_new: !suggest.is_empty(),
            suggest_continue_as_new_reasons: suggest.into_vec(),
            history_size_bytes: self.ms.execution_info.history_size,
            ..Default::default()
        };
        self.end_batch();
        self.write(Attributes::WorkflowTaskStartedEventAttributes(attributes))
            .map(|_| ())
    }

    /// Adds the dispatch of the pending workflow task, for attempts that have no events.
    pub(super) fn add_workflow_task(&mut self) {
        let Some(task) = &self.ms.execution_info.workflow_task else {
            return;
        };
        let (scheduled_event_id, attempt) = (task.scheduled_event_id, task.attempt);
        self.add_task(
            None,
            TaskKind::WorkflowTask {
                scheduled_event_id,
                attempt,
            },
        );
    }
}

impl MutableState {
    /// Whether a worker holds the workflow task.
    pub fn has_started_workflow_task(&self) -> bool {
        self.execution_info
            .workflow_task
            .as_ref()
            .is_some_and(|t| t.started_event_id != EventId::default())
    }

    /// The queue the next workflow task goes to.
    pub(super) fn workflow_task_queue(&self) -> TaskQueue {
        match &self.execution_info.sticky {
            Some(sticky) => TaskQueue {
                name: sticky.task_queue.clone(),
                kind: TaskQueueKind::Sticky.into(),
                normal_name: self.start.task_queue.clone(),
            },
            None => TaskQueue {
                name: self.start.task_queue.clone(),
                kind: TaskQueueKind::Normal.into(),
                normal_name: String::new(),
            },
        }
    }

    /// The two events a started attempt after the first would have, which history does not hold.
    pub fn transient_events(&self) -> Vec<HistoryEvent> {
        let Some(task) = self
            .execution_info
            .workflow_task
            .as_ref()
            .filter(|t| t.attempt > 1)
        else {
            return Vec::new();
        };
        let mut events = vec![task.scheduled_event(&self.start.task_queue)];
        if task.started_event_id != EventId::default() {
            events.push(task.started_event(task.scheduled_event_id));
        }
        events
    }
}

impl WorkflowTask {
    /// The scheduled event of this attempt.
    pub(super) fn scheduled_event(&self, task_queue: &str) -> HistoryEvent {
        let attributes = WorkflowTaskScheduledEventAttributes {
            task_queue: Some(TaskQueue {
                name: task_queue.to_owned(),
                kind: TaskQueueKind::Normal.into(),
                normal_name: String::new(),
            }),
            start_to_close_timeout: Some(duration_to_proto(self.timeout)),
            attempt: self.attempt,
        };
        HistoryEvent {
            event_id: self.scheduled_event_id.get(),
            event_time: Some(to_proto(self.scheduled_time)),
            event_type: EventType::WorkflowTaskScheduled.into(),
            version: self.version.get(),
            attributes: Some(Attributes::WorkflowTaskScheduledEventAttributes(attributes)),
            ..Default::default()
        }
    }

    /// The started event of this attempt.
    pub(super) fn started_event(&self, scheduled_event_id: EventId) -> HistoryEvent {
        let attributes = WorkflowTaskStartedEventAttributes {
            scheduled_event_id: scheduled_event_id.get(),
            identity: self.identity.clone(),
            request_id: self.request_id.clone(),
            suggest_continue_as_new: self.suggest_continue_as_new,
            history_size_bytes: self.history_size,
            ..Default::default()
        };
        HistoryEvent {
            event_id: self.started_event_id.get(),
            event_time: Some(to_proto(self.started_time)),
            event_type: EventType::WorkflowTaskStarted.into(),
            version: self.version.get(),
            attributes: Some(Attributes::WorkflowTaskStartedEventAttributes(attributes)),
            ..Default::default()
        }
    }
}
