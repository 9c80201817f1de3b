//! Applying the events of workflow tasks.

use proto_ids::{EventId, FailoverVersion};
use proto_messages::{
    temporal::api::{
        enums::v1::{TimeoutType, WorkflowTaskFailedCause},
        history::v1::{
            HistoryEvent, WorkflowTaskCompletedEventAttributes, WorkflowTaskFailedEventAttributes,
            WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes,
            WorkflowTaskTimedOutEventAttributes,
        },
        workflow::v1::{ResetPointInfo, ResetPoints},
    },
    time::{duration_from_proto, to_proto},
};

use super::WorkflowTask;
use crate::{
    Limits, MutableState,
    apply::Scope,
    component::activity,
    event::{Attributes, corrupt, event_time},
    task::{TaskKind, Timeout},
    transition::Corrupt,
};

pub(super) fn apply(
    ms: &mut MutableState,
    event: &HistoryEvent,
    attributes: &Attributes,
    scope: &mut Scope<'_>,
) -> Result<(), Corrupt> {
    use Attributes as A;
    match attributes {
        A::WorkflowTaskScheduledEventAttributes(a) => ms.task_scheduled(event, a, scope),
        A::WorkflowTaskStartedEventAttributes(a) => ms.task_started(event, a, scope)?,
        A::WorkflowTaskCompletedEventAttributes(a) => ms.task_completed(event, a, scope),
        A::WorkflowTaskTimedOutEventAttributes(a) => ms.task_timed_out(event, a, scope),
        A::WorkflowTaskFailedEventAttributes(a) => ms.task_failed(event, a, scope),
        _ => {}
    }
    Ok(())
}

impl MutableState {
    fn task_scheduled(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowTaskScheduledEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        let at = event_time(event);
        let timeout = duration_from_proto(a.start_to_close_timeout.as_ref());
        let timeout = if timeout.is_zero() {
            self.start.task_timeout
        } else {
            timeout
        };
        self.new_workflow_task(WorkflowTask {
            version: FailoverVersion::new(event.version),
            scheduled_event_id: EventId::new(event.event_id),
            attempt: a.attempt.max(1),
            timeout,
            scheduled_time: at,
            original_scheduled_time: at,
            ..Default::default()
        });
        self.add_workflow_task(event, scope);
    }

    /// Makes a workflow task pending, on the sticky queue while there is one.
    fn new_workflow_task(&mut self, mut task: WorkflowTask) {
        // Stickiness is not history: only the cluster whose worker completed the last task knows it.
        match &self.execution_info.sticky {
            Some(sticky) if task.attempt == 1 => {
                task.sticky = true;
                task.task_queue = sticky.task_queue.clone();
            }
            _ => task.task_queue = self.start.task_queue.clone(),
        }
        self.execution_info.first_workflow_task_scheduled = true;
        self.execution_info.workflow_task_attempt = task.attempt;
        self.execution_info.workflow_task = Some(task);
    }

    fn add_workflow_task(&self, event: &HistoryEvent, scope: &mut Scope<'_>) {
        let Some(task) = &self.execution_info.workflow_task else {
            return;
        };
        let (scheduled_event_id, attempt) = (task.scheduled_event_id, task.attempt);
        scope.now(
            event,
            TaskKind::WorkflowTask {
                scheduled_event_id,
                attempt,
            },
        );
        if let Some(at) = self.sticky_deadline() {
            let timeout = Timeout::ScheduleToStart;
            scope.at(
                event,
                at,
                TaskKind::WorkflowTaskTimeout {
                    scheduled_event_id,
                    attempt,
                    timeout,
                },
            );
        }
    }

    fn task_started(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowTaskStartedEventAttributes,
        scope: &mut Scope<'_>,
    ) -> Result<(), Corrupt> {
        let Some(task) = self
            .execution_info
            .workflow_task
            .as_mut()
            .filter(|t| t.scheduled_event_id.get() == a.scheduled_event_id)
        else {
            return Err(corrupt(event, "its workflow task is not pending"));
        };
        task.version = FailoverVersion::new(event.version);
        task.started_event_id = EventId::new(event.event_id);
        task.request_id = a.request_id.clone();
        task.identity = a.identity.clone();
        task.started_time = event_time(event);
        task.suggest_continue_as_new = a.suggest_continue_as_new;
        task.history_size = a.history_size_bytes;
        let kind = TaskKind::WorkflowTaskTimeout {
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            timeout: Timeout::StartToClose,
        };
        scope.at(event, task.started_time.plus(task.timeout), kind);
        Ok(())
    }

    fn task_completed(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowTaskCompletedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        self.execution_info.workflow_task = None;
        self.execution_info.close_attempted = false;
        self.execution_info.workflow_task_attempt = 1;
        self.execution_info.last_completed_started_event_id = EventId::new(a.started_event_id);
        if let Some(sdk) = &a.sdk_metadata {
            if !sdk.sdk_name.is_empty() && sdk.sdk_name != self.execution_info.sdk_name {
                self.execution_info.sdk_name = sdk.sdk_name.clone();
            }
            if !sdk.sdk_version.is_empty() && sdk.sdk_version != self.execution_info.sdk_version {
                self.execution_info.sdk_version = sdk.sdk_version.clone();
            }
        }
        let build_id = build_id_of(a);
        if !build_id.is_empty() {
            if self.execution_info.most_recent_build_id != build_id {
                self.execution_info.most_recent_build_id = build_id.to_owned();
            }
            self.add_reset_point(event, build_id, scope.limits);
        }
    }

    /// Remembers the first task a build completed, so that a reset can go back to before it.
    fn add_reset_point(&mut self, event: &HistoryEvent, build_id: &str, limits: &Limits) {
        let resettable = self.children.is_empty()
            && self.external_cancels.is_empty()
            && self.external_signals.is_empty();
        let points = &mut self
            .execution_info
            .reset_points
            .get_or_insert_with(ResetPoints::default)
            .points;
        if points.iter().any(|p| p.build_id == build_id) {
            return;
        }
        if points.len() >= limits.reset_points_limit {
            points.remove(0);
        }
        points.push(ResetPointInfo {
            build_id: build_id.to_owned(),
            run_id: self.key.run_id.as_str().to_owned(),
            first_workflow_task_completed_id: event.event_id,
            create_time: Some(to_proto(event_time(event))),
            resettable,
            ..Default::default()
        });
    }

    fn task_failed(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowTaskFailedEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        self.execution_info.workflow_task_heartbeat_since = Default::default();
        match a.cause() {
            // The worker is not at fault, so the next task is a first attempt.
            WorkflowTaskFailedCause::ResetWorkflow => {
                self.drop_workflow_task();
                self.restart_clocks(event, scope);
            }
            WorkflowTaskFailedCause::FailoverCloseCommand => self.drop_workflow_task(),
            cause => {
                self.execution_info.close_attempted |=
                    cause == WorkflowTaskFailedCause::UnhandledCommand;
                self.next_attempt_in_history(event, scope);
            }
        }
    }

    fn task_timed_out(
        &mut self,
        event: &HistoryEvent,
        a: &WorkflowTaskTimedOutEventAttributes,
        scope: &mut Scope<'_>,
    ) {
        self.execution_info.workflow_task_heartbeat_since = Default::default();
        if a.timeout_type() == TimeoutType::ScheduleToStart {
            self.drop_workflow_task();
        } else {
            self.next_attempt_in_history(event, scope);
        }
    }

    fn drop_workflow_task(&mut self) {
        self.execution_info.workflow_task = None;
        self.execution_info.sticky = None;
        self.execution_info.workflow_task_attempt = 1;
    }

    /// A reset run begins at its reset: its timeouts, and those of activities it inherited, count from there.
    fn restart_clocks(&mut self, event: &HistoryEvent, scope: &mut Scope<'_>) {
        let at = event_time(event);
        self.start.start_time = at;
        self.start.execution_time = at;
        if !self.start.execution_timeout.is_zero() {
            self.start.execution_expiration = at.plus(self.start.execution_timeout);
            self.start.retry_expiration = self.start.execution_expiration;
        }
        activity::restart_clocks(self, event, scope);
        scope.applied.delta.replaced = true;
        scope.applied.delta.start = true;
        if let Some((at, kind)) = self.run_deadline() {
            scope.at(event, at, kind);
        }
    }

    /// After a failure in history the next attempt is pending at once, on both sides of replication.
    fn next_attempt_in_history(&mut self, event: &HistoryEvent, scope: &mut Scope<'_>) {
        let next = EventId::new(event.event_id).next();
        let version = FailoverVersion::new(event.version);
        self.next_workflow_task_attempt(next, event_time(event), version, scope.limits);
        self.add_workflow_task(event, scope);
    }

    /// Replaces the workflow task by its next attempt, which has no events of its own.
    pub(super) fn next_workflow_task_attempt(
        &mut self,
        scheduled_event_id: EventId,
        at: proto_ids::Timestamp,
        version: FailoverVersion,
        limits: &Limits,
    ) {
        self.execution_info.sticky = None;
        let attempt = self
            .execution_info
            .workflow_task_attempt
            .max(1)
            .saturating_add(1);
        let timeout = crate::retry::workflow_task_timeout(self.start.task_timeout, attempt, limits);
        self.new_workflow_task(WorkflowTask {
            version,
            scheduled_event_id,
            attempt,
            timeout,
            scheduled_time: at,
            original_scheduled_time: at,
            ..Default::default()
        });
    }
}

/// The build that completed the task, by whichever field its SDK's age fills.
#[expect(
    deprecated,
    reason = "older SDKs tell their build only in these fields"
)]
fn build_id_of(a: &WorkflowTaskCompletedEventAttributes) -> &str {
    if let Some(v) = a
        .deployment_version
        .as_ref()
        .filter(|v| !v.build_id.is_empty())
    {
        return &v.build_id;
    }
    match a.worker_version.as_ref().filter(|v| !v.build_id.is_empty()) {
        Some(v) => &v.build_id,
        None => &a.binary_checksum,
    }
}
