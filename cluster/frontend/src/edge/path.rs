//! From a request and its namespace to an answer: waits out a hand-over, chooses the side, serves or
//! passes on, and begins again when the choice turns out to be old. Only refusals after which nothing
//! has happened are tried again.

use std::{sync::Arc, time::Duration};

use cluster_membership::Role;
use cluster_rpc::status;
use namespaces::Namespace;
use proto_ids::ClusterName;
use proto_messages::temporal::api::errordetails::v1::{
    NamespaceNotActiveFailure, NamespaceUnavailableFailure,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use super::{Answered, Arrival, Attempt, Call, Nature, Parks, check_state, left, priority_of};
use crate::{frontend::Host, quota::Counts, redirect};

/// Kept back from the caller's deadline, so that a refusal still reaches it.
const RESERVE: Duration = Duration::from_millis(100);
/// How long a caller without a deadline waits for a hand-over or for the clusters to agree.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait, without news of the namespace, before trying again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a poll here may take to end once it was told to.
const UNPARK_GRACE: Duration = Duration::from_secs(3);
/// How long a poll that was passed on is still waited for: its side may be dead, which is why the namespace
/// moved, and the worker is needed here.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// How one attempt ended.
enum Ended {
    Answered(Result<Answered, Status>),
    /// The namespace became active elsewhere while the call was parked.
    Moved,
}

/// What a refusal asks for.
enum Again {
    /// Nothing: it is the answer.
    No,
    /// The same call at this cluster.
    At(ClusterName),
    /// The same call a little later.
    Later,
}

/// The end of a parked call of a process that stops: nothing has happened, and others serve.
fn stopping() -> Ended {
    Ended::Answered(Err(status::unavailable("Frontend is stopping")))
}

impl Host {
    pub(super) async fn drive(
        &self,
        arrival: &Arrival,
        attempt: &mut dyn Attempt,
        mut namespace: Arc<Namespace>,
    ) -> Result<Answered, Status> {
        let nature = attempt.nature();
        let patience_ends = Instant::now() + left(arrival.deadline).unwrap_or(PATIENCE);
        let patience_ends = patience_ends - RESERVE;
        let may_forward = !arrival.marks.stays()
            && self
                .policy
                .allows(nature.forwarded, &self.settings, namespace.name.as_str());
        let current = self.clusters.current_name();
        // Only a replicated namespace can make a second attempt necessary.
        if !namespace.is_replicated() && !namespace.handover {
            let call = self.call(arrival, nature, namespace);
            return match self.here_watched(&call, attempt, false, true).await {
                Ended::Answered(answered) => answered,
                Ended::Moved => Ok(attempt.nothing()),
            };
        }
        let mut told: Option<ClusterName> = None;
        loop {
            if nature.waits_for_handover && namespace.handover {
                self.released(&namespace, patience_ends).await?;
            }
            namespace = self.newest(namespace);
            let active = redirect::elsewhere(&namespace, &current).cloned();
            let there = told.take().or(active).filter(|_| may_forward);
            let call = self.call(arrival, nature, namespace.clone());
            let ended = match &there {
                Some(cluster) => self.there(cluster, &call, attempt, may_forward).await,
                None => self.here_watched(&call, attempt, may_forward, false).await,
            };
            let refused = match ended {
                Ended::Moved if may_forward => continue,
                Ended::Moved => return Ok(attempt.nothing()),
                Ended::Answered(Ok(answer)) => return Ok(answer),
                Ended::Answered(Err(_)) if nature.farewell => return Ok(attempt.nothing()),
                Ended::Answered(Err(refused)) => refused,
            };
            match self.again(&refused, there.as_ref(), may_forward, &current) {
                Again::No => return Err(refused),
                Again::At(cluster) => told = Some(cluster),
                Again::Later => {
                    if Instant::now() + PAUSE >= patience_ends {
                        return Err(too_long(refused));
                    }
                    self.news(PAUSE).await;
                }
            }
        }
    }

    fn call(&self, arrival: &Arrival, nature: &Nature, namespace: Arc<Namespace>) -> Call {
        let poller_id = match nature.parks {
            Parks::Poll => self.ids.make(),
            Parks::No | Parks::Read => String::new(),
        };
        Call {
            namespace,
            deadline: arrival.deadline,
            poller_id,
            headers: arrival.headers.clone(),
        }
    }

    fn newest(&self, known: Arc<Namespace>) -> Arc<Namespace> {
        self.registry.by_id(&known.id).unwrap_or(known)
    }

    /// Serves here, and ends a parked call when the namespace becomes active elsewhere or the process stops.
    async fn here_watched(
        &self,
        call: &Call,
        attempt: &mut dyn Attempt,
        may_forward: bool,
        is_last: bool,
    ) -> Ended {
        let nature = attempt.nature();
        if let Err(refused) = check_state(&call.namespace, nature.states) {
            return Ended::Answered(Err(refused));
        }
        let (parks, counts) = match attempt.is_long() {
            true => (nature.parks, Counts::Long),
            false => (Parks::No, nature.counts),
        };
        let admitted = self.quota.admit(
            &call.namespace,
            attempt.operation(),
            counts,
            priority_of(attempt),
            &|| self.membership.ring(Role::Frontend).len(),
        );
        let _place = match admitted {
            Ok(place) => place,
            Err(refused) => return Ended::Answered(Err(refused)),
        };
        if parks == Parks::No {
            return Ended::Answered(attempt.serve(self, call, is_last).await);
        }
        // The message is needed once more to end the poll.
        let mut serve = attempt.serve(self, call, false);
        let goes_on = tokio::select! {
            biased;
            answered = &mut serve => return Ended::Answered(answered),
            () = self.moved(&call.namespace), if parks == Parks::Poll || may_forward => true,
            () = self.readiness.lost() => false,
        };
        if parks == Parks::Read {
            return if goes_on { Ended::Moved } else { stopping() };
        }
        // A task may be on its way to this very poll: it is asked to end rather than dropped.
        let end = async {
            attempt.unpark(self, call).await;
            serve.await
        };
        match timeout(UNPARK_GRACE, end).await {
            Ok(Ok(answer)) if !answer.is_empty() => Ended::Answered(Ok(answer)),
            Ok(_) | Err(_) if goes_on => Ended::Moved,
            Ok(answered) => Ended::Answered(answered),
            Err(_) => stopping(),
        }
    }

    /// Passes the call on. A parked one is given up when the namespace becomes active elsewhere; the other
    /// side, which sees that too, is given the time to end it itself.
    async fn there(
        &self,
        cluster: &ClusterName,
        call: &Call,
        attempt: &dyn Attempt,
        may_forward: bool,
    ) -> Ended {
        let channel = match self.remotes.get(cluster) {
            Ok(channel) => channel,
            Err(refused) => return Ended::Answered(Err(refused)),
        };
        let is_long = attempt.is_long() && may_forward;
        let mut headers = redirect::headers(&call.headers, &self.clusters.current_name());
        if let Some(value) = call.onward(()).metadata().get("grpc-timeout") {
            headers.insert("grpc-timeout", value.clone());
        }
        let operation = attempt.operation();
        let forward = attempt.forward(channel, headers);
        let forward = async {
            let result = forward.await;
            self.metrics.forwarded(operation, cluster.as_str(), &result);
            result.map_err(lost_on_the_way)
        };
        let mut forward = std::pin::pin!(forward);
        if !is_long {
            return Ended::Answered(forward.await);
        }
        tokio::select! {
            biased;
            answered = &mut forward => return Ended::Answered(answered),
            () = self.moved(&call.namespace) => {}
            () = self.readiness.lost() => return stopping(),
        }
        if attempt.nature().parks == Parks::Read {
            return Ended::Moved;
        }
        match timeout(LEAVE_GRACE, forward).await {
            Ok(Ok(answer)) if !answer.is_empty() => Ended::Answered(Ok(answer)),
            Ok(_) | Err(_) => Ended::Moved,
        }
    }

    /// Returns when the namespace is active in another cluster than the given record says.
    async fn moved(&self, namespace: &Namespace) {
        let mut changes = self.registry.watch();
        loop {
            let now = self.registry.by_id(&namespace.id);
            if now.is_some_and(|n| n.active_cluster != namespace.active_cluster) {
                return;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the namespace is no longer handed over.
    async fn released(&self, namespace: &Namespace, until: Instant) -> Result<(), Status> {
        let mut changes = self.registry.watch();
        loop {
            let held = self
                .registry
                .by_id(&namespace.id)
                .is_some_and(|n| n.handover);
            if !held {
                return Ok(());
            }
            match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(status::namespace_unavailable(namespace.name.as_str())),
            }
        }
    }

    /// Waits for news of any namespace, at most this long.
    async fn news(&self, at_most: Duration) {
        let mut changes = self.registry.watch();
        // No news is fine: the caller looks again.
        let _ = timeout(at_most, changes.changed()).await;
    }

    fn again(
        &self,
        refused: &Status,
        there: Option<&ClusterName>,
        may_forward: bool,
        current: &ClusterName,
    ) -> Again {
        // The shards may be frozen before this host has heard of the hand-over.
        if status::decode_detail::<NamespaceUnavailableFailure>(refused).is_some() {
            return Again::Later;
        }
        let Some(failure) = status::decode_detail::<NamespaceNotActiveFailure>(refused) else {
            return Again::No;
        };
        if !may_forward {
            return Again::No;
        }
        let active = ClusterName::from(failure.active_cluster);
        let known = self.clusters.get(&active).is_some();
        // After a failover the two sides may disagree for as long as the news travels.
        match there {
            None if known && active != *current => Again::At(active),
            Some(tried) if known && active != *current && active != *tried => Again::At(active),
            _ => Again::Later,
        }
    }
}

/// A connection that breaks under a call shows as an inner error with the transport's behind it; clients
/// shall try again.
fn lost_on_the_way(status: Status) -> Status {
    let is_inner = matches!(status.code(), Code::Unknown | Code::Internal);
    match std::error::Error::source(&status) {
        Some(cause) if is_inner => status::unavailable(format!(
            "connection to the active cluster was lost: {}: {cause}",
            status.message()
        )),
        _ => status,
    }
}

/// The refusal of a call whose clusters did not agree in time, so that clients try again.
fn too_long(refused: Status) -> Status {
    match status::decode_detail::<NamespaceNotActiveFailure>(&refused) {
        Some(failure) => status::namespace_unavailable(&failure.namespace),
        None => refused,
    }
}
