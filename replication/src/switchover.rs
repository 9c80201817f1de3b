//! Planned failover: hold writes back, wait until the target has everything, flip, let go. Run by the active
//! cluster, so that it goes on when the operator's terminal dies.
//!
//! Safety does not rest on this task: the hold is a stored state of the namespace with a deadline. Whoever
//! ends it, by flipping or by undoing, does so with a compare-and-set on the row's version, so exactly one
//! of them happens, and a process that dies at any step leaves a hold that the reconciler of the worker role
//! undoes. Writes are accepted again only after that write.

use std::{sync::Arc, time::Duration};

use cluster_rpc::{ReplicationClient, status};
use cluster_runtime::clock::SharedClock;
use namespaces::{
    Clusters, Manager, Namespace,
    rules::{HANDOVER_MAX, ReplicationChange, Update},
};
use proto_ids::{ClusterName, NamespaceName, ShardId, Timestamp};
use proto_messages::{
    meridian::replication::v1::{
        FreezeNamespaceRequest, GetShardReplicationStatusRequest, ShardStatus, SwitchoverProgress,
        SwitchoverRequest, SwitchoverResult, UnfreezeNamespaceRequest, switchover_progress::Step,
    },
    temporal::api::{
        replication::v1::NamespaceReplicationConfig, workflowservice::v1::UpdateNamespaceRequest,
    },
    time,
};
use proto_services::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::sync::mpsc;
use tonic::Status;
use tracing::Instrument;

use crate::remotes::{self, Remotes};

/// How often the drain looks at the acknowledgements.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Part of the hold kept back for the flip itself.
const FLIP_RESERVE: Duration = Duration::from_millis(250);
/// How much longer the stored deadline is than the promised pause, so that the flip's own write fits.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);
/// A target that is further behind than this does not get to the hold.
const LAG_MAX: Duration = Duration::from_secs(10);

/// What a switchover needs.
#[derive(Clone)]
pub struct Switchovers {
    /// Changes the namespace here.
    pub manager: Manager,
    /// Where clusters are.
    pub clusters: Clusters,
    /// The shards of this cluster.
    pub shards: ReplicationClient,
    /// The target.
    pub remotes: Remotes,
    /// The clock.
    pub clock: SharedClock,
}

/// One switchover under way.
struct Run {
    deps: Switchovers,
    progress: mpsc::Sender<SwitchoverProgress>,
    namespace: Arc<Namespace>,
    to: ClusterName,
    max_pause: Duration,
}

/// Why a switchover did not happen.
enum Stop {
    /// Before anything was changed.
    Refused(String),
    /// After writes were held back.
    Undo(String),
}

impl Switchovers {
    /// Checks the request and returns the work, to be spawned; messages go to `progress`, the last one with
    /// the result. A receiver that went away does not stop it.
    pub async fn prepare(
        &self,
        request: SwitchoverRequest,
        progress: mpsc::Sender<SwitchoverProgress>,
    ) -> Result<impl Future<Output = ()> + Send + 'static, Status> {
        let name = NamespaceName::new(&request.namespace);
        let namespace = self
            .manager
            .get(&name)
            .await
            .map_err(|refusal| match refusal {
                namespaces::Refusal::NamespaceNotFound(_) => {
                    status::namespace_not_found(&request.namespace)
                }
                other => status::unavailable(other.to_string()),
            })?;
        let to = ClusterName::new(&request.to_cluster);
        self.check(&namespace, &to)?;
        let max_pause = time::duration_from_proto(request.max_pause.as_ref());
        let max_pause = if max_pause.is_zero() {
            Duration::from_secs(5)
        } else {
            max_pause
        };
        if max_pause + DEADLINE_SLACK > HANDOVER_MAX {
            return Err(status::invalid_argument(format!(
                "max_pause is {max_pause:?}; at most {:?} can be promised",
                HANDOVER_MAX.saturating_sub(DEADLINE_SLACK)
            )));
        }
        let run = Run {
            deps: self.clone(),
            progress,
            namespace,
            to,
            max_pause,
        };
        tracing::info!(namespace = %run.namespace.name, to = %run.to, ?max_pause, dry_run = request.dry_run, reason = %request.reason, "switchover asked for");
        let span = tracing::info_span!("switchover", namespace = %run.namespace.name, to = %run.to);
        Ok(run.go(request.dry_run).instrument(span))
    }

    fn check(&self, namespace: &Namespace, to: &ClusterName) -> Result<(), Status> {
        let here = self.clusters.current_name();
        if !namespace.is_replicated() {
            return Err(status::failed_precondition(format!(
                "namespace {} lives in one cluster only; add clusters to it first",
                namespace.name
            )));
        }
        if !namespace.is_active_in(&here) {
            return Err(status::namespace_not_active(
                namespace.name.as_str(),
                here.as_str(),
                namespace.active_cluster.as_str(),
            ));
        }
        if *to == here {
            return Err(status::failed_precondition(format!(
                "namespace {} is active in {to} already",
                namespace.name
            )));
        }
        if !namespace.lives_in(to) {
            return Err(status::invalid_argument(format!(
                "namespace {} does not live in cluster {to}",
                namespace.name
            )));
        }
        if namespace.handover {
            return Err(status::failed_precondition(format!(
                "namespace {} is being handed over already",
                namespace.name
            )));
        }
        Ok(())
    }
}

impl Run {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.deps.clock.now_nanos())
    }

    async fn tell(&self, step: Step, detail: String, result: Option<SwitchoverResult>) {
        tracing::info!(step = step.as_str_name(), detail, "switchover");
        let message = SwitchoverProgress {
            time: Some(time::to_proto(self.now())),
            step: step as i32,
            detail,
            result,
        };
        // Nobody may be listening any more.
        let _ = self.progress.send(message).await;
    }

    async fn go(self, dry_run: bool) {
        let ended = self.forecast().await;
        if let Err(reason) = ended {
            self.refused(reason).await;
            return;
        }
        if dry_run {
            self.tell(
                Step::Done,
                "nothing was changed".into(),
                Some(SwitchoverResult::default()),
            )
            .await;
            return;
        }
        match self.hold_and_flip().await {
            Ok(result) => {
                self.tell(Step::Done, format!("{} is active", self.to), Some(result))
                    .await
            }
            Err(Stop::Refused(reason)) => self.refused(reason).await,
            Err(Stop::Undo(reason)) => {
                let result = SwitchoverResult {
                    reason: reason.clone(),
                    ..Default::default()
                };
                self.tell(Step::Done, reason, Some(result)).await;
            }
        }
    }

    async fn refused(&self, reason: String) {
        let result = SwitchoverResult {
            reason: reason.clone(),
            ..Default::default()
        };
        self.tell(Step::Done, format!("refused: {reason}"), Some(result))
            .await;
    }

    /// Says how far the target is, and refuses when it cannot be caught up with.
    async fn forecast(&self) -> Result<(), String> {
        let mut probe = self
            .deps
            .remotes
            .admin(&self.to)
            .map_err(|s| s.message().to_owned())?;
        let began = self.now();
        probe
            .describe_cluster(remotes::request(Default::default()))
            .await
            .map_err(|s| format!("cluster {} does not answer: {}", self.to, s.message()))?;
        let round_trip = self.now().since(began);
        let statuses = self.statuses().await;
        let missing = self.missing_shards(&statuses);
        if missing > 0 {
            return Err(format!(
                "{} of {} shards have no stream to {}; see `meridian replication status`",
                missing,
                self.deps.shards.shard_count(),
                self.to
            ));
        }
        let lag = statuses
            .iter()
            .map(|s| self.lag(s))
            .max()
            .unwrap_or_default();
        if lag > LAG_MAX {
            return Err(format!(
                "{} is {lag:?} behind; a switchover waits until it is less than {LAG_MAX:?}",
                self.to
            ));
        }
        let detail = format!(
            "{} is {} ms behind, round trip {:.1} ms; expected pause about {} ms (promised: at most {} ms), loss 0",
            self.to,
            lag.as_millis(),
            round_trip.as_secs_f64() * 1e3,
            (lag + round_trip * 4).as_millis().max(20),
            self.max_pause.as_millis()
        );
        self.tell(Step::Forecast, detail, None).await;
        Ok(())
    }

    async fn statuses(&self) -> Vec<ShardStatus> {
        let request = GetShardReplicationStatusRequest {
            shard_ids: Vec::new(),
            remote_clusters: vec![self.to.to_string()],
        };
        self.deps
            .shards
            .get_shard_replication_status(request)
            .await
            .shards
    }

    fn missing_shards(&self, statuses: &[ShardStatus]) -> usize {
        let connected = statuses
            .iter()
            .filter(|s| {
                s.remotes
                    .iter()
                    .any(|r| r.cluster == self.to.as_str() && r.connected)
            })
            .count();
        (self.deps.shards.shard_count() as usize).saturating_sub(connected)
    }

    fn lag(&self, shard: &ShardStatus) -> Duration {
        let behind = shard
            .remotes
            .iter()
            .filter(|r| r.cluster == self.to.as_str());
        behind
            .filter(|r| r.acked_task_id < shard.max_task_id)
            .map(|r| {
                let acked = r
                    .acked_task_time
                    .as_ref()
                    .map(time::from_proto)
                    .unwrap_or_default();
                let newest = shard
                    .max_task_time
                    .as_ref()
                    .map(time::from_proto)
                    .unwrap_or_default();
                newest.since(acked)
            })
            .max()
            .unwrap_or_default()
    }

    async fn hold_and_flip(&self) -> Result<SwitchoverResult, Stop> {
        let began = self.now();
        let held = self.hold().await?;
        self.tell(Step::Hold, "writes are held back".into(), None)
            .await;
        let deadline = began.plus(self.max_pause.saturating_sub(FLIP_RESERVE));
        let drained = match self.drain(deadline).await {
            Ok(drained) => drained,
            Err(reason) => return Err(self.undo(&held, began, reason).await),
        };
        let flipped = match self.flip(&held).await {
            Ok(flipped) => flipped,
            Err(reason) => return Err(self.undo(&held, began, reason).await),
        };
        self.tell(
            Step::Flip,
            format!(
                "version {} belongs to {}",
                flipped.failover_version, self.to
            ),
            None,
        )
        .await;
        let announced = self.announce().await;
        let pause = self.now().since(began);
        self.let_go().await;
        self.tell(Step::Announce, announced, None).await;
        Ok(SwitchoverResult {
            switched: true,
            pause: Some(time::duration_to_proto(pause)),
            drained_tasks: drained,
            failover_version: flipped.failover_version.get(),
            reason: String::new(),
        })
    }

    async fn hold(&self) -> Result<Arc<Namespace>, Stop> {
        let wanted = Update {
            replication: ReplicationChange {
                handover: Some(true),
                hold_for: Some(self.max_pause + DEADLINE_SLACK),
                expected_version: Some(self.namespace.notification_version),
                ..Default::default()
            },
            ..Default::default()
        };
        let held = self.deps.manager.update(&self.namespace.name, wanted).await;
        held.map_err(|refusal| Stop::Refused(refusal.to_string()))
    }

    /// Shuts the namespace on every shard, then waits until the target has acknowledged all that was written
    /// before. Returns how many shards had something to drain.
    async fn drain(&self, deadline: Timestamp) -> Result<i64, String> {
        let shards = 1..=self.deps.shards.shard_count();
        let freezes = shards.map(|shard_id| {
            let request = FreezeNamespaceRequest {
                shard_id,
                namespace_id: self.namespace.id.to_string(),
                hold: Some(time::duration_to_proto(self.max_pause + DEADLINE_SLACK)),
            };
            let shards = self.deps.shards.clone();
            async move {
                let frozen = shards.freeze_namespace(request).await;
                frozen
                    .map(|f| (ShardId::new(shard_id), f.last_task_id))
                    .map_err(|s| format!("shard {shard_id} cannot be held: {}", s.message()))
            }
        });
        let left = deadline.since(self.now());
        let marks = tokio::time::timeout(left, futures::future::try_join_all(freezes)).await;
        let marks = marks.map_err(|_| "the shards did not stop writing in time".to_owned())??;
        let mut waited_for = 0;
        loop {
            let statuses = self.statuses().await;
            let open = marks
                .iter()
                .filter(|(shard, mark)| !self.has(&statuses, *shard, *mark))
                .count();
            waited_for = waited_for.max(open as i64);
            if open == 0 {
                self.tell(Step::Drain, format!("{} has everything", self.to), None)
                    .await;
                return Ok(waited_for);
            }
            if self.now() >= deadline {
                return Err(format!(
                    "{} did not catch up on {open} shards within {:?}",
                    self.to, self.max_pause
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn has(&self, statuses: &[ShardStatus], shard: ShardId, mark: i64) -> bool {
        let status = statuses.iter().find(|s| s.shard_id == shard.get());
        status.is_some_and(|s| {
            let mut readers = s
                .remotes
                .iter()
                .filter(|r| r.cluster == self.to.as_str())
                .peekable();
            readers.peek().is_some() && readers.all(|r| r.acked_task_id >= mark)
        })
    }

    /// Makes the target active, if nobody ended the hold meanwhile.
    async fn flip(&self, held: &Namespace) -> Result<Arc<Namespace>, String> {
        let wanted = Update {
            replication: ReplicationChange {
                active_cluster: self.to.clone(),
                expected_version: Some(held.notification_version),
                ..Default::default()
            },
            ..Default::default()
        };
        let flipped = self.deps.manager.update(&self.namespace.name, wanted).await;
        flipped.map_err(|refusal| format!("the flip was refused: {refusal}"))
    }

    /// Tells the target at once. The same update there gives the same version, so the message that comes
    /// through the namespace queue afterwards changes nothing.
    async fn announce(&self) -> String {
        let request = UpdateNamespaceRequest {
            namespace: self.namespace.name.to_string(),
            replication_config: Some(NamespaceReplicationConfig {
                active_cluster_name: self.to.to_string(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let told = match self.deps.remotes.channel_to(&self.to) {
            Ok(channel) => WorkflowServiceClient::new(channel)
                .update_namespace(remotes::request(request))
                .await
                .map(|_| ()),
            Err(status) => Err(status),
        };
        match told {
            Ok(()) => format!("both sides agree; calls are forwarded to {}", self.to),
            Err(status) => format!(
                "{} hears of it through the namespace queue ({})",
                self.to,
                status.message()
            ),
        }
    }

    async fn undo(&self, held: &Namespace, began: Timestamp, reason: String) -> Stop {
        let wanted = Update {
            replication: ReplicationChange {
                handover: Some(false),
                expected_version: Some(held.notification_version),
                ..Default::default()
            },
            ..Default::default()
        };
        if let Err(refusal) = self.deps.manager.update(&self.namespace.name, wanted).await {
            // Somebody else ended the hold, or the store is away and the reconciler will.
            tracing::warn!(namespace = %self.namespace.name, %refusal, "the hold could not be undone here");
        }
        self.let_go().await;
        let pause = self.now().since(began);
        self.tell(
            Step::Rollback,
            format!("writes resumed here after {} ms", pause.as_millis()),
            None,
        )
        .await;
        Stop::Undo(reason)
    }

    /// Lifts the barrier on every shard. A shard that is missed lifts it by itself.
    async fn let_go(&self) {
        let lifts = (1..=self.deps.shards.shard_count()).map(|shard_id| {
            let request = UnfreezeNamespaceRequest {
                shard_id,
                namespace_id: self.namespace.id.to_string(),
            };
            self.deps.shards.unfreeze_namespace(request)
        });
        for lifted in futures::future::join_all(lifts).await {
            if let Err(status) = lifted {
                tracing::info!(namespace = %self.namespace.name, reason = status.message(), "a shard lifts its barrier by itself");
            }
        }
    }
}
