//! SignalWithStartWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        enums::v1::WorkflowIdConflictPolicy,
        workflowservice::v1::{
            SignalWithStartWorkflowExecutionRequest, SignalWithStartWorkflowExecutionResponse,
        },
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    limits::Limits,
    validate::{self, NewWorkflow},
};

fn check(
    request: &mut SignalWithStartWorkflowExecutionRequest,
    limits: Limits<'_>,
) -> Result<(), Status> {
    validate::identifier("SignalName", &request.signal_name, limits)?;
    if request.workflow_id_conflict_policy == WorkflowIdConflictPolicy::Fail as i32 {
        return validate::refuse(
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this \
             operation.",
        );
    }
    let new = NewWorkflow {
        workflow_id: &request.workflow_id,
        workflow_type: request.workflow_type.as_ref(),
        task_queue: request.task_queue.as_mut(),
        input: request.input.as_ref(),
        header: request.header.as_ref(),
        execution_timeout: request.workflow_execution_timeout.as_mut(),
        run_timeout: request.workflow_run_timeout.as_mut(),
        task_timeout: request.workflow_task_timeout.as_mut(),
        start_delay: request.workflow_start_delay.as_mut(),
        identity: &request.identity,
        request_id: &request.request_id,
        reuse_policy: &mut request.workflow_id_reuse_policy,
        conflict_policy: &mut request.workflow_id_conflict_policy,
        default_conflict: WorkflowIdConflictPolicy::UseExisting,
        retry_policy: request.retry_policy.as_mut(),
        cron_schedule: &request.cron_schedule,
        memo: &mut request.memo,
        search_attributes: &mut request.search_attributes,
        user_metadata: request.user_metadata.as_ref(),
        links: &request.links,
        versioning_override: request.versioning_override.as_ref(),
        time_skipping: request.time_skipping_config.as_ref(),
    };
    validate::start(new, limits)?;
    validate::blob(request.signal_input.as_ref(), limits)
}

impl Serve for SignalWithStartWorkflowExecutionRequest {
    fn begins_on(&self) -> Option<&str> {
        self.task_queue.as_ref().map(|queue| queue.name.as_str())
    }

    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<SignalWithStartWorkflowExecutionResponse, Status> {
        check(&mut self, host.limits(call.namespace.name.as_str()))?;
        if self.request_id.is_empty() {
            self.request_id = host.ids.make();
        }
        let request = history::SignalWithStartWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .signal_with_start_workflow_execution(call.onward(request))
            .await
    }
}
