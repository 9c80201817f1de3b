//! Planned failover: compare, hold writes back, wait until the target has everything, flip, let go. Run by the
//! active cluster, so that it goes on when the operator's terminal dies.
//!
//! That the target has everything is not concluded from acknowledgements but found by comparing runs
//! ([`crate::completeness`]): all of them before anything is held back, then those that changed meanwhile.
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
use proto_ids::{ClusterName, NamespaceName, Timestamp};
use proto_messages::{
    meridian::replication::v1::{
        SwitchoverProgress, SwitchoverRequest, SwitchoverResult, UnfreezeNamespaceRequest,
        switchover_progress::Step,
    },
    temporal::api::{
        replication::v1::NamespaceReplicationConfig, workflowservice::v1::UpdateNamespaceRequest,
    },
    time,
};
use proto_services::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;
use tracing::Instrument;

use crate::{
    completeness::Check,
    remotes::{self, Remotes},
};

mod drain;
mod forecast;

use drain::Drained;

/// Most of the hold that is kept back for the flip itself.
const FLIP_RESERVE_MAX: Duration = Duration::from_millis(250);
/// How much longer the stored deadline is than the promised pause, so that the flip's own write fits.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);

/// The dependencies of a switchover.
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
    accept_unknown: bool,
}

/// Why a switchover did not happen.
enum Stop {
    /// Before anything was changed.
    Refused(Box<SwitchoverResult>),
    /// After writes were held back.
    Undo(String),
}

fn refused(reason: String) -> Stop {
    Stop::Refused(Box::new(SwitchoverResult {
        reason,
        ..Default::default()
    }))
}

/// How long after the hold began the target may take to catch up. The rest is kept back for the flip, for which the store
/// will take as long as it took for the hold; a short promise leaves most of its time to the drain, too.
fn drain_within(max_pause: Duration, hold_took: Duration) -> Duration {
    let reserve = (max_pause / 5).min(FLIP_RESERVE_MAX).max(hold_took * 2);
    max_pause.saturating_sub(reserve)
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
            accept_unknown: request.accept_unknown,
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
        if namespace.is_held_since_restore() {
            return Err(status::failed_precondition(format!(
                "namespace {} is held: the database of {here} was put back from a copy, and others may have what it \
                 lacks; `meridian namespace failover --namespace {} --to {to}`, asked of {to}, ends that",
                namespace.name, namespace.name
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
        let mut check = Check::new(
            self.deps.shards.clone(),
            self.deps.remotes.clone(),
            self.namespace.id.clone(),
            self.to.clone(),
        );
        let ended = self.go_on(&mut check, dry_run).await;
        check.end().await;
        match ended {
            Ok(result) if result.switched => {
                self.tell(Step::Done, format!("{} is active", self.to), Some(result))
                    .await;
            }
            Ok(result) => {
                self.tell(Step::Done, "nothing was changed".into(), Some(result))
                    .await;
            }
            Err(Stop::Refused(result)) => {
                self.tell(
                    Step::Done,
                    format!("refused: {}", result.reason),
                    Some(*result),
                )
                .await;
            }
            Err(Stop::Undo(reason)) => {
                let result = SwitchoverResult {
                    reason: reason.clone(),
                    ..Default::default()
                };
                self.tell(Step::Done, reason, Some(result)).await;
            }
        }
    }

    async fn go_on(&self, check: &mut Check, dry_run: bool) -> Result<SwitchoverResult, Stop> {
        let forecast = self.forecast(check).await?;
        if dry_run {
            return Ok(SwitchoverResult {
                completeness: forecast.completeness,
                ..Default::default()
            });
        }
        let known = forecast.completeness.is_some();
        if known {
            // What is left for the hold is what changes from now on.
            check
                .catch_up()
                .await
                .map_err(|fault| refused(fault.to_string()))?;
        }
        let done = self.hold_and_flip(known.then_some(check)).await?;
        Ok(SwitchoverResult {
            completeness: forecast.completeness,
            ..done
        })
    }

    async fn hold_and_flip(&self, check: Option<&mut Check>) -> Result<SwitchoverResult, Stop> {
        let (began, clock) = (self.now(), Instant::now());
        let held = self.hold().await?;
        let deadline = clock + drain_within(self.max_pause, clock.elapsed());
        self.tell(Step::Hold, "writes are held back".into(), None)
            .await;
        let drained = match self.drain(check, deadline).await {
            Ok(drained) => drained,
            Err(reason) => return Err(self.undo(&held, began, reason).await),
        };
        let waited_for = drained.waited_for();
        let flipped = match self.flip(&held, drained).await {
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
        let pause = clock.elapsed();
        self.unfreeze().await;
        self.tell(Step::Announce, announced, None).await;
        Ok(SwitchoverResult {
            switched: true,
            pause: Some(time::duration_to_proto(pause)),
            drained_tasks: waited_for,
            failover_version: flipped.failover_version.get(),
            ..Default::default()
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
        held.map_err(|refusal| refused(refusal.to_string()))
    }

    /// Makes the target active, unless the hold was ended meanwhile.
    async fn flip(&self, held: &Namespace, _: Drained) -> Result<Arc<Namespace>, String> {
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
            // Another process ended the hold, or the store is away and the reconciler will.
            tracing::warn!(namespace = %self.namespace.name, %refusal, "the hold could not be undone here");
        }
        self.unfreeze().await;
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
    async fn unfreeze(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_promise_leaves_most_of_its_time_to_the_drain() {
        let ms = Duration::from_millis;
        for (promised, hold_took, left) in [
            (200, 3, 160),
            (50, 1, 40),
            (5_000, 3, 4_750),
            // A slow store will be slow again.
            (1_000, 200, 600),
            (200, 150, 0),
        ] {
            assert_eq!(drain_within(ms(promised), ms(hold_took)), ms(left));
        }
    }
}
