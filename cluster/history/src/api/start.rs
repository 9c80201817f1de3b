//! StartWorkflowExecution and SignalWithStartWorkflowExecution: one transaction on the workflow id looks at
//! the current run, lets the id policies decide, and makes the new run, together with the end of the run
//! it replaces.

mod answer;
mod orphan;
mod policy;

use std::time::Duration;

use proto_ids::{RunId, RunKey};
use proto_messages::{
    meridian::history::v1 as internal,
    temporal::api::{
        enums::v1::{WorkflowExecutionStatus, WorkflowIdConflictPolicy},
        workflowservice::v1 as public,
    },
    temporal::server::api::history::v1::VersionHistoryItem,
    time::duration_from_proto,
};
use tonic::Status;

use cluster_core::{
    MutableState, Request, Start, VersionItem,
    request::{Parent, Signal},
};
use cluster_rpc::status;
use cluster_shard::{CurrentChange, CurrentRecord, Shard, Txn};

use crate::{
    api, change,
    engine::Engine,
    error::{self, HistoryError},
    poll::{Extent, TaskView},
    settings,
};
use policy::StartAction;

/// The parameters of a start, from whichever call it came.
struct StartParams {
    key: RunKey,
    start: Start,
    policies: policy::IdPolicies,
    /// Set for signal-with-start.
    signal: Option<Signal>,
    /// The current branch of the parent's history, for a child.
    parent_branch: Vec<VersionItem>,
}

/// How a start ended.
struct Started {
    run_id: RunId,
    first_run_id: RunId,
    is_new: bool,
    /// The call was served before; the answer is the same.
    is_repeated: bool,
    /// The call is attached to a run that was there before it, under this request id.
    attached_request_id: Option<String>,
    status: WorkflowExecutionStatus,
    /// The first workflow task, when the caller gets it at once.
    task: Option<TaskView>,
}

/// Serves StartWorkflowExecution, for clients and for parents.
pub async fn start(
    engine: &Engine,
    request: internal::StartWorkflowExecutionRequest,
    timeout: Option<Duration>,
) -> Result<public::StartWorkflowExecutionResponse, Status> {
    let api_request = api::required(request.request)?;
    // A child's start is part of work that has begun.
    let _in_flight = match request.parent {
        None => engine.admit_start(timeout)?,
        Some(_) => None,
    };
    let key = key(&request.namespace_id, &api_request.workflow_id)?;
    let namespace = api_request.namespace.clone();
    let backoff = request
        .first_workflow_task_backoff
        .as_ref()
        .map(|d| duration_from_proto(Some(d)));
    let wants_eager = api_request.request_eager_execution && request.parent.is_none();
    let mut params = StartParams::new(
        engine,
        key,
        api_request,
        backoff,
        WorkflowIdConflictPolicy::Fail,
    );
    if let Some(parent_execution) = request.parent {
        params.parent_branch = branch(&parent_execution);
        params.start.parent = Some(parent(parent_execution));
    }
    params.start.eager &= wants_eager;
    let params_key = params.key.clone();
    let shard = engine.shard_of(&params_key).await?;
    let mut started = run(engine, &shard, params).await?;
    if started.is_repeated && wants_eager {
        started.task = answer::first_task(&shard, &params_key, &started.run_id).await?;
    }
    answer::started(&shard, &params_key, &namespace, started).await
}

/// Serves SignalWithStartWorkflowExecution.
pub async fn signal_with_start(
    engine: &Engine,
    request: internal::SignalWithStartWorkflowExecutionRequest,
    timeout: Option<Duration>,
) -> Result<public::SignalWithStartWorkflowExecutionResponse, Status> {
    let mut api_request = api::required(request.request)?;
    let _in_flight = engine.admit_start(timeout)?;
    let key = key(&request.namespace_id, &api_request.workflow_id)?;
    let signal = Signal {
        name: std::mem::take(&mut api_request.signal_name),
        input: api_request.signal_input.take(),
        header: api_request.header.clone(),
        identity: api_request.identity.clone(),
        request_id: api_request.request_id.clone(),
        external: None,
        skip_workflow_task: false,
        links: api_request.links.clone(),
    };
    let use_existing = WorkflowIdConflictPolicy::UseExisting;
    let mut params = StartParams::new(
        engine,
        key,
        answer::start_request(api_request),
        None,
        use_existing,
    );
    params.signal = Some(signal);
    let shard = engine.shard_of(&params.key).await?;
    let started = run(engine, &shard, params).await?;
    Ok(public::SignalWithStartWorkflowExecutionResponse {
        run_id: started.run_id.into(),
        first_execution_run_id: started.first_run_id.into(),
        started: started.is_new || started.is_repeated,
        ..Default::default()
    })
}

async fn run(engine: &Engine, shard: &Shard, params: StartParams) -> Result<Started, Status> {
    let key = params.key.clone();
    let schedule = &params.start.request.cron_schedule;
    if !schedule.is_empty() {
        // Before the id policies, which may answer with a run that is there already.
        cluster_core::cron::validate(schedule, engine.now()).map_err(status::invalid_argument)?;
    }
    let reuse = engine.deps.settings.get(&settings::REUSE_INTERVAL);
    let decide = async |txn: &mut Txn| decide(txn, params, reuse).await;
    let ended = shard
        .transact(&key.namespace_id, &key.workflow_id, decide)
        .await;
    ended.map_err(|e| error::status(e.into(), &key))
}

async fn decide(
    txn: &mut Txn,
    params: StartParams,
    reuse: Duration,
) -> Result<Started, HistoryError> {
    let Some(current) = txn.current().await? else {
        return make(txn, params);
    };
    if let Some(request_id) = params.attaches_request() {
        let run = txn.peek(&current.run_id).await?;
        if run.is_some_and(|ms| ms.has_attached(request_id)) {
            return Ok(Started::attached(&current, request_id));
        }
    }
    let now = txn.decision_context().now();
    match policy::start_action(&params.policies, &current, &params.key, now, reuse) {
        StartAction::Create => make(txn, params),
        StartAction::Deduplicate => Ok(Started::existing(&current, true)),
        StartAction::UseExisting if params.signal.is_some() => {
            signal_existing(txn, params, &current).await
        }
        StartAction::UseExisting => attach(txn, params, &current).await,
        StartAction::TerminateExisting => {
            end_existing(txn, &params, &current).await?;
            make(txn, params)
        }
        StartAction::Reject(_) if orphan::end(txn, &params, &current).await? => make(txn, params),
        StartAction::Reject(status) => Err(HistoryError::Status(*status)),
    }
}

/// Makes the new run.
fn make(txn: &mut Txn, params: StartParams) -> Result<Started, HistoryError> {
    let StartParams {
        key,
        mut start,
        signal,
        ..
    } = params;
    let context = txn.decision_context();
    let ctx = context.borrowed();
    let run_id = change::new_run_id(&ctx);
    start.key = RunKey {
        run_id: run_id.clone(),
        ..key
    };
    start.signal = signal;
    let (ms, transition) = MutableState::start(start, &ctx).map_err(HistoryError::Refused)?;
    let task = ms
        .execution_info
        .workflow_task
        .as_ref()
        .filter(|t| t.started_event_id.get() > 0);
    let started = Started {
        task: task.map(|t| TaskView::started(&ms, t, Extent::Full, Vec::new())),
        first_run_id: ms.start.first_run_id.clone(),
        run_id,
        is_new: true,
        is_repeated: false,
        attached_request_id: None,
        status: WorkflowExecutionStatus::Running,
    };
    txn.insert(
        ms,
        transition.events,
        transition.tasks,
        CurrentChange::Become,
    )?;
    Ok(started)
}

async fn signal_existing(
    txn: &mut Txn,
    params: StartParams,
    current: &CurrentRecord,
) -> Result<Started, HistoryError> {
    let signal = params.signal.unwrap_or_default();
    let request = Request::Signal {
        signal,
        only_from_parent: None,
    };
    change::apply_in_txn(txn, &current.run_id, request).await?;
    Ok(Started::existing(current, false))
}

/// Uses the run that is open, and attaches to it what the caller wants attached.
async fn attach(
    txn: &mut Txn,
    params: StartParams,
    current: &CurrentRecord,
) -> Result<Started, HistoryError> {
    let request = &params.start.request;
    let Some(options) = &request.on_conflict_options else {
        return Ok(Started::existing(current, false));
    };
    let request_id = match options.attach_request_id {
        true => request.request_id.clone(),
        false => String::new(),
    };
    let links = match options.attach_links {
        true => request.links.clone(),
        false => Vec::new(),
    };
    let started = match request_id.is_empty() {
        true => Started::existing(current, false),
        false => Started::attached(current, &request_id),
    };
    change::apply_in_txn(txn, &current.run_id, Request::Attach { request_id, links }).await?;
    Ok(started)
}

async fn end_existing(
    txn: &mut Txn,
    params: &StartParams,
    current: &CurrentRecord,
) -> Result<(), HistoryError> {
    let reason = match params.policies.is_old_terminate {
        true => "TerminateIfRunning WorkflowIdReusePolicy Policy",
        false => "TerminateExisting WorkflowIdConflictPolicy",
    };
    change::apply_in_txn(txn, &current.run_id, change::terminate(reason.to_owned())).await?;
    Ok(())
}

impl StartParams {
    /// The request id that is to be attached to an open run, if any.
    fn attaches_request(&self) -> Option<&str> {
        let request = &self.start.request;
        let options = request.on_conflict_options.as_ref();
        options
            .filter(|o| o.attach_request_id && !request.request_id.is_empty())
            .map(|_| request.request_id.as_str())
    }

    fn new(
        engine: &Engine,
        key: RunKey,
        request: public::StartWorkflowExecutionRequest,
        backoff: Option<Duration>,
        default_conflict: WorkflowIdConflictPolicy,
    ) -> Self {
        let policies = policy::IdPolicies::of(&request, default_conflict);
        let start = Start {
            attempt: 1,
            first_workflow_task_backoff: backoff.unwrap_or_default(),
            eager: request.request_eager_execution
                && engine.deps.settings.get(&settings::EAGER_START),
            request: Box::new(request),
            ..Start::default()
        };
        Self {
            key,
            start,
            policies,
            signal: None,
            parent_branch: Vec::new(),
        }
    }
}

impl Started {
    fn existing(current: &CurrentRecord, is_repeated: bool) -> Self {
        let status = WorkflowExecutionStatus::try_from(current.status).unwrap_or_default();
        Self {
            run_id: current.run_id.clone(),
            first_run_id: current.first_run_id.clone(),
            is_new: false,
            is_repeated,
            attached_request_id: None,
            status,
            task: None,
        }
    }

    fn attached(current: &CurrentRecord, request_id: &str) -> Self {
        Self {
            attached_request_id: Some(request_id.to_owned()),
            ..Self::existing(current, false)
        }
    }
}

fn key(namespace_id: &str, workflow_id: &str) -> Result<RunKey, Status> {
    if workflow_id.is_empty() {
        return Err(status::invalid_argument(
            "WorkflowId is not set on request.",
        ));
    }
    Ok(RunKey::new(namespace_id, workflow_id, ""))
}

fn branch(parent: &internal::ParentExecution) -> Vec<VersionItem> {
    let items = parent.version_history_items.iter();
    let item = |item: &VersionHistoryItem| VersionItem {
        event_id: item.event_id.into(),
        version: item.version.into(),
    };
    items.map(item).collect()
}

fn parent(parent: internal::ParentExecution) -> Parent {
    let execution = parent.execution.unwrap_or_default();
    Parent {
        key: RunKey::new(parent.namespace_id, execution.workflow_id, execution.run_id),
        namespace: parent.namespace,
        initiated_event_id: parent.initiated_event_id.into(),
        initiated_event_version: parent.initiated_event_version,
        root: parent.root_execution,
    }
}
