//! The way in: which rule answers which request, and what happens first when the run's owner changed.

use proto_messages::temporal::api::enums::v1::WorkflowTaskFailedCause;

use super::{Request, fire, reapply};
use crate::{
    DecisionContext, Durability, MutableState, Refusal, Transition,
    component::{
        activity, cancel, child, close, external_cancel, external_signal, signal, workflow_task,
    },
    decision::Decision,
};

impl MutableState {
    /// Decides one request. On `Err` the run is unchanged, except after [`Refusal::Corrupt`], which says that
    /// this copy of it must not be used any more.
    pub fn handle(
        &mut self,
        request: Request,
        ctx: &DecisionContext<'_>,
    ) -> Result<Transition, Refusal> {
        self.assert_invariants("before a request");
        let mark = self.mark();
        let decided = self.answer(request, ctx);
        match &decided {
            Err(Refusal::Corrupt(_)) => {}
            Err(_) => self.assert_unchanged(mark, "a refused request"),
            Ok(transition) => {
                self.assert_invariants("after a request");
                if transition.durability == Durability::None {
                    self.assert_unchanged(mark, "a request that changes nothing");
                }
            }
        }
        decided
    }

    fn answer(
        &mut self,
        request: Request,
        ctx: &DecisionContext<'_>,
    ) -> Result<Transition, Refusal> {
        if !self.is_running() || self.execution_info.zombie {
            return match request {
                Request::Fire(_) => Ok(Decision::new(self, ctx).finish()),
                _ => Err(Refusal::Closed(self.execution_info.status)),
            };
        }
        if ctx.version < self.last_version() {
            return Err(Refusal::NotReady(
                "the run was written under a later version".into(),
            ));
        }
        if !self.was_taken_over(ctx) {
            return decide(Decision::new(self, ctx), request);
        }
        // What the old owner left in flight is settled first. The request may still be refused, so this is
        // done on a copy; it happens once per run and failover.
        let mut copy = self.clone();
        let mut decision = Decision::new(&mut copy, ctx);
        workflow_task::fail_in_flight(
            &mut decision,
            WorkflowTaskFailedCause::FailoverCloseCommand,
        )?;
        decision.flush_buffered_events();
        decision.ms.execution_info.workflow_task = None;
        decision.schedule_workflow_task()?;
        let mut transition = decide(decision, request)?;
        // The request may be one whose effect can be written behind; what was settled here is not.
        transition.durability = Durability::Durable;
        *self = copy;
        Ok(transition)
    }

    /// Whether a worker still holds a workflow task of an earlier version.
    fn was_taken_over(&self, ctx: &DecisionContext<'_>) -> bool {
        let last = self.last_version();
        self.execution_info
            .workflow_task
            .as_ref()
            .is_some_and(|task| {
                task.started_event_id.get() != 0
                && task.version < ctx.version
                // A run that was local until now stays local until its task ends.
                && last.get() != 0
            })
    }
}

fn decide(mut decision: Decision<'_>, request: Request) -> Result<Transition, Refusal> {
    let t = &mut decision;
    match request {
        Request::Signal {
            signal,
            only_from_parent,
        } => signal::signal(t, signal, only_from_parent.as_ref())?,
        Request::Cancel {
            reason,
            identity,
            request_id,
            external,
            child_only,
            links,
        } => {
            let cancel = cancel::Cancel {
                links,
                reason,
                identity,
                request_id,
                external,
                child_only,
            };
            cancel::cancel(t, cancel)?
        }
        Request::Terminate {
            reason,
            details,
            identity,
            only_from_parent,
            first_execution_run_id,
            links,
        } => {
            close::allowed(t.ms, only_from_parent.as_ref(), &first_execution_run_id)?;
            close::terminate_linked(t, reason, details, identity, links)?
        }
        Request::StartWorkflowTask {
            scheduled_event_id,
            attempt,
            request_id,
            identity,
            ..
        } => workflow_task::start(t, scheduled_event_id, attempt, &request_id, &identity)?,
        Request::CompleteWorkflowTask {
            scheduled_event_id,
            started_event_id,
            attempt,
            request,
            queries_pending,
        } => {
            let token = workflow_task::Token {
                scheduled_event_id,
                started_event_id,
                attempt,
            };
            workflow_task::complete(t, token, *request, queries_pending)?
        }
        Request::FailWorkflowTask {
            scheduled_event_id,
            started_event_id,
            attempt,
            cause,
            failure,
            identity,
            binary_checksum,
        } => {
            let token = workflow_task::Token {
                scheduled_event_id,
                started_event_id,
                attempt,
            };
            token.check(t.ms)?;
            let failed = workflow_task::Failed {
                cause,
                failure,
                identity,
                binary_checksum,
            };
            workflow_task::fail(t, failed)?
        }
        other => decide_other(t, other)?,
    }
    workflow_task::limit_buffer(t)?;
    Ok(decision.finish())
}

/// Decides requests about activities, timers, children and other runs.
fn decide_other(t: &mut Decision<'_>, request: Request) -> Result<(), Refusal> {
    match request {
        Request::ResetSticky => workflow_task::reset_sticky(t),
        Request::FlushBufferedEvents => workflow_task::flush_buffered_events(t)?,
        Request::ScheduleFirstWorkflowTask => workflow_task::schedule_first(t)?,
        Request::StartActivity {
            scheduled_event_id,
            attempt,
            request_id,
            identity,
        } => activity::start(t, scheduled_event_id, attempt, request_id, identity)?,
        Request::Heartbeat {
            activity,
            details,
            identity,
        } => activity::heartbeat(t, &activity, details, identity)?,
        Request::CompleteActivity {
            activity,
            result,
            identity,
        } => activity::complete(t, &activity, result, identity)?,
        Request::FailActivity {
            activity,
            failure,
            last_heartbeat_details,
            identity,
        } => activity::fail(t, &activity, failure, last_heartbeat_details, identity)?,
        Request::CancelActivity {
            activity,
            details,
            identity,
        } => activity::cancel(t, &activity, details, identity)?,
        Request::Fire(fire) => fire::fire(t, fire)?,
        Request::ChildStarted {
            initiated_event_id,
            result,
        } => child::started(t, initiated_event_id, result)?,
        Request::ChildClosed {
            initiated_event_id,
            child,
            event,
        } => child::closed(t, initiated_event_id, child, *event)?,
        Request::ExternalSignaled {
            initiated_event_id,
            result,
        } => external_signal::signaled(t, initiated_event_id, result)?,
        Request::ExternalCanceled {
            initiated_event_id,
            result,
        } => external_cancel::canceled(t, initiated_event_id, result)?,
        Request::Attach { request_id, links } => signal::attach(t, request_id, links)?,
        Request::Reapply { run_id, events } => reapply::reapply(t, &run_id, events)?,
        // Answered by the caller.
        Request::Signal { .. }
        | Request::Cancel { .. }
        | Request::Terminate { .. }
        | Request::StartWorkflowTask { .. }
        | Request::CompleteWorkflowTask { .. }
        | Request::FailWorkflowTask { .. } => {}
    }
    Ok(())
}
