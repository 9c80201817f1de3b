//! A task in the hands of matching, and what becomes of it.

use proto_ids::{TaskId, Timestamp};
use proto_messages::{
    meridian::matching::v1::AddTaskRequest,
    temporal::api::{query::v1::WorkflowQuery, workflowservice::v1::PollWorkflowTaskQueueResponse},
};
use tokio::sync::oneshot;

/// How an offered task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Started, or obsolete: nothing more to do.
    Done,
    /// The attempt to start it failed for now: offer it again.
    Again(String),
}

/// Where a task came from decides what its end means.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A caller holds it and waits; the outbox behind that call keeps it safe.
    Held(oneshot::Sender<Fate>),
    /// The durable backlog.
    Backlog(TaskId),
    /// A sticky task: its schedule-to-start timeout brings it back if it is lost.
    Volatile,
    /// A query: lives only while its caller waits.
    Query(Box<QueryTask>),
}

/// A query for a worker.
#[derive(Debug)]
pub(crate) struct QueryTask {
    /// Where the answer goes.
    pub(crate) id: String,
    /// The query.
    pub(crate) query: WorkflowQuery,
    /// The poll answer that carries it.
    pub(crate) task: PollWorkflowTaskQueueResponse,
}

/// A task that waits for a poller.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The task to start; empty for queries.
    pub(crate) request: AddTaskRequest,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// It is of no use after this; zero for never.
    pub(crate) expires: Timestamp,
}

/// Priority of a task whose workflow names none.
pub(crate) const DEFAULT_PRIORITY: i32 = 3;

impl Waiting {
    pub(crate) fn new(request: AddTaskRequest, origin: Origin) -> Self {
        let wait =
            proto_messages::time::duration_from_proto(request.schedule_to_start_timeout.as_ref());
        let created = request
            .created_time
            .as_ref()
            .map_or(Timestamp::ZERO, proto_messages::time::from_proto);
        let expires = if wait.is_zero() || created.is_zero() {
            Timestamp::ZERO
        } else {
            created.plus(wait)
        };
        Self {
            request,
            origin,
            expires,
        }
    }

    /// Whether it is of no use any more: it expired, or its caller left.
    pub(crate) fn is_dead(&self, now: Timestamp) -> bool {
        (!self.expires.is_zero() && self.expires <= now)
            || matches!(&self.origin, Origin::Held(caller) if caller.is_closed())
    }

    pub(crate) fn is_query(&self) -> bool {
        matches!(self.origin, Origin::Query(_))
    }

    /// Queries go first, then the workflow's own priority.
    pub(crate) fn priority(&self) -> i32 {
        if self.is_query() {
            return 0;
        }
        priority(&self.request)
    }
}

/// The priority that a task's workflow names.
pub(crate) fn priority(request: &AddTaskRequest) -> i32 {
    match request.priority.as_ref().map(|p| p.priority_key) {
        Some(key) if key > 0 => key,
        _ => DEFAULT_PRIORITY,
    }
}
