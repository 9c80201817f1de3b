//! Commands of a completed workflow task, a file each. Every command is checked against the state that the
//! commands before it would leave, and only then are events written.

mod cancel_external;
mod cancel_timer;
mod cancel_workflow;
mod complete_workflow;
mod continue_as_new;
mod fail_workflow;
mod fields;
mod modify_properties;
mod record_marker;
mod request_cancel_activity;
mod schedule_activity;
mod signal_external;
mod start_child;
mod start_timer;
mod upsert_search_attributes;

use std::collections::HashSet;

use proto_ids::EventId;
use proto_messages::temporal::api::{
    command::v1::{Command, command::Attributes as C},
    common::v1::Payloads,
    enums::v1::{CommandType, WorkflowTaskFailedCause},
    sdk::v1::{EventGroupMarker, UserMetadata},
};

use crate::{
    DecisionContext, MutableState, Refusal, decision::Decision, event::Attributes,
    request::begin_attempt,
};

/// The number of ids up to which comparing one by one is faster than hashing.
const FEW: usize = 32;

/// The reason why a command is not accepted.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) cause: WorkflowTaskFailedCause,
    /// Empty when the cause says it all.
    text: String,
    /// The run ends with it: trying again would send the same bytes.
    pub(crate) terminate: bool,
}

impl CommandError {
    pub(crate) fn new(cause: WorkflowTaskFailedCause, text: impl Into<String>) -> Self {
        Self {
            cause,
            text: text.into(),
            terminate: false,
        }
    }

    /// The text clients see.
    pub(crate) fn message(&self) -> String {
        let cause = cause_name(self.cause);
        if self.text.is_empty() {
            cause
        } else {
            format!("{cause}: {}", shown(&self.text))
        }
    }
}

/// Bytes of a text about a command. Texts quote ids, and what is refused may be as long as a request.
const TEXT_MAX: usize = 2_000;

/// The part of a text that is shown.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

/// A cause's name as it stands in messages: `BadStartTimerAttributes`.
pub(crate) fn cause_name(cause: WorkflowTaskFailedCause) -> String {
    format!("{cause:?}")
}

/// The context for checking a command: the state before, and what earlier commands of the same
/// completion do to it.
pub(crate) struct Check<'a> {
    ms: &'a MutableState,
    ctx: &'a DecisionContext<'a>,
    /// Timers started (true) or cancelled (false) by earlier commands.
    timers: Vec<(&'a str, bool)>,
    /// Ids of activities that earlier commands schedule.
    activities_added: Vec<&'a str>,
    /// Ids of all pending activities, once there are too many to look through for every command.
    activity_ids: Option<HashSet<&'a str>>,
    activities_cancelled: Vec<i64>,
    /// The event each activity gets that earlier commands schedule. Workers count along, and may name them.
    activity_events: Vec<i64>,
    /// The event the command at hand gets.
    event_id: i64,
    children: Vec<&'a str>,
    cancels_added: usize,
    signals_added: usize,
    /// Buffered timer events that earlier commands take back.
    buffered_taken: usize,
}

impl<'a> Check<'a> {
    fn new(ms: &'a MutableState, ctx: &'a DecisionContext<'a>) -> Self {
        Self {
            ms,
            ctx,
            timers: Vec::new(),
            activities_added: Vec::new(),
            activity_ids: None,
            activities_cancelled: Vec::new(),
            activity_events: Vec::new(),
            event_id: first_event(ms),
            children: Vec::new(),
            cancels_added: 0,
            signals_added: 0,
            buffered_taken: 0,
        }
    }

    /// Ends the run when a payload is too large.
    fn blob(
        &self,
        cause: WorkflowTaskFailedCause,
        what: &str,
        bytes: usize,
    ) -> Result<(), CommandError> {
        if bytes <= self.ctx.limits.blob_size_error {
            return Ok(());
        }
        Err(CommandError {
            terminate: true,
            ..CommandError::new(cause, format!("{what} exceeds size limit."))
        })
    }

    /// Takes an activity id, unless a pending activity has it.
    fn take_activity_id(&mut self, id: &'a str) -> bool {
        let ms = self.ms;
        let pending = ms.activities.len() + self.activities_added.len();
        let known = if pending <= FEW {
            self.activities_added.contains(&id)
                || ms.activities.values().any(|a| a.activity_id == id)
        } else {
            let added = &self.activities_added;
            let ids = self.activity_ids.get_or_insert_with(|| {
                let pending = ms.activities.values().map(|a| a.activity_id.as_str());
                pending.chain(added.iter().copied()).collect()
            });
            !ids.insert(id)
        };
        self.activities_added.push(id);
        !known
    }

    /// Refuses to close while events wait that the worker has not seen.
    fn may_close(&self) -> Result<(), CommandError> {
        if self.ms.buffered.len() > self.buffered_taken {
            return Err(CommandError::new(
                WorkflowTaskFailedCause::UnhandledCommand,
                "",
            ));
        }
        Ok(())
    }

    /// Refuses one pending thing too many.
    fn room(
        &self,
        cause: WorkflowTaskFailedCause,
        what: &str,
        pending: usize,
    ) -> Result<(), CommandError> {
        let limit = self.ctx.limits.pending_limit;
        if pending < limit {
            return Ok(());
        }
        Err(CommandError::new(
            cause,
            format!(
                "the number of pending {what}, {pending}, has reached the per-workflow limit of {limit}"
            ),
        ))
    }

    /// Refuses a namespace other than the run's own.
    fn own_namespace(
        &self,
        cause: WorkflowTaskFailedCause,
        namespace: &str,
    ) -> Result<(), CommandError> {
        if namespace.is_empty() || namespace == self.ctx.limits.namespace {
            return Ok(());
        }
        Err(CommandError::new(
            cause,
            format!(
                "Cross-namespace commands are not allowed: from {} to {namespace}.",
                self.ctx.limits.namespace
            ),
        ))
    }
}

/// Refuses durations that are none. `say` makes the text of the fault and the name of what has it; unset
/// durations are as good as zero.
fn check_durations<const N: usize>(
    cause: WorkflowTaskFailedCause,
    durations: [(&str, &Option<prost_types::Duration>); N],
    say: impl Fn(&str, &str) -> String,
) -> Result<(), CommandError> {
    for (what, duration) in durations {
        let Some(d) = duration else { continue };
        let fault = match (d.seconds.signum(), d.nanos.signum()) {
            (1, -1) | (-1, 1) => "duration has seconds and nanos with different signs",
            (-1, _) | (_, -1) => "negative duration",
            _ => continue,
        };
        return Err(CommandError::new(cause, say(what, fault)));
    }
    Ok(())
}

/// The bytes of optional payloads.
fn size(payloads: &Option<Payloads>) -> usize {
    payloads.as_ref().map_or(0, prost::Message::encoded_len)
}

/// Refuses a completion in which something follows the command that closes the run.
pub(crate) fn check_sequence(commands: &[Command]) -> Result<(), Refusal> {
    let Some((_, before)) = commands.split_last() else {
        return Ok(());
    };
    let Some(closing) = before.iter().find(|c| closes(c)) else {
        return Ok(());
    };
    let all: Vec<String> = commands
        .iter()
        .map(|c| format!("{:?}", c.command_type()))
        .collect();
    Err(Refusal::Invalid(format!(
        "invalid command sequence: [{}], command {:?} must be the last command.",
        all.join(", "),
        closing.command_type()
    )))
}

/// Whether the completion closes the run.
pub(crate) fn ends_run(commands: &[Command]) -> bool {
    commands.last().is_some_and(closes)
}

fn closes(command: &Command) -> bool {
    matches!(
        command.command_type(),
        CommandType::CompleteWorkflowExecution
            | CommandType::FailWorkflowExecution
            | CommandType::CancelWorkflowExecution
            | CommandType::ContinueAsNewWorkflowExecution
    )
}

/// Checks all commands.
pub(crate) fn check(
    ms: &MutableState,
    commands: &[Command],
    ctx: &DecisionContext<'_>,
) -> Result<(), CommandError> {
    let mut cx = Check::new(ms, ctx);
    for command in commands {
        check_one(command, &mut cx)?;
        cx.event_id += 1;
    }
    Ok(())
}

/// The event of the first command: it follows the completed event, and for an attempt that is not in history
/// also its scheduled and started events. Each command writes one event; what else it leads to follows after
/// all of them.
fn first_event(ms: &MutableState) -> i64 {
    let transient = ms
        .execution_info
        .workflow_task
        .as_ref()
        .is_some_and(|t| t.attempt > 1);
    ms.execution_info.next_event_id.get() + if transient { 3 } else { 1 }
}

fn check_one<'a>(command: &'a Command, cx: &mut Check<'a>) -> Result<(), CommandError> {
    use WorkflowTaskFailedCause as Cause;
    let Some(attributes) = &command.attributes else {
        let text = format!(
            "attributes are not set on {:?}Command.",
            command.command_type()
        );
        return Err(CommandError::new(unset_cause(command.command_type()), text));
    };
    match attributes {
        C::ScheduleActivityTaskCommandAttributes(a) => schedule_activity::check(a, cx),
        C::RequestCancelActivityTaskCommandAttributes(a) => request_cancel_activity::check(a, cx),
        C::StartTimerCommandAttributes(a) => start_timer::check(a, cx),
        C::CancelTimerCommandAttributes(a) => cancel_timer::check(a, cx),
        C::RecordMarkerCommandAttributes(a) => record_marker::check(a, cx),
        C::CompleteWorkflowExecutionCommandAttributes(a) => complete_workflow::check(a, cx),
        C::FailWorkflowExecutionCommandAttributes(a) => fail_workflow::check(a, cx),
        C::CancelWorkflowExecutionCommandAttributes(a) => cancel_workflow::check(a, cx),
        C::ContinueAsNewWorkflowExecutionCommandAttributes(a) => continue_as_new::check(a, cx),
        C::StartChildWorkflowExecutionCommandAttributes(a) => start_child::check(a, cx),
        C::SignalExternalWorkflowExecutionCommandAttributes(a) => signal_external::check(a, cx),
        C::RequestCancelExternalWorkflowExecutionCommandAttributes(a) => {
            cancel_external::check(a, cx)
        }
        C::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
            upsert_search_attributes::check(a, cx)
        }
        C::ModifyWorkflowPropertiesCommandAttributes(a) => modify_properties::check(a, cx),
        C::ProtocolMessageCommandAttributes(_) => Err(CommandError::new(
            Cause::BadUpdateWorkflowExecutionMessage,
            "Workflow updates are not supported by this server.",
        )),
        C::ScheduleNexusOperationCommandAttributes(_) => Err(CommandError::new(
            Cause::FeatureDisabled,
            "Nexus operations are not supported by this server.",
        )),
        C::RequestCancelNexusOperationCommandAttributes(_) => Err(CommandError::new(
            Cause::FeatureDisabled,
            "Nexus operations are not supported by this server.",
        )),
    }
}

/// The cause for a command of the given type that says nothing.
fn unset_cause(command_type: CommandType) -> WorkflowTaskFailedCause {
    use CommandType as T;
    use WorkflowTaskFailedCause as Cause;
    match command_type {
        T::ScheduleActivityTask => Cause::BadScheduleActivityAttributes,
        T::RequestCancelActivityTask => Cause::BadRequestCancelActivityAttributes,
        T::StartTimer => Cause::BadStartTimerAttributes,
        T::CompleteWorkflowExecution => Cause::BadCompleteWorkflowExecutionAttributes,
        T::FailWorkflowExecution => Cause::BadFailWorkflowExecutionAttributes,
        T::CancelTimer => Cause::BadCancelTimerAttributes,
        T::CancelWorkflowExecution => Cause::BadCancelWorkflowExecutionAttributes,
        T::RequestCancelExternalWorkflowExecution => {
            Cause::BadRequestCancelExternalWorkflowExecutionAttributes
        }
        T::RecordMarker => Cause::BadRecordMarkerAttributes,
        T::ContinueAsNewWorkflowExecution => Cause::BadContinueAsNewAttributes,
        T::StartChildWorkflowExecution => Cause::BadStartChildExecutionAttributes,
        T::SignalExternalWorkflowExecution => Cause::BadSignalWorkflowExecutionAttributes,
        T::UpsertWorkflowSearchAttributes => Cause::BadSearchAttributes,
        T::ProtocolMessage => Cause::BadUpdateWorkflowExecutionMessage,
        T::ModifyWorkflowProperties => Cause::BadModifyWorkflowPropertiesAttributes,
        T::ScheduleNexusOperation => Cause::BadScheduleNexusOperationAttributes,
        T::RequestCancelNexusOperation => Cause::BadRequestCancelNexusOperationAttributes,
        T::Unspecified => Cause::UnhandledCommand,
    }
}

/// The effects of commands, beside events.
#[derive(Default)]
pub(crate) struct CommandEffects {
    /// Something happened that needs a workflow task.
    pub(crate) needs_workflow_task: bool,
    /// Activities the worker asked to be handed directly.
    pub(crate) eager: Vec<EventId>,
}

/// The context for writing a command's events.
pub(crate) struct Write<'t, 'a> {
    decision: &'t mut Decision<'a>,
    /// The completed event all of them refer to.
    completed: i64,
    /// The identity of the worker that completed the workflow task.
    identity: &'t str,
    user_metadata: Option<UserMetadata>,
    markers: Vec<EventGroupMarker>,
    done: CommandEffects,
}

impl Write<'_, '_> {
    /// Writes the command's event, with what the worker attached to the command.
    fn write(&mut self, attributes: Attributes) -> Result<EventId, Refusal> {
        let mut event = self.decision.event(attributes);
        event.user_metadata = self.user_metadata.take();
        event.event_group_markers = std::mem::take(&mut self.markers);
        self.decision.write_event(event)
    }
}

/// Writes the events of commands that were all found good.
pub(crate) fn write(
    decision: &mut Decision<'_>,
    commands: Vec<Command>,
    completed: i64,
    identity: &str,
) -> Result<CommandEffects, Refusal> {
    let mut cx = Write {
        decision,
        completed,
        identity,
        user_metadata: None,
        markers: Vec::new(),
        done: CommandEffects::default(),
    };
    for command in commands {
        if closes(&command) {
            // Nothing can follow the end.
            cx.decision.flush_buffered_events();
        }
        cx.user_metadata = command.user_metadata;
        cx.markers = command.event_group_markers;
        let Some(attributes) = command.attributes else {
            continue;
        };
        match attributes {
            C::ScheduleActivityTaskCommandAttributes(a) => schedule_activity::write(a, &mut cx)?,
            C::RequestCancelActivityTaskCommandAttributes(a) => {
                request_cancel_activity::write(a, &mut cx)?
            }
            C::StartTimerCommandAttributes(a) => start_timer::write(a, &mut cx)?,
            C::CancelTimerCommandAttributes(a) => cancel_timer::write(a, &mut cx)?,
            C::RecordMarkerCommandAttributes(a) => record_marker::write(a, &mut cx)?,
            C::CompleteWorkflowExecutionCommandAttributes(a) => {
                complete_workflow::write(a, &mut cx)?
            }
            C::FailWorkflowExecutionCommandAttributes(a) => fail_workflow::write(a, &mut cx)?,
            C::CancelWorkflowExecutionCommandAttributes(a) => cancel_workflow::write(a, &mut cx)?,
            C::ContinueAsNewWorkflowExecutionCommandAttributes(a) => {
                continue_as_new::write(a, &mut cx)?
            }
            C::StartChildWorkflowExecutionCommandAttributes(a) => start_child::write(a, &mut cx)?,
            C::SignalExternalWorkflowExecutionCommandAttributes(a) => {
                signal_external::write(a, &mut cx)?
            }
            C::RequestCancelExternalWorkflowExecutionCommandAttributes(a) => {
                cancel_external::write(a, &mut cx)?
            }
            C::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
                upsert_search_attributes::write(a, &mut cx)?
            }
            C::ModifyWorkflowPropertiesCommandAttributes(a) => {
                modify_properties::write(a, &mut cx)?
            }
            // Refused by the check.
            C::ProtocolMessageCommandAttributes(_)
            | C::ScheduleNexusOperationCommandAttributes(_)
            | C::RequestCancelNexusOperationCommandAttributes(_) => {}
        }
    }
    Ok(cx.done)
}

/// Starts the activities that go back with the answer; what closed meanwhile is left out.
pub(crate) fn start_eager(
    decision: &mut Decision<'_>,
    done: &mut CommandEffects,
    identity: &str,
) -> Result<(), Refusal> {
    done.eager
        .retain(|id| decision.ms.activities.contains_key(id));
    for id in &done.eager {
        let request_id = decision.uuid();
        begin_attempt(decision, *id, request_id, identity.to_owned())?;
    }
    Ok(())
}
