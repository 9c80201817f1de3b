//! The start of a run.

use std::time::Duration;

use proto_ids::RunId;
use proto_messages::{
    temporal::api::{
        common::v1::WorkflowExecution, enums::v1::ContinueAsNewInitiator,
        history::v1::WorkflowExecutionStartedEventAttributes,
        workflowservice::v1::StartWorkflowExecutionRequest,
    },
    time::{duration_from_proto, duration_to_proto, to_proto},
};

use crate::{
    DecisionContext, Limits, MutableState, Refusal, Reply, Transition,
    component::{properties::is_null, signal::signaled},
    cron,
    decision::Decision,
    event::Attributes,
    request::{Parent, Start},
    retry,
    version::BranchToken,
};

impl MutableState {
    /// Makes a run. What is wrong with the request itself was refused at the edge; only what rules need is
    /// checked here.
    pub fn start(
        start: Start,
        ctx: &DecisionContext<'_>,
    ) -> Result<(MutableState, Transition), Refusal> {
        let branch = BranchToken {
            tree_id: start.key.run_id.as_str().to_owned(),
            branch_id: ctx.seed.uuid(0),
            ancestors: Vec::new(),
        };
        let mut ms = MutableState::empty(start.key.clone(), branch);
        let transition = first_events(&mut ms, start, ctx)?;
        Ok((ms, transition))
    }
}

fn first_events(
    ms: &mut MutableState,
    mut start: Start,
    ctx: &DecisionContext<'_>,
) -> Result<Transition, Refusal> {
    let backoff = first_backoff(&start, ctx)?;
    let signal = start.signal.take();
    // A child waits until its parent knows it; a run that continues another one is known already.
    let held = start.parent.is_some() && start.continued_run_id.is_empty();
    let eager = start.eager && backoff.is_zero() && !held;
    let request_id = std::mem::take(&mut start.request.request_id);
    let identity = start.request.identity.clone();
    let mut decision = Decision::new(ms, ctx);
    let mut event = decision.event(Attributes::WorkflowExecutionStartedEventAttributes(
        Default::default(),
    ));
    event.user_metadata = start.request.user_metadata.take();
    event.links = std::mem::take(&mut start.request.links);
    let attributes = started(start, ctx, backoff, eager)?;
    event.attributes = Some(Attributes::WorkflowExecutionStartedEventAttributes(
        attributes,
    ));
    decision.write_event(event)?;
    decision.ms.start.request_id = request_id;
    if let Some(signal) = signal {
        let event = signaled(&decision, signal);
        decision.write_event(event)?;
    }
    if backoff.is_zero() && !held {
        decision.add_workflow_task_scheduled_event()?;
    }
    if eager {
        let request_id = decision.ms.start.request_id.clone();
        decision.start_workflow_task(&request_id, &identity)?;
    }
    decision.reply = Reply::Started { eager };
    Ok(decision.finish())
}

/// How long the first workflow task waits: as requested, else by the start delay or the cron schedule.
fn first_backoff(start: &Start, ctx: &DecisionContext<'_>) -> Result<Duration, Refusal> {
    let schedule = &start.request.cron_schedule;
    if !start.first_workflow_task_backoff.is_zero() || start.initiator.is_some() {
        return Ok(start.first_workflow_task_backoff);
    }
    if !schedule.is_empty() {
        cron::validate(schedule, ctx.now).map_err(|text| Refusal::Invalid(text.into()))?;
    }
    let delay = duration_from_proto(start.request.workflow_start_delay.as_ref());
    if !delay.is_zero() || schedule.is_empty() {
        return Ok(delay);
    }
    cron::backoff(schedule, ctx.now, ctx.now)
        .ok_or_else(|| Refusal::Invalid("invalid CronSchedule.".into()))
}

fn started(
    start: Start,
    ctx: &DecisionContext<'_>,
    backoff: Duration,
    eager: bool,
) -> Result<WorkflowExecutionStartedEventAttributes, Refusal> {
    let own = start.key.run_id.clone();
    let or_own = |id: RunId| if id.is_empty() { own.clone() } else { id };
    let mut request = *start.request;
    let asked_run = request.workflow_run_timeout;
    let timeouts = Timeouts::of(
        request.workflow_execution_timeout.as_ref(),
        asked_run.as_ref(),
        request.workflow_task_timeout.as_ref(),
        ctx.limits,
    );
    let expiration = match (start.execution_expiration, timeouts.execution) {
        (at, _) if !at.is_zero() => Some(at),
        (_, Duration::ZERO) => None,
        (_, length) => Some(ctx.now.plus(backoff).plus(length)),
    };
    drop_nulls(&mut request);
    if let Some(policy) = &mut request.retry_policy {
        retry::validate(policy).map_err(Refusal::Invalid)?;
        retry::fill_defaults(policy, &ctx.limits.default_workflow_retry);
    }
    let root = start
        .root
        .or_else(|| start.parent.as_ref().and_then(|p| p.root.clone()));
    let parent = start.parent;
    // The first run of a cron schedule is the schedule's as well.
    let initiator = if request.cron_schedule.is_empty() {
        ContinueAsNewInitiator::Unspecified
    } else {
        ContinueAsNewInitiator::CronSchedule
    };
    let text = |id: RunId| -> String { id.into() };
    let mut attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: request.workflow_type,
        task_queue: request.task_queue,
        input: request.input,
        // What the caller left unset stays unset: workers tell the two apart.
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: if duration_from_proto(asked_run.as_ref()) == timeouts.run {
            asked_run
        } else {
            Some(duration_to_proto(timeouts.run))
        },
        workflow_task_timeout: Some(duration_to_proto(timeouts.task)),
        continued_execution_run_id: text(start.continued_run_id),
        initiator: start.initiator.unwrap_or(initiator).into(),
        continued_failure: start.continued_failure.or(request.continued_failure),
        last_completion_result: start
            .last_completion_result
            .or(request.last_completion_result),
        original_execution_run_id: text(or_own(start.original_run_id)),
        identity: request.identity,
        first_execution_run_id: text(or_own(start.first_run_id)),
        retry_policy: request.retry_policy,
        attempt: start.attempt.max(1),
        workflow_execution_expiration_time: expiration.map(to_proto),
        cron_schedule: request.cron_schedule,
        first_workflow_task_backoff: Some(duration_to_proto(backoff)),
        memo: request.memo,
        search_attributes: request.search_attributes,
        prev_auto_reset_points: start.reset_points,
        header: request.header,
        workflow_id: start.key.workflow_id.into(),
        completion_callbacks: request.completion_callbacks,
        root_workflow_execution: root,
        versioning_override: request.versioning_override,
        priority: request.priority,
        eager_execution_accepted: eager,
        ..Default::default()
    };
    if let Some(parent) = parent {
        name_parent(&mut attributes, parent);
    }
    Ok(attributes)
}

fn name_parent(attributes: &mut WorkflowExecutionStartedEventAttributes, parent: Parent) {
    attributes.parent_workflow_namespace = parent.namespace;
    attributes.parent_workflow_namespace_id = parent.key.namespace_id.into();
    attributes.parent_workflow_execution = Some(WorkflowExecution {
        workflow_id: parent.key.workflow_id.into(),
        run_id: parent.key.run_id.into(),
    });
    attributes.parent_initiated_event_id = parent.initiated_event_id.get();
    attributes.parent_initiated_event_version = parent.initiated_event_version;
}

/// A null value stands for no value.
fn drop_nulls(request: &mut StartWorkflowExecutionRequest) {
    if let Some(memo) = &mut request.memo {
        memo.fields.retain(|_, value| !is_null(value));
    }
    request.memo.take_if(|m| m.fields.is_empty());
    if let Some(attributes) = &mut request.search_attributes {
        attributes.indexed_fields.retain(|_, value| !is_null(value));
    }
    request
        .search_attributes
        .take_if(|s| s.indexed_fields.is_empty());
}

/// A run's limits as they hold: the execution timeout bounds the run timeout, which bounds the task timeout.
pub(crate) struct Timeouts {
    pub(crate) execution: Duration,
    pub(crate) run: Duration,
    pub(crate) task: Duration,
}

impl Timeouts {
    /// Computes the timeouts from the requested ones; zero and unset both mean no limit, or the default for the
    /// task timeout.
    pub(crate) fn of(
        execution: Option<&prost_types::Duration>,
        run: Option<&prost_types::Duration>,
        task: Option<&prost_types::Duration>,
        limits: &Limits,
    ) -> Self {
        let execution = duration_from_proto(execution);
        let mut run = duration_from_proto(run);
        if !execution.is_zero() {
            run = if run.is_zero() {
                execution
            } else {
                run.min(execution)
            };
        }
        let mut task = duration_from_proto(task);
        if task.is_zero() {
            task = limits.default_workflow_task_timeout;
        }
        task = task.min(limits.max_workflow_task_timeout);
        if !run.is_zero() {
            task = task.min(run);
        }
        Self {
            execution,
            run,
            task,
        }
    }
}

/// Whether `execution` is the run's parent. A caller that names no run means the one recorded.
pub(crate) fn is_parent(ms: &MutableState, execution: &WorkflowExecution) -> bool {
    ms.start.parent.as_ref().is_some_and(|parent| {
        parent.key.workflow_id.as_str() == execution.workflow_id
            && (execution.run_id.is_empty() || parent.key.run_id.as_str() == execution.run_id)
    })
}
