//! The run that follows: continue-as-new, retry, cron. The close event names it, so its id is chosen before
//! the event is written, and its own first event after.

use std::time::Duration;

use proto_ids::{RunId, RunKey};
use proto_messages::{
    temporal::api::{
        common::v1::Payloads,
        enums::v1::{ContinueAsNewInitiator, RetryState},
        failure::v1::Failure,
        taskqueue::v1::TaskQueue,
        workflowservice::v1::StartWorkflowExecutionRequest,
    },
    time::duration_to_proto,
};

use crate::{
    DecisionContext, IdSeed, MutableState, Refusal, Start, cron, decision::Decision, retry,
    transition::NewRun,
};

/// A run to be made.
pub(crate) struct NextRun {
    pub(crate) start: Start,
}

impl NextRun {
    /// A run that repeats the current one.
    pub(crate) fn like(
        decision: &mut Decision<'_>,
        initiator: ContinueAsNewInitiator,
        backoff: Duration,
    ) -> Self {
        let run_id = decision.uuid();
        let request_id = decision.uuid();
        let ms = &*decision.ms;
        // Whatever the run made of them, the next one begins as this one did.
        let (memo, search_attributes) = match &ms.start.carried {
            Some(carried) => (carried.memo.clone(), carried.search_attributes.clone()),
            None => (
                ms.execution_info.memo.clone(),
                ms.execution_info.search_attributes.clone(),
            ),
        };
        let set = |d: Duration| (!d.is_zero()).then(|| duration_to_proto(d));
        let request = StartWorkflowExecutionRequest {
            namespace: decision.ctx.limits.namespace.clone(),
            workflow_id: ms.key.workflow_id.as_str().to_owned(),
            workflow_type: Some(ms.start.workflow_type.clone()),
            task_queue: Some(TaskQueue {
                name: ms.start.task_queue.clone(),
                ..TaskQueue::default()
            }),
            input: ms.start.input.clone(),
            workflow_execution_timeout: set(ms.start.execution_timeout),
            workflow_run_timeout: set(ms.start.run_timeout),
            workflow_task_timeout: set(ms.start.task_timeout),
            request_id,
            retry_policy: ms.start.retry_policy.clone(),
            cron_schedule: ms.start.cron_schedule.clone(),
            memo,
            search_attributes,
            header: ms.start.header.clone(),
            user_metadata: ms.start.user_metadata.clone(),
            priority: ms.start.priority.clone(),
            ..Default::default()
        };
        let start = Start {
            key: RunKey {
                run_id: RunId::new(run_id),
                ..ms.key.clone()
            },
            request: Box::new(request),
            parent: ms.start.parent.clone(),
            root: ms.start.root.clone(),
            first_run_id: ms.start.first_run_id.clone(),
            original_run_id: RunId::default(),
            attempt: 1,
            continued_run_id: ms.key.run_id.clone(),
            initiator: Some(initiator),
            continued_failure: None,
            last_completion_result: ms.start.last_completion_result.clone(),
            first_workflow_task_backoff: backoff,
            execution_expiration: ms.start.execution_expiration,
            reset_points: ms.execution_info.reset_points.clone(),
            signal: None,
            eager: false,
        };
        Self { start }
    }
}

/// The next run's id, for the close event; empty for none.
pub(crate) fn run_id_of(next: Option<&NextRun>) -> String {
    next.map(|n| n.start.key.run_id.as_str().to_owned())
        .unwrap_or_default()
}

/// The run that follows a completed one: the next one of its cron schedule.
pub(crate) fn after_success(
    decision: &mut Decision<'_>,
    result: &Option<Payloads>,
) -> Option<NextRun> {
    let backoff = cron_backoff(decision)?;
    let mut next = NextRun::like(decision, ContinueAsNewInitiator::CronSchedule, backoff);
    next.start.last_completion_result = result.clone();
    Some(next)
}

/// The run that follows a failed or timed-out one: another attempt, else the next one of its cron schedule.
pub(crate) fn after_failure(
    decision: &mut Decision<'_>,
    failure: &Failure,
) -> (RetryState, Option<NextRun>) {
    let state = match retry_backoff(decision, failure) {
        Ok(backoff) => {
            let mut next = NextRun::like(decision, ContinueAsNewInitiator::Retry, backoff);
            next.start.attempt = decision.ms.start.attempt.saturating_add(1);
            next.start.continued_failure = Some(failure.clone());
            return (RetryState::InProgress, Some(next));
        }
        Err(state) => state,
    };
    let next = cron_backoff(decision).map(|backoff| {
        let mut next = NextRun::like(decision, ContinueAsNewInitiator::CronSchedule, backoff);
        next.start.continued_failure = Some(failure.clone());
        next
    });
    (state, next)
}

fn retry_backoff(decision: &Decision<'_>, failure: &Failure) -> Result<Duration, RetryState> {
    let start = &decision.ms.start;
    let Some(policy) = &start.retry_policy else {
        return Err(RetryState::RetryPolicyNotSet);
    };
    if !retry::is_retryable(Some(failure), &policy.non_retryable_error_types) {
        return Err(RetryState::NonRetryableFailure);
    }
    let asked = retry::requested_delay(Some(failure));
    retry::next_backoff(
        policy,
        start.attempt,
        decision.now(),
        start.retry_expiration,
        asked,
    )
}

fn cron_backoff(decision: &Decision<'_>) -> Option<Duration> {
    let start = &decision.ms.start;
    if start.cron_schedule.is_empty() {
        return None;
    }
    let backoff = cron::backoff(&start.cron_schedule, start.execution_time, decision.now())?;
    let chain_ends = start.execution_expiration;
    (chain_ends.is_zero() || decision.now().plus(backoff) < chain_ends).then_some(backoff)
}

/// Makes the next run, to be stored with the close of this one.
pub(crate) fn start(decision: &mut Decision<'_>, next: Option<NextRun>) -> Result<(), Refusal> {
    let Some(next) = next else { return Ok(()) };
    let ctx = DecisionContext {
        seed: derived(decision.ctx.seed),
        version: decision.version(),
        clock: decision.ctx.clock + 1,
        ..*decision.ctx
    };
    let (ms, transition) = MutableState::start(next.start, &ctx)?;
    decision.new_run = Some(Box::new(NewRun {
        mutable_state: ms,
        events: transition.events,
        tasks: transition.tasks,
    }));
    Ok(())
}

/// A seed whose ids differ from those of `seed`.
fn derived(mut seed: IdSeed) -> IdSeed {
    seed.0[0] ^= 0x5a;
    seed
}
