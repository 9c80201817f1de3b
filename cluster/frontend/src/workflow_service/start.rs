//! StartWorkflowExecution.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        enums::v1::WorkflowIdConflictPolicy,
        workflowservice::v1::{StartWorkflowExecutionRequest, StartWorkflowExecutionResponse},
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    limits::Limits,
    validate::{self, NewWorkflow},
};

pub(crate) fn check(
    request: &mut StartWorkflowExecutionRequest,
    limits: Limits<'_>,
) -> Result<(), Status> {
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
        default_conflict: WorkflowIdConflictPolicy::Fail,
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
    validate::failure(request.continued_failure.as_mut());
    validate::blob(request.continued_failure.as_ref(), limits)?;
    validate::blob(request.last_completion_result.as_ref(), limits)?;
    if let Some(options) = &request.on_conflict_options
        && options.attach_completion_callbacks
        && !options.attach_request_id
    {
        return validate::refuse(
            "attaching request ID is required for attaching completion callbacks",
        );
    }
    if !request.completion_callbacks.is_empty() {
        return validate::refuse("attaching workflow callbacks is disabled for this namespace");
    }
    Ok(())
}

impl Serve for StartWorkflowExecutionRequest {
    fn begins_on(&self) -> Option<&str> {
        self.task_queue.as_ref().map(|queue| queue.name.as_str())
    }

    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<StartWorkflowExecutionResponse, Status> {
        check(&mut self, host.limits(call.namespace.name.as_str()))?;
        if self.request_id.is_empty() {
            self.request_id = host.ids.make();
        }
        let request = history::StartWorkflowExecutionRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
            ..Default::default()
        };
        host.history
            .start_workflow_execution(call.onward(request))
            .await
    }
}
