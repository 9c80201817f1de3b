//! A decision in progress. A request handler checks first and writes afterwards; each event it writes goes
//! through the applier at once, so that what follows sees the state the event made.

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::history::v1::HistoryEvent;

use crate::{
    DecisionContext, MutableState,
    apply::Scope,
    component::{self, Placing, buffer},
    event::{Attributes, BUFFERED, new_event},
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
        self.touch(buffer::item_key());
        Ok(())
    }

    /// Gives the buffered events their place in history. Results go last, and refer to started events
    /// that waited beside them. Returns whether there were any.
    pub(crate) fn flush_buffered_events(&mut self) -> bool {
        if self.ms.buffered.is_empty() {
            return false;
        }
        let mut placing = Placing {
            started: Vec::new(),
            applied: &mut self.applied,
        };
        for mut event in self.ms.buffered.drain() {
            event.event_id = self.ms.execution_info.next_event_id.get();
            // Events keep the moment they arrived, but a batch has one version.
            event.version = self.version.get();
            event.task_id = self.ctx.clock;
            if let Some(component) = component::of_event(event.event_type()) {
                (component.place)(self.ms, &mut event, &mut placing);
            }
            self.ms.advance(&event);
            self.events.push(event);
        }
        self.touch(buffer::item_key());
        true
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
