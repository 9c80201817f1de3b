//! A decision in progress. A request handler checks first and writes afterwards; each event it writes goes
//! through the applier at once, so that what follows sees the state the event made.

use proto_ids::{EventId, FailoverVersion, Timestamp};
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

use crate::{
    DecisionContext, MutableState,
    apply::Scope,
    event::{Attributes, BUFFERED, is_late_result, new_event},
    mutable_state::WorkflowTask,
    task::{Task, TaskKind},
    transition::{Applied, Durability, EventBatch, ItemKey, NewRun, Refusal, Reply, Transition},
};

/// A decision that is being made.
pub(crate) struct Decision<'a> {
    pub(crate) ms: &'a mut MutableState,
    pub(crate) ctx: &'a DecisionContext<'a>,
    pub(crate) reply: Reply,
    pub(crate) durability: Durability,
    pub(crate) new_run: Option<Box<NewRun>>,
    version: FailoverVersion,
    batches: Vec<EventBatch>,
    events: Vec<HistoryEvent>,
    applied: Applied,
    /// State changed without an event.
    changed: bool,
    ids: u32,
}

impl<'a> Decision<'a> {
    pub(crate) fn new(ms: &'a mut MutableState, ctx: &'a DecisionContext<'a>) -> Self {
        let version = version_for(ms, ctx.version);
        Self {
            ms,
            ctx,
            reply: Reply::Nothing,
            durability: Durability::Durable,
            new_run: None,
            version,
            batches: Vec::new(),
            events: Vec::new(),
            applied: Applied::default(),
            changed: false,
            ids: 0,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ctx.now
    }

    /// A new id.
    pub(crate) fn uuid(&mut self) -> String {
        self.ids += 1;
        self.ctx.seed.uuid(self.ids)
    }

    /// An event with these attributes, at the time of the decision.
    pub(crate) fn event(&self, attributes: Attributes) -> HistoryEvent {
        new_event(attributes, self.ctx.now, self.version)
    }

    /// Writes an event.
    pub(crate) fn write(&mut self, attributes: Attributes) -> Result<EventId, Refusal> {
        self.write_event(self.event(attributes))
    }

    /// Writes an event that was prepared.
    pub(crate) fn write_event(&mut self, mut event: HistoryEvent) -> Result<EventId, Refusal> {
        let id = self.ms.execution_info.next_event_id;
        event.event_id = id.get();
        event.task_id = self.ctx.clock;
        let mut scope = Scope {
            limits: self.ctx.limits,
            batch_first: self.events.first().map_or(id, |e| EventId::new(e.event_id)),
            applied: &mut self.applied,
        };
        self.ms
            .apply_event(&event, &mut scope)
            .map_err(Refusal::Corrupt)?;
        self.events.push(event);
        Ok(id)
    }

    /// Writes an event that came from outside the workflow's own commands: it waits in the buffer while a
    /// workflow task is in flight, since the worker has not seen it.
    pub(crate) fn record(&mut self, attributes: Attributes) -> Result<(), Refusal> {
        self.record_event(self.event(attributes))
    }

    /// [`Self::record`] for an event that was prepared.
    pub(crate) fn record_event(&mut self, event: HistoryEvent) -> Result<(), Refusal> {
        if !self.ms.has_started_workflow_task() {
            return self.write_event(event).map(|_| ());
        }
        self.buffer_event(event)
    }

    /// Buffers an event: it takes effect now and gets its event id when buffered events are flushed.
    pub(crate) fn buffer(&mut self, attributes: Attributes) -> Result<(), Refusal> {
        self.buffer_event(self.event(attributes))
    }

    fn buffer_event(&mut self, mut event: HistoryEvent) -> Result<(), Refusal> {
        event.event_id = BUFFERED.get();
        let mut scope = Scope {
            limits: self.ctx.limits,
            batch_first: self.ms.execution_info.next_event_id,
            applied: &mut self.applied,
        };
        self.ms
            .effect(&event, &mut scope)
            .map_err(Refusal::Corrupt)?;
        self.ms.buffered.push(event);
        self.touch(ItemKey::Buffered);
        Ok(())
    }

    /// Gives the buffered events their place in history. Results go last, and refer to started events
    /// that waited beside them. Returns whether there were any.
    pub(crate) fn flush_buffered_events(&mut self) -> bool {
        if self.ms.buffered.is_empty() {
            return false;
        }
        let (late, early): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ms.buffered)
            .into_iter()
            .partition(is_late_result);
        let mut started = Vec::new();
        for mut event in early.into_iter().chain(late) {
            let id = self.ms.execution_info.next_event_id;
            event.event_id = id.get();
            // Events keep the moment they arrived, but a batch has one version.
            event.version = self.version.get();
            event.task_id = self.ctx.clock;
            self.place(&mut event, id, &mut started);
            self.ms.advance(&event);
            self.events.push(event);
        }
        self.touch(ItemKey::Buffered);
        true
    }

    /// Connects a flushed event with what it refers to, and state with the id it got.
    fn place(&mut self, event: &mut HistoryEvent, id: EventId, started: &mut Vec<(i64, i64)>) {
        use Attributes as A;
        match event.event_type() {
            EventType::ActivityTaskStarted | EventType::ChildWorkflowExecutionStarted => {}
            _ if is_late_result(event) => {
                if let Some((origin, started_id)) = result_ids(event)
                    && *started_id == BUFFERED.get()
                    && let Some((_, found)) = started.iter().find(|(o, _)| *o == origin)
                {
                    *started_id = *found;
                }
                return;
            }
            _ => return,
        }
        match &event.attributes {
            Some(A::ActivityTaskStartedEventAttributes(a)) => {
                let scheduled = EventId::new(a.scheduled_event_id);
                started.push((a.scheduled_event_id, id.get()));
                if let Some(activity) = self.ms.activities.get_mut(&scheduled) {
                    activity.started_event_id = id;
                    self.applied
                        .delta
                        .items
                        .insert(ItemKey::Activity(scheduled));
                }
            }
            Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) => {
                let initiated = EventId::new(a.initiated_event_id);
                started.push((a.initiated_event_id, id.get()));
                if let Some(child) = self.ms.children.get_mut(&initiated) {
                    child.started_event_id = id;
                    self.applied.delta.items.insert(ItemKey::Child(initiated));
                }
            }
            _ => {}
        }
    }

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

    /// Ends the current batch; the next event opens another one.
    pub(crate) fn end_batch(&mut self) {
        if !self.events.is_empty() {
            self.batches.push(EventBatch {
                events: std::mem::take(&mut self.events),
            });
        }
    }

    /// Marks an item as changed without an event.
    pub(crate) fn touch(&mut self, item: ItemKey) {
        self.changed = true;
        self.applied.delta.items.insert(item);
    }

    /// Marks the execution info as changed without an event.
    pub(crate) fn change(&mut self) {
        self.changed = true;
    }

    /// Adds a task that no event stands for.
    pub(crate) fn add_task(&mut self, fire_at: Option<Timestamp>, kind: TaskKind) {
        self.applied.tasks.push(Task {
            version: self.version,
            fire_at,
            kind,
        });
    }

    /// Adds the dispatch of the pending workflow task, for attempts that have no events.
    pub(crate) fn add_workflow_task(&mut self) {
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

    /// The version new events carry.
    pub(crate) fn version(&self) -> FailoverVersion {
        self.version
    }

    /// Whether anything happened so far.
    pub(crate) fn is_idle(&self) -> bool {
        !self.changed && self.events.is_empty() && self.batches.is_empty()
    }

    /// The decision.
    pub(crate) fn finish(mut self) -> Transition {
        self.end_batch();
        if self.is_idle() && self.applied.tasks.is_empty() {
            let reply = self.reply;
            return Transition {
                reply,
                durability: Durability::None,
                ..Default::default()
            };
        }
        self.ms.execution_info.state_transition_count += 1;
        self.ms.execution_info.last_update_time = self.ctx.now;
        let mut tasks = self.applied.tasks;
        self.ms.keep_pending(&mut tasks);
        if self.ctx.limits.replicated {
            for batch in &self.batches {
                tasks.push(self.ms.replicate(batch, batch.version().get()));
            }
        }
        Transition {
            events: self.batches,
            delta: self.applied.delta,
            tasks,
            reply: self.reply,
            durability: self.durability,
            new_run: self.new_run,
        }
    }
}

/// A run that was local until now stays local until its workflow task in flight ends.
fn version_for(ms: &MutableState, version: FailoverVersion) -> FailoverVersion {
    let last = ms.last_version();
    if last == FailoverVersion::default() && ms.has_started_workflow_task() {
        last
    } else {
        version
    }
}

/// The scheduled (or initiated) event a result belongs to, and the place of its started event id.
fn result_ids(event: &mut HistoryEvent) -> Option<(i64, &mut i64)> {
    use Attributes as A;
    Some(match event.attributes.as_mut()? {
        A::ActivityTaskCompletedEventAttributes(a) => {
            (a.scheduled_event_id, &mut a.started_event_id)
        }
        A::ActivityTaskFailedEventAttributes(a) => (a.scheduled_event_id, &mut a.started_event_id),
        A::ActivityTaskCanceledEventAttributes(a) => {
            (a.scheduled_event_id, &mut a.started_event_id)
        }
        A::ActivityTaskTimedOutEventAttributes(a) => {
            (a.scheduled_event_id, &mut a.started_event_id)
        }
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => {
            (a.initiated_event_id, &mut a.started_event_id)
        }
        A::ChildWorkflowExecutionFailedEventAttributes(a) => {
            (a.initiated_event_id, &mut a.started_event_id)
        }
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => {
            (a.initiated_event_id, &mut a.started_event_id)
        }
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => {
            (a.initiated_event_id, &mut a.started_event_id)
        }
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => {
            (a.initiated_event_id, &mut a.started_event_id)
        }
        _ => return None,
    })
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
    pub(crate) fn workflow_task_queue(&self) -> TaskQueue {
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
    pub(crate) fn scheduled_event(&self, task_queue: &str) -> HistoryEvent {
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
    pub(crate) fn started_event(&self, scheduled_event_id: EventId) -> HistoryEvent {
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
