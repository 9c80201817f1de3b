//! Namespaces follow their clusters. One loop per remote cluster, on the worker host that owns it in the
//! ring, pulls that cluster's namespace queue and merges what it tells; the position is kept by the source.
//! A message that cannot be merged becomes a dead letter. [`Refresher`] fetches one namespace at once, when
//! history arrives for a namespace that is not known here or is known in an older version.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster_membership::{Membership, Role};
use cluster_runtime::{CancellationToken, TaskKind, Tasks, retry, task::Task};
use namespaces::{Changed, Manager, Refusal};
use proto_ids::{ClusterName, NamespaceId};
use proto_messages::Wire;
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        GetNamespaceReplicationMessagesRequest, GetNamespaceRequest, GetNamespaceResponse,
        get_namespace_request::Attributes as By,
    },
    enums::v1::NamespaceOperation,
    replication::v1::{NamespaceTaskAttributes, ReplicationTask, replication_task::Attributes},
};
use schema_store::{StoreError, queue::QueueStore};
use tonic::{Code, Status};

use crate::{
    puller::is_worth_a_line,
    remotes::{Remotes, add_store, request},
};

/// The queue of messages that could not be merged.
pub const DEAD_LETTERS: &str = "namespace-replication-dead-letters";

/// Pause between two pulls that brought nothing.
const PULL_EVERY: Duration = Duration::from_millis(300);

/// Pause between two pulls of which the first said that there is more.
const PAGE_EVERY: Duration = Duration::from_millis(20);

/// Messages of one answer. A Temporal Server sends a hundred at once.
const MESSAGES_MAX: usize = 1_000;

/// How often the loops are compared with the directory and the ring, without a reason to.
const RECONCILE_EVERY: Duration = Duration::from_secs(2);

/// Namespaces looked through at once for those that are held.
const HELD_PAGE: usize = 100;

/// "Not told" on the wire.
const UNKNOWN: i64 = -1;

const MERGE_RETRY: retry::Policy = retry::Policy {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(1),
    multiplier: 1.0,
    jitter: 0.1,
    attempts: Some(30),
    within: None,
};

const FETCH_RETRY: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(200), Duration::from_secs(5));

/// The dependencies of the loops.
#[derive(Clone)]
pub struct NamespacePullerDeps {
    /// Clients of remote clusters, and the directory.
    pub remotes: Remotes,
    /// The membership of this cluster.
    pub membership: Membership,
    /// Changes namespaces.
    pub manager: Manager,
    /// Durable queues, for dead letters.
    pub queues: Arc<dyn QueueStore>,
    /// The group whose tasks the loops are.
    pub tasks: Tasks,
}

/// A message that could not be merged, and its place in the queue.
#[derive(Clone, Debug)]
pub struct NamespaceLetter {
    /// Its place.
    pub id: i64,
    /// The message; `source_task_id` is its place at the source.
    pub task: ReplicationTask,
}

/// Starts the reconciler of the loops as a task of `deps.tasks`.
pub fn start(deps: NamespacePullerDeps) {
    let tasks = deps.tasks.clone();
    tasks.spawn_restarting(TaskKind::Background, "namespace-pullers", move || {
        reconcile_for_ever(deps.clone())
    });
}

async fn reconcile_for_ever(deps: NamespacePullerDeps) {
    let mut clusters = deps.remotes.clusters().watch();
    let mut ring = deps.membership.watch(Role::Worker);
    let mut running: HashMap<ClusterName, Running> = HashMap::new();
    loop {
        let members = deps.membership.ring(Role::Worker);
        let is_mine = |cluster: &ClusterName| {
            let owner = members.owner(&format!("namespace-replication/{cluster}"));
            owner.is_some_and(|owner| deps.membership.is_me(owner))
        };
        let remotes = deps.remotes.clusters().remotes();
        let wanted: Vec<_> = remotes
            .iter()
            .map(|c| c.name.clone())
            .filter(|name| is_mine(name))
            .collect();
        running.retain(|cluster, pulling| wanted.contains(cluster) && !pulling.task.is_finished());
        for cluster in wanted {
            if running.contains_key(&cluster) {
                continue;
            }
            running.insert(cluster.clone(), Running::start(&deps, cluster));
        }
        tokio::select! {
            _ = clusters.changed() => {}
            _ = ring.changed() => {}
            () = tokio::time::sleep(RECONCILE_EVERY) => {}
        }
    }
}

/// A loop that pulls from one cluster. It ends when this is dropped.
struct Running {
    cancel: CancellationToken,
    task: Task<()>,
}

impl Running {
    fn start(deps: &NamespacePullerDeps, cluster: ClusterName) -> Self {
        let cancel = CancellationToken::new();
        let (cancelled, deps) = (cancel.clone(), deps.clone());
        let (tasks, name) = (deps.tasks.clone(), format!("pull-namespaces-{cluster}"));
        let task = tasks.spawn_restarting(TaskKind::Background, name, move || {
            let (cancelled, deps, cluster) = (cancelled.clone(), deps.clone(), cluster.clone());
            async move {
                let pulling = pull_for_ever(&deps, &cluster);
                cancelled.run_until_cancelled(pulling).await;
            }
        });
        Self { cancel, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn pull_for_ever(deps: &NamespacePullerDeps, source: &ClusterName) {
    let (mut retrieved, mut processed) = (UNKNOWN, UNKNOWN);
    let mut pauses = FETCH_RETRY.pauses();
    let mut failures = 0_u32;
    let mut asked = false;
    loop {
        if !asked {
            asked = ask_about_held(deps, source).await;
        }
        match pull(deps, source, retrieved, processed).await {
            Ok(page) => {
                pauses.reset();
                failures = 0;
                // More is to be had only where something came; a peer that says so for ever is asked rarely.
                let goes_on = page.has_more && page.last > retrieved;
                retrieved = page.last;
                processed = page.last;
                tokio::time::sleep(if goes_on { PAGE_EVERY } else { PULL_EVERY }).await;
            }
            Err(status) => {
                failures += 1;
                if is_worth_a_line(failures) {
                    tracing::warn!(remote_cluster = %source, attempts = failures, error = %status, "namespaces cannot be pulled; it is tried again");
                }
                // Begin again from what the source knows to be done.
                (retrieved, processed) = (UNKNOWN, UNKNOWN);
                tokio::time::sleep(pauses.next_pause()).await;
            }
        }
    }
}

/// What was put back from a copy may have forgotten a failover that is not told again. Whether the source was asked.
async fn ask_about_held(deps: &NamespacePullerDeps, source: &ClusterName) -> bool {
    let refresher = Refresher::new(deps.remotes.clone(), deps.manager.clone());
    let mut after = None;
    loop {
        let Ok(page) = deps.manager.list(after.take(), HELD_PAGE).await else {
            return false;
        };
        let is_last = page.len() < HELD_PAGE;
        after = page.last().map(|namespace| namespace.name.clone());
        for namespace in page {
            let is_asked = namespace.is_held_since_restore() && namespace.lives_in(source);
            if is_asked && refresher.refresh(source, &namespace.id).await.is_err() {
                return false;
            }
        }
        if is_last {
            return true;
        }
    }
}

struct Page {
    last: i64,
    has_more: bool,
}

async fn pull(
    deps: &NamespacePullerDeps,
    source: &ClusterName,
    retrieved: i64,
    processed: i64,
) -> Result<Page, Status> {
    let wanted = GetNamespaceReplicationMessagesRequest {
        last_retrieved_message_id: retrieved,
        last_processed_message_id: processed,
        cluster_name: deps.remotes.clusters().current_name().to_string(),
    };
    let mut admin = deps.remotes.admin(source)?;
    let mut wanted = request(wanted);
    add_store(&mut wanted, deps.remotes.clusters());
    let answer = admin
        .get_namespace_replication_messages(wanted)
        .await?
        .into_inner();
    let messages = answer.messages.unwrap_or_default();
    let count = messages.replication_tasks.len();
    if count > MESSAGES_MAX {
        return Err(Status::invalid_argument(format!(
            "cluster {source} sent {count} namespace messages at once; at most {MESSAGES_MAX} are taken"
        )));
    }
    let mut last = retrieved.max(messages.last_retrieved_message_id);
    for task in messages.replication_tasks {
        let id = task.source_task_id;
        take(deps, source, task)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        last = last.max(id);
    }
    Ok(Page {
        last,
        has_more: messages.has_more,
    })
}

/// Merges a message, or keeps it among the dead letters.
async fn take(
    deps: &NamespacePullerDeps,
    source: &ClusterName,
    task: ReplicationTask,
) -> Result<(), StoreError> {
    let Some(Attributes::NamespaceTaskAttributes(attributes)) = &task.attributes else {
        // Versioning data of task queues, which this cluster does not keep.
        return Ok(());
    };
    let merged = retry::retry(&MERGE_RETRY, is_worth_another_try, || {
        deps.manager.merge(source, attributes)
    })
    .await;
    let Err(refusal) = merged else { return Ok(()) };
    let id = deps
        .queues
        .queue_enqueue(DEAD_LETTERS, task.to_wire())
        .await?;
    tracing::error!(
        remote_cluster = %source,
        namespace_id = attributes.id,
        reason = %refusal,
        letter = id,
        "a namespace message could not be merged and is a dead letter"
    );
    Ok(())
}

fn is_worth_another_try(refusal: &Refusal) -> bool {
    // The queues of several clusters are separate: that a namespace got a new cluster may be told after what that
    // cluster tells.
    matches!(
        refusal,
        Refusal::Store(_) | Refusal::Contended | Refusal::NotShared { .. }
    )
}

/// Messages that could not be merged, above `after`.
pub async fn letters(
    queues: &dyn QueueStore,
    after: i64,
    limit: usize,
) -> Result<Vec<NamespaceLetter>, StoreError> {
    let stored = queues.queue_read(DEAD_LETTERS, after, limit).await?;
    stored
        .into_iter()
        .map(|message| {
            let task = ReplicationTask::from_wire(message.data).map_err(|e| {
                StoreError::Corrupt(format!("namespace letter {}: {e}", message.id))
            })?;
            Ok(NamespaceLetter {
                id: message.id,
                task,
            })
        })
        .collect()
}

/// Removes messages that could not be merged, up to and including `through`.
pub async fn purge(queues: &dyn QueueStore, through: i64) -> Result<i64, StoreError> {
    queues.queue_delete(DEAD_LETTERS, 1, through).await
}

/// Merges messages that could not be merged before, up to and including `through`, in order; stops at the
/// first that is refused again. Returns how many left the queue.
pub async fn replay(
    queues: &dyn QueueStore,
    manager: &Manager,
    through: i64,
) -> Result<i64, Refusal> {
    let (mut after, mut done) = (0, 0);
    loop {
        let page = letters(queues, after, 100).await.map_err(Refusal::from)?;
        let is_last = page.len() < 100;
        for NamespaceLetter { id, task } in page {
            if id > through {
                return Ok(done);
            }
            if let Some(Attributes::NamespaceTaskAttributes(attributes)) = &task.attributes {
                manager.merge_again(attributes).await?;
            }
            queues
                .queue_delete(DEAD_LETTERS, id, id)
                .await
                .map_err(Refusal::from)?;
            (after, done) = (id, done + 1);
        }
        if is_last {
            return Ok(done);
        }
    }
}

/// Fetches single namespaces from other clusters. Cheap to clone.
#[derive(Clone)]
pub struct Refresher {
    remotes: Remotes,
    manager: Manager,
}

/// The result of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The namespace is known here now, as the source knows it or newer.
    Known,
    /// The source does not have it, or it is not for this cluster.
    NotOurs,
}

impl Refresher {
    /// Over the clients of remote clusters.
    pub fn new(remotes: Remotes, manager: Manager) -> Self {
        Self { remotes, manager }
    }

    /// Fetches a namespace from a cluster and merges it as if the queue had brought it.
    pub async fn refresh(
        &self,
        source: &ClusterName,
        id: &NamespaceId,
    ) -> Result<Refreshed, Status> {
        let wanted = GetNamespaceRequest {
            attributes: Some(By::Id(id.to_string())),
        };
        let mut admin = self.remotes.admin(source)?;
        let answer = match admin.get_namespace(request(wanted)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(Refreshed::NotOurs),
            Err(status) => return Err(status),
        };
        if !answer.is_global_namespace {
            return Ok(Refreshed::NotOurs);
        }
        match self.manager.merge(source, &attributes(id, answer)).await {
            Ok(Changed::Ignored) => Ok(Refreshed::NotOurs),
            Ok(_) => Ok(Refreshed::Known),
            Err(refusal) if is_worth_another_try(&refusal) => {
                Err(Status::unavailable(refusal.to_string()))
            }
            Err(refusal) => Err(Status::invalid_argument(refusal.to_string())),
        }
    }
}

fn attributes(id: &NamespaceId, answer: GetNamespaceResponse) -> NamespaceTaskAttributes {
    NamespaceTaskAttributes {
        // A namespace that is missing is created by an update, too.
        namespace_operation: NamespaceOperation::Update as i32,
        id: id.to_string(),
        info: answer.info,
        config: answer.config,
        replication_config: answer.replication_config,
        config_version: answer.config_version,
        failover_version: answer.failover_version,
        failover_history: answer.failover_history,
    }
}
