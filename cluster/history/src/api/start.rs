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
    fault::{self, Fault},
    poll::{Extent, TaskView},
    settings,
};
use policy::Way;

/// What a start wants, from whichever call it came.
struct Wish {
    key: RunKey,
    start: Start,
    policies: policy::Policies,
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
    let ask = api::required(request.request)?;
    // A child's start is part of work that has begun.
    let _in_flight = match request.parent {
        None => engine.admit_start(timeout)?,
        Some(_) => None,
    };
    let key = key(&request.namespace_id, &ask.workflow_id)?;
    let namespace = ask.namespace.clone();
    let backoff = request
        .first_workflow_task_backoff
        .as_ref()
        .map(|d| duration_from_proto(Some(d)));
    let wants_eager = ask.request_eager_execution && request.parent.is_none();
    let mut wish = Wish::new(engine, key, ask, backoff, WorkflowIdConflictPolicy::Fail);
    if let Some(told) = request.parent {
        wish.parent_branch = branch(&told);
        wish.start.parent = Some(parent(told));
    }
    wish.start.eager &= wants_eager;
    let wish_key = wish.key.clone();
    let shard = engine.shard_of(&wish_key).await?;
    let mut started = run(engine, &shard, wish).await?;
    if started.is_repeated && wants_eager {
        started.task = answer::first_task(&shard, &wish_key, &started.run_id).await?;
    }
    answer::started(&shard, &wish_key, &namespace, started).await
}

/// Serves SignalWithStartWorkflowExecution.
pub async fn signal_with_start(
    engine: &Engine,
    request: internal::SignalWithStartWorkflowExecutionRequest,
    timeout: Option<Duration>,
) -> Result<public::SignalWithStartWorkflowExecutionResponse, Status> {
    let mut ask = api::required(request.request)?;
    let _in_flight = engine.admit_start(timeout)?;
    let key = key(&request.namespace_id, &ask.workflow_id)?;
    let signal = Signal {
        name: std::mem::take(&mut ask.signal_name),
        input: ask.signal_input.take(),
        header: ask.header.clone(),
        identity: ask.identity.clone(),
        request_id: ask.request_id.clone(),
        external: None,
        skip_workflow_task: false,
        links: ask.links.clone(),
    };
    let use_existing = WorkflowIdConflictPolicy::UseExisting;
    let mut wish = Wish::new(engine, key, answer::start_request(ask), None, use_existing);
    wish.signal = Some(signal);
    let shard = engine.shard_of(&wish.key).await?;
    let started = run(engine, &shard, wish).await?;
    Ok(public::SignalWithStartWorkflowExecutionResponse {
        run_id: started.run_id.into(),
        first_execution_run_id: started.first_run_id.into(),
        started: started.is_new || started.is_repeated,
        ..Default::default()
    })
}

async fn run(engine: &Engine, shard: &Shard, wish: Wish) -> Result<Started, Status> {
    let key = wish.key.clone();
    let schedule = &wish.start.request.cron_schedule;
    if !schedule.is_empty() {
        // Before the id policies, which may answer with a run that is there already.
        cluster_core::cron::validate(schedule, engine.now()).map_err(status::invalid_argument)?;
    }
    let reuse = engine.deps.settings.get(&settings::REUSE_INTERVAL);
    let decide = async |txn: &mut Txn| decide(txn, wish, reuse).await;
    let ended = shard
        .transact(&key.namespace_id, &key.workflow_id, decide)
        .await;
    ended.map_err(|e| fault::status(e.into(), &key))
}

async fn decide(txn: &mut Txn, wish: Wish, reuse: Duration) -> Result<Started, Fault> {
    let Some(current) = txn.current().await? else {
        return make(txn, wish);
    };
    if let Some(request_id) = wish.attaches_request() {
        let run = txn.peek(&current.run_id).await?;
        if run.is_some_and(|ms| ms.has_attached(request_id)) {
            return Ok(Started::attached(&current, request_id));
        }
    }
    let now = txn.decision_context().now();
    match policy::way(&wish.policies, &current, &wish.key, now, reuse) {
        Way::Make => make(txn, wish),
        Way::Repeat => Ok(Started::existing(&current, true)),
        Way::Existing if wish.signal.is_some() => signal_existing(txn, wish, &current).await,
        Way::Existing => attach(txn, wish, &current).await,
        Way::Replace => {
            end_existing(txn, &wish, &current).await?;
            make(txn, wish)
        }
        Way::Refuse(_) if orphan::end(txn, &wish, &current).await? => make(txn, wish),
        Way::Refuse(status) => Err(Fault::Status(*status)),
    }
}

/// Makes the new run.
fn make(txn: &mut Txn, wish: Wish) -> Result<Started, Fault> {
    let Wish {
        key,
        mut start,
        signal,
        ..
    } = wish;
    let context = txn.decision_context();
    let ctx = context.borrowed();
    let run_id = change::new_run_id(&ctx);
    start.key = RunKey {
        run_id: run_id.clone(),
        ..key
    };
    start.signal = signal;
    let (workflow, transition) = MutableState::start(start, &ctx).map_err(Fault::Refused)?;
    let task = workflow
        .execution_info
        .workflow_task
        .as_ref()
        .filter(|t| t.started_event_id.get() > 0);
    let started = Started {
        task: task.map(|t| TaskView::started(&workflow, t, Extent::Full, Vec::new())),
        first_run_id: workflow.start.first_run_id.clone(),
        run_id,
        is_new: true,
        is_repeated: false,
        attached_request_id: None,
        status: WorkflowExecutionStatus::Running,
    };
    txn.insert(
        workflow,
        transition.events,
        transition.tasks,
        CurrentChange::Become,
    )?;
    Ok(started)
}

async fn signal_existing(
    txn: &mut Txn,
    wish: Wish,
    current: &CurrentRecord,
) -> Result<Started, Fault> {
    let signal = wish.signal.unwrap_or_default();
    let request = Request::Signal {
        signal,
        only_from_parent: None,
    };
    change::within(txn, &current.run_id, request).await?;
    Ok(Started::existing(current, false))
}

/// Uses the run that is open, and attaches to it what the caller wants attached.
async fn attach(txn: &mut Txn, wish: Wish, current: &CurrentRecord) -> Result<Started, Fault> {
    let request = &wish.start.request;
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
    change::within(txn, &current.run_id, Request::Attach { request_id, links }).await?;
    Ok(started)
}

async fn end_existing(txn: &mut Txn, wish: &Wish, current: &CurrentRecord) -> Result<(), Fault> {
    let reason = match wish.policies.is_old_terminate {
        true => "TerminateIfRunning WorkflowIdReusePolicy Policy",
        false => "TerminateExisting WorkflowIdConflictPolicy",
    };
    change::within(txn, &current.run_id, change::terminate(reason.to_owned())).await?;
    Ok(())
}

impl Wish {
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
        let policies = policy::Policies::of(&request, default_conflict);
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
