//! The forecast of a switchover, measured before anything is changed. A value that is unknown is not taken for zero.

use std::time::Duration;

use proto_messages::{
    meridian::replication::v1::{
        Completeness, FreezeNamespaceRequest, GetShardReplicationStatusRequest,
        GetShardReplicationStatusResponse, SwitchoverResult, switchover_progress::Step,
    },
    time,
};
use tokio::time::Instant;

use super::{Run, Stop, refused};
use crate::{
    completeness::{self, Check, ComparisonError},
    remotes,
};

/// A target that is further behind than this does not get to the hold.
const LAG_MAX: Duration = Duration::from_secs(10);
/// How long the rehearsal of a freeze may take.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);
/// A write to the store takes about as long as so many reads.
const READS_PER_WRITE: u32 = 4;
/// How often a comparison that takes long says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// The result.
pub(super) struct Forecast {
    /// What the comparison found; none when the operator accepts that it is unknown.
    pub(super) completeness: Option<Completeness>,
}

/// Measured parts of the expected pause.
struct Cost {
    round_trip: Duration,
    freeze: Duration,
    commit: Duration,
    lag: Duration,
}

impl Cost {
    /// Hold, freeze, flush and compare, flip, and tell the target, which writes it down, too.
    fn pause(&self) -> Duration {
        let sum = self.lag + self.freeze + self.round_trip * 4 + self.commit * 3;
        sum.max(Duration::from_millis(10))
    }
}

impl Run {
    /// Says how far the target is, what it lacks and how long writes would pause, and refuses when it lacks
    /// anything, when that cannot be told, or when the promise cannot be kept.
    pub(super) async fn forecast(&self, check: &mut Check) -> Result<Forecast, Stop> {
        let round_trip = self.round_trip().await?;
        let status = self.standing().await;
        let missing = self.missing_shards(&status);
        if missing > 0 {
            return Err(refused(format!(
                "{} of {} shards have no stream to {}; see `meridian replication status`",
                missing,
                self.deps.shards.shard_count(),
                self.to
            )));
        }
        let completeness = self.compare(check).await?;
        let lag = self.lag(&self.standing().await);
        if lag > LAG_MAX {
            return Err(refused(format!(
                "{} is {lag:?} behind; a switchover waits until it is less than {LAG_MAX:?}",
                self.to
            )));
        }
        let cost = Cost {
            round_trip,
            freeze: self.rehearse_freeze().await?,
            commit: self.store_write().await?,
            lag,
        };
        let detail = self.describe(&cost, completeness.as_ref());
        self.tell(Step::Forecast, detail, None).await;
        if cost.pause() > self.max_pause {
            return Err(refused(format!(
                "writes would pause for about {} ms, and at most {} ms are promised; promise more with --max-pause, or \
                 wait until there is less load",
                cost.pause().as_millis(),
                self.max_pause.as_millis()
            )));
        }
        Ok(Forecast { completeness })
    }

    fn describe(&self, cost: &Cost, found: Option<&Completeness>) -> String {
        let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
        let loss = match found {
            Some(found) => format!("loss 0 ({} workflow runs compared)", found.checked_runs),
            None => "loss unknown, as was accepted".to_owned(),
        };
        format!(
            "{} is {} behind, round trip {}, freeze {}, write {}; expected pause about {} ms (promised: at most {} ms), {loss}",
            self.to,
            ms(cost.lag),
            ms(cost.round_trip),
            ms(cost.freeze),
            ms(cost.commit),
            cost.pause().as_millis(),
            self.max_pause.as_millis(),
        )
    }

    async fn round_trip(&self) -> Result<Duration, Stop> {
        let probe = self.deps.remotes.admin(&self.to);
        let mut probe = probe.map_err(|s| refused(s.message().to_owned()))?;
        let began = Instant::now();
        let answer = probe.describe_cluster(remotes::request(Default::default()));
        answer.await.map_err(|s| {
            refused(format!(
                "cluster {} does not answer: {}",
                self.to,
                s.message()
            ))
        })?;
        Ok(began.elapsed())
    }

    /// Compares all runs with the target's.
    async fn compare(&self, check: &mut Check) -> Result<Option<Completeness>, Stop> {
        let (said, progress) = (
            parking_lot::Mutex::new(Instant::now()),
            self.progress.clone(),
        );
        let compared = check.all(|runs| {
            let mut said = said.lock();
            if said.elapsed() >= SAY_EVERY {
                *said = Instant::now();
                let message = proto_messages::meridian::replication::v1::SwitchoverProgress {
                    time: Some(time::to_proto(self.now())),
                    step: Step::Forecast as i32,
                    detail: format!("{runs} workflow runs compared so far"),
                    result: None,
                };
                let _ = progress.try_send(message);
            }
        });
        match compared.await {
            Ok(()) => {}
            Err(ComparisonError::Unknown(why)) if self.accept_unknown => {
                tracing::warn!(namespace = %self.namespace.name, why, "the switchover goes on unknowing, as was accepted");
                return Ok(None);
            }
            Err(ComparisonError::Unknown(why)) => {
                return Err(Stop::Refused(Box::new(SwitchoverResult {
                    reason: format!(
                        "it is unknown what {} lacks: {why}; --accept-unknown goes on all the same",
                        self.to
                    ),
                    unknown: true,
                    ..Default::default()
                })));
            }
            Err(ComparisonError::Interrupted(why)) => return Err(refused(why)),
        }
        let found = check.findings();
        if completeness::is_complete(&found) {
            return Ok(Some(found));
        }
        let letters = match found.dead_letters {
            0 => "",
            _ => ", dead letters are replayed there with `meridian dlq replay`",
        };
        Err(Stop::Refused(Box::new(SwitchoverResult {
            reason: format!(
                "{} is incomplete: it lacks {}; what is lacking is sent with `meridian replication repair --namespace {} \
                 --to {}`{letters}",
                self.to,
                completeness::names(&found),
                self.namespace.name,
                self.to
            ),
            completeness: Some(found),
            ..Default::default()
        })))
    }

    /// How long it takes until everything accepted is durable on all shards.
    async fn rehearse_freeze(&self) -> Result<Duration, Stop> {
        let began = Instant::now();
        let shards = 1..=self.deps.shards.shard_count();
        let probes = shards.map(|shard_id| {
            self.deps.shards.freeze_namespace(FreezeNamespaceRequest {
                shard_id,
                namespace_id: self.namespace.id.to_string(),
                hold: Some(time::duration_to_proto(FREEZE_WITHIN)),
                probe: true,
            })
        });
        let probed = futures::future::try_join_all(probes).await;
        probed.map_err(|s| refused(format!("a shard cannot be held: {}", s.message())))?;
        Ok(began.elapsed())
    }

    /// How long a change of the namespace's row takes, judged by reading it.
    async fn store_write(&self) -> Result<Duration, Stop> {
        let began = Instant::now();
        let read = self.deps.manager.get(&self.namespace.name).await;
        read.map_err(|refusal| refused(refusal.to_string()))?;
        Ok(began.elapsed() * READS_PER_WRITE)
    }

    /// Where the shards say that the target is.
    pub(super) async fn standing(&self) -> GetShardReplicationStatusResponse {
        let request = GetShardReplicationStatusRequest {
            shard_ids: Vec::new(),
            remote_clusters: vec![self.to.to_string()],
        };
        let shards = &self.deps.shards;
        shards.get_shard_replication_status(request).await
    }

    fn missing_shards(&self, status: &GetShardReplicationStatusResponse) -> usize {
        let to = self.to.as_str();
        let connected = status.shards.iter().filter(|s| {
            let mut readers = s.remotes.iter();
            readers.any(|r| r.cluster == to && r.connected)
        });
        (self.deps.shards.shard_count() as usize).saturating_sub(connected.count())
    }

    /// How long the oldest change of this namespace has waited. Other namespaces do not count.
    fn lag(&self, status: &GetShardReplicationStatusResponse) -> Duration {
        let (id, to) = (self.namespace.id.as_str(), self.to.as_str());
        let ours = status.namespaces.iter();
        let ours = ours.filter(|n| n.namespace_id == id && n.cluster == to);
        let lags = ours.map(|n| time::duration_from_proto(n.lag.as_ref()));
        lags.max().unwrap_or_default()
    }

    /// Changes of this namespace that the target has not acknowledged, if every shard can tell.
    pub(super) fn unacknowledged(
        &self,
        status: &GetShardReplicationStatusResponse,
    ) -> Result<i64, &'static str> {
        let (id, to) = (self.namespace.id.as_str(), self.to.as_str());
        let tells = |s: &proto_messages::meridian::replication::v1::ShardStatus| {
            let mut readers = s.remotes.iter().filter(|r| r.cluster == to).peekable();
            readers.peek().is_some() && readers.all(|r| r.ever_connected)
        };
        if status.shards.iter().filter(|s| tells(s)).count()
            < self.deps.shards.shard_count() as usize
        {
            return Err("not all shards can tell");
        }
        let ours = status.namespaces.iter();
        let mut ours = ours.filter(|n| n.namespace_id == id && n.cluster == to);
        ours.try_fold(0, |sum, n| match n.at_least {
            true => Err("too much is pending to look through"),
            false => Ok(sum + n.pending_tasks),
        })
    }
}
