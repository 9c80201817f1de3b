//! Commands of a completed workflow task. Every command is checked against the state that the commands before
//! it would leave, and only then are events written. What each may say and what it leads to stands with its
//! component.

mod fields;

use proto_ids::EventId;
use proto_messages::temporal::api::{
    command::v1::{Command, command::Attributes as C},
    common::v1::Payloads,
    enums::v1::{CommandType, WorkflowTaskFailedCause},
    sdk::v1::{EventGroupMarker, UserMetadata},
};

use crate::{
    DecisionContext, MutableState, Refusal,
    component::{self, activity, child, external_cancel, external_signal, timer},
    decision::Decision,
    event::Attributes,
};

/// The rules of one command.
pub(crate) struct CommandRules {
    /// The command.
    pub(crate) command_type: CommandType,
    /// Why the workflow task fails when the command says nothing.
    pub(crate) unset: WorkflowTaskFailedCause,
    /// Whether it ends the run.
    pub(crate) closes: bool,
    /// Refuses what must not be; changes nothing.
    pub(crate) check: for<'a> fn(&'a C, &mut Check<'a>) -> Result<(), CommandError>,
    /// Writes the events of a command that was found good.
    pub(crate) write: fn(C, &mut Write<'_, '_>) -> Result<(), Refusal>,
}

impl CommandRules {
    /// The rules of a command that ends the run.
    pub(crate) const fn closing(mut self) -> Self {
        self.closes = true;
        self
    }
}

/// The rules of a command from its type, its attributes, the module with its `check` and `write`, and the cause
/// for one that says nothing. Both are called with the command's own attributes only.
macro_rules! command {
    ($command:ident, $attributes:ident, $rules:ident, $unset:expr) => {{
        use proto_messages::temporal::api::{
            command::v1::command::Attributes as C, enums::v1::CommandType,
        };
        $crate::command::CommandRules {
            command_type: CommandType::$command,
            unset: $unset,
            closes: false,
            check: |attributes, cx| match attributes {
                C::$attributes(a) => $rules::check(a, cx),
                _ => Ok(()),
            },
            write: |attributes, cx| match attributes {
                C::$attributes(a) => $rules::write(a, cx),
                _ => Ok(()),
            },
        }
    }};
}
pub(crate) use command;

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
    pub(crate) ms: &'a MutableState,
    pub(crate) ctx: &'a DecisionContext<'a>,
    /// The event the command at hand gets.
    pub(crate) event_id: i64,
    pub(crate) activity: activity::Earlier<'a>,
    pub(crate) timer: timer::Earlier<'a>,
    pub(crate) child: child::Earlier<'a>,
    pub(crate) external_cancel: external_cancel::Earlier,
    pub(crate) external_signal: external_signal::Earlier,
    /// Buffered events that earlier commands take back.
    pub(crate) buffered_taken: usize,
}

impl<'a> Check<'a> {
    fn new(ms: &'a MutableState, ctx: &'a DecisionContext<'a>) -> Self {
        Self {
            ms,
            ctx,
            event_id: first_event(ms),
            activity: Default::default(),
            timer: Default::default(),
            child: Default::default(),
            external_cancel: Default::default(),
            external_signal: Default::default(),
            buffered_taken: 0,
        }
    }

    /// Ends the run when a payload is too large.
    pub(crate) fn blob(
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

    /// Refuses to close while events wait that the worker has not seen.
    pub(crate) fn may_close(&self) -> Result<(), CommandError> {
        if self.ms.buffered.len() > self.buffered_taken {
            return Err(CommandError::new(
                WorkflowTaskFailedCause::UnhandledCommand,
                "",
            ));
        }
        Ok(())
    }

    /// Refuses one pending thing too many.
    pub(crate) fn room(
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
    pub(crate) fn own_namespace(
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
pub(crate) fn check_durations<const N: usize>(
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
pub(crate) fn size(payloads: &Option<Payloads>) -> usize {
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
    component::of_command(command.command_type()).is_some_and(|rules| rules.closes)
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
    let Some(attributes) = &command.attributes else {
        let text = format!(
            "attributes are not set on {:?}Command.",
            command.command_type()
        );
        return Err(CommandError::new(unset_cause(command.command_type()), text));
    };
    match component::of_command(type_of(attributes)) {
        Some(rules) => (rules.check)(attributes, cx),
        None => Err(unsupported(attributes)),
    }
}

/// The refusal of a command that no component takes.
fn unsupported(attributes: &C) -> CommandError {
    use WorkflowTaskFailedCause as Cause;
    match attributes {
        C::ProtocolMessageCommandAttributes(_) => CommandError::new(
            Cause::BadUpdateWorkflowExecutionMessage,
            "Workflow updates are not supported by this server.",
        ),
        _ => CommandError::new(
            Cause::FeatureDisabled,
            "Nexus operations are not supported by this server.",
        ),
    }
}

/// The cause for a command of the given type that says nothing.
fn unset_cause(command_type: CommandType) -> WorkflowTaskFailedCause {
    use CommandType as T;
    use WorkflowTaskFailedCause as Cause;
    match (component::of_command(command_type), command_type) {
        (Some(rules), _) => rules.unset,
        (None, T::ProtocolMessage) => Cause::BadUpdateWorkflowExecutionMessage,
        (None, T::ScheduleNexusOperation) => Cause::BadScheduleNexusOperationAttributes,
        (None, T::RequestCancelNexusOperation) => Cause::BadRequestCancelNexusOperationAttributes,
        (None, _) => Cause::UnhandledCommand,
    }
}

/// The type that goes with the attributes, which is what counts.
fn type_of(attributes: &C) -> CommandType {
    use CommandType as T;
    match attributes {
        C::ScheduleActivityTaskCommandAttributes(_) => T::ScheduleActivityTask,
        C::RequestCancelActivityTaskCommandAttributes(_) => T::RequestCancelActivityTask,
        C::StartTimerCommandAttributes(_) => T::StartTimer,
        C::CancelTimerCommandAttributes(_) => T::CancelTimer,
        C::RecordMarkerCommandAttributes(_) => T::RecordMarker,
        C::CompleteWorkflowExecutionCommandAttributes(_) => T::CompleteWorkflowExecution,
        C::FailWorkflowExecutionCommandAttributes(_) => T::FailWorkflowExecution,
        C::CancelWorkflowExecutionCommandAttributes(_) => T::CancelWorkflowExecution,
        C::ContinueAsNewWorkflowExecutionCommandAttributes(_) => T::ContinueAsNewWorkflowExecution,
        C::StartChildWorkflowExecutionCommandAttributes(_) => T::StartChildWorkflowExecution,
        C::SignalExternalWorkflowExecutionCommandAttributes(_) => {
            T::SignalExternalWorkflowExecution
        }
        C::RequestCancelExternalWorkflowExecutionCommandAttributes(_) => {
            T::RequestCancelExternalWorkflowExecution
        }
        C::UpsertWorkflowSearchAttributesCommandAttributes(_) => T::UpsertWorkflowSearchAttributes,
        C::ModifyWorkflowPropertiesCommandAttributes(_) => T::ModifyWorkflowProperties,
        C::ProtocolMessageCommandAttributes(_) => T::ProtocolMessage,
        C::ScheduleNexusOperationCommandAttributes(_) => T::ScheduleNexusOperation,
        C::RequestCancelNexusOperationCommandAttributes(_) => T::RequestCancelNexusOperation,
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
    pub(crate) decision: &'t mut Decision<'a>,
    /// The completed event all of them refer to.
    pub(crate) completed: i64,
    /// The identity of the worker that completed the workflow task.
    pub(crate) identity: &'t str,
    user_metadata: Option<UserMetadata>,
    markers: Vec<EventGroupMarker>,
    pub(crate) done: CommandEffects,
}

impl Write<'_, '_> {
    /// Writes the command's event, with what the worker attached to the command.
    pub(crate) fn write(&mut self, attributes: Attributes) -> Result<EventId, Refusal> {
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
        // What has no rules was refused by the check.
        if let Some(rules) = component::of_command(type_of(&attributes)) {
            (rules.write)(attributes, &mut cx)?;
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
        activity::begin_attempt(decision, *id, request_id, identity.to_owned())?;
    }
    Ok(())
}
