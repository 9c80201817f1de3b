//! Reset: a new run that shares its beginning with another one and goes on differently.

use proto_ids::{EventId, RunKey};
use proto_messages::temporal::api::{
    enums::v1::{ResetReapplyExcludeType, WorkflowTaskFailedCause},
    failure::v1::{Failure, ResetWorkflowFailureInfo, failure::FailureInfo},
    history::v1::{HistoryEvent, WorkflowTaskFailedEventAttributes},
};

use crate::{
    DecisionContext, MutableState, Refusal,
    component::{activity, child, signal::record_attached},
    decision::Decision,
    event::Attributes,
    limits::SERVER,
    request::{Reset, reapply_event},
    transition::{EventBatch, NewRun},
};

/// Request id of the start of a workflow task that is only started to be failed.
const STARTED_TO_FAIL: &str = "reset-workflow";

impl MutableState {
    /// Makes the run that takes the place of `base`. `kept` are the batches before the reset point; `later` are
    /// the events from there on, of `base` and of the runs that continued it, of which those are reapplied that
    /// came from outside. Terminating the current run is the caller's.
    pub fn reset(
        base: &MutableState,
        kept: Vec<EventBatch>,
        later: Vec<HistoryEvent>,
        reset: &Reset,
        ctx: &DecisionContext<'_>,
    ) -> Result<NewRun, Refusal> {
        let mut ms = fork(base, &kept, reset, ctx)?;
        let Some(task) = ms
            .execution_info
            .workflow_task
            .as_ref()
            .filter(|_| ms.is_running())
        else {
            return Err(Refusal::Invalid(
                "the reset point must lie right after a workflow task was scheduled or started"
                    .into(),
            ));
        };
        let started = task.started_event_id != EventId::default();
        let mut decision = Decision::new(&mut ms, ctx);
        if !started {
            decision.start_workflow_task(STARTED_TO_FAIL, SERVER)?;
        }
        fail_task(&mut decision, base, reset)?;
        activity::fail_started(&mut decision, |details| {
            reset_failure(&reset.reason, details)
        })?;
        if !reset.reapply_nothing {
            let buffered = base.buffered.iter().cloned();
            // Children are named by event ids, which mean something else in the runs that follow.
            let mut in_base = true;
            for event in later.into_iter().chain(buffered) {
                in_base &= event.event_id != 1;
                reapply(&mut decision, event, in_base, &reset.exclude)?;
            }
        }
        decision.add_workflow_task_scheduled_event()?;
        let transition = decision.finish();
        ms.start.request_id = reset.request_id.clone();
        let mut tasks = ms.pending_tasks(ctx.limits);
        if ctx.limits.replicated {
            for batch in &transition.events {
                tasks.push(ms.replicate(batch, batch.version().get()));
            }
        }
        Ok(NewRun {
            mutable_state: ms,
            events: transition.events,
            tasks,
        })
    }
}

/// The state at the reset point, on a branch of its own.
fn fork(
    base: &MutableState,
    kept: &[EventBatch],
    reset: &Reset,
    ctx: &DecisionContext<'_>,
) -> Result<MutableState, Refusal> {
    let next = kept
        .last()
        .map_or(EventId::new(1), EventBatch::next_event_id);
    let branch = base.versions.current().branch.fork(ctx.seed.uuid(0), next);
    let key = RunKey {
        run_id: reset.new_run_id.clone(),
        ..base.key.clone()
    };
    let mut ms = MutableState::empty(key, branch);
    for batch in kept {
        ms.apply(batch, ctx.limits).map_err(Refusal::Corrupt)?;
    }
    Ok(ms)
}

fn fail_task(
    decision: &mut Decision<'_>,
    base: &MutableState,
    reset: &Reset,
) -> Result<(), Refusal> {
    let fork_event_version = decision.ms.last_version().get();
    let (scheduled, started) = match &decision.ms.execution_info.workflow_task {
        Some(task) => (task.scheduled_event_id.get(), task.started_event_id.get()),
        None => (0, 0),
    };
    decision
        .write(Attributes::WorkflowTaskFailedEventAttributes(
            WorkflowTaskFailedEventAttributes {
                scheduled_event_id: scheduled,
                started_event_id: started,
                cause: WorkflowTaskFailedCause::ResetWorkflow.into(),
                failure: Some(reset_failure(&reset.reason, None)),
                identity: reset.identity.clone(),
                base_run_id: base.key.run_id.as_str().to_owned(),
                new_run_id: reset.new_run_id.as_str().to_owned(),
                fork_event_version,
                ..Default::default()
            },
        ))
        .map(|_| ())
}

fn reset_failure(
    reason: &str,
    last_heartbeat_details: Option<proto_messages::temporal::api::common::v1::Payloads>,
) -> Failure {
    Failure {
        message: reason.to_owned(),
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::ResetWorkflowFailureInfo(
            ResetWorkflowFailureInfo {
                last_heartbeat_details,
            },
        )),
        ..Default::default()
    }
}

/// Reapplies what came from outside: signals, starts that attached themselves, and news about children that are
/// still pending here.
fn reapply(
    decision: &mut Decision<'_>,
    event: HistoryEvent,
    in_base: bool,
    exclude: &[ResetReapplyExcludeType],
) -> Result<(), Refusal> {
    use Attributes as A;
    match &event.attributes {
        Some(A::WorkflowExecutionSignaledEventAttributes(_)) => {
            if !exclude.contains(&ResetReapplyExcludeType::Signal) {
                reapply_event(decision, event)?;
            }
            Ok(())
        }
        // A start that was answered with the old run is known to the new one, too.
        Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) => {
            record_attached(decision, a.attached_request_id.clone(), event.links)
        }
        Some(_) if in_base => child::reapply(decision, event),
        _ => Ok(()),
    }
}
