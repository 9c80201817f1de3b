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

use super::{
    Call, ErasedAnswer, ErasedCall, IncomingCall, LongPoll, RpcTraits, check_state, left,
    priority_of,
};
use crate::{frontend::Host, quota::Counts, redirect};

/// Kept back from the caller's deadline, so that a refusal still reaches it.
const RESERVE: Duration = Duration::from_millis(100);
/// How long a caller without a deadline waits for a hand-over or for the clusters to agree.
const RETRY_FOR: Duration = Duration::from_secs(2);
/// How long to wait, without a change of any namespace, before trying again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a poll here may take to end once it was asked to.
const END_POLL_GRACE: Duration = Duration::from_secs(3);
/// How long a poll that was passed on is still waited for: its side may be dead, which is why the namespace
/// moved, and the worker is needed here.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// How one attempt ended.
enum Ended {
    Answered(Result<ErasedAnswer, Status>),
    /// The namespace became active elsewhere during the long poll.
    Moved,
}

/// Where a refused call is tried again.
enum RetryAt {
    /// Nowhere: the refusal is the answer.
    Nowhere,
    /// At this cluster.
    Cluster(ClusterName),
    /// A little later.
    Later,
}

/// The end of a long poll in a process that stops: nothing has happened, and others serve.
fn stopping() -> Ended {
    Ended::Answered(Err(status::unavailable("Frontend is stopping")))
}

impl Host {
    pub(super) async fn serve(
        &self,
        incoming: &IncomingCall,
        rpc: &mut dyn ErasedCall,
        mut namespace: Arc<Namespace>,
    ) -> Result<ErasedAnswer, Status> {
        let traits = rpc.traits();
        let retry_until = Instant::now() + left(incoming.deadline).unwrap_or(RETRY_FOR);
        let retry_until = retry_until - RESERVE;
        let may_forward = !incoming.redirection.stays()
            && self
                .policy
                .allows(traits.forwarded, &self.settings, namespace.name.as_str());
        let current = self.clusters.current_name();
        // Only a replicated namespace can make a second attempt necessary.
        if !namespace.is_replicated() && !namespace.handover {
            let call = self.call(incoming, traits, namespace);
            return match self.serve_long_poll(&call, rpc, false, true).await {
                Ended::Answered(answered) => answered,
                Ended::Moved => Ok(rpc.nothing()),
            };
        }
        let mut named_active: Option<ClusterName> = None;
        loop {
            if traits.waits_for_handover && namespace.handover {
                self.wait_for_handover(&namespace, retry_until).await?;
            }
            namespace = self.newest(namespace);
            let active = redirect::elsewhere(&namespace, &current).cloned();
            let target = named_active.take().or(active).filter(|_| may_forward);
            let call = self.call(incoming, traits, namespace.clone());
            let ended = match &target {
                Some(cluster) => self.forward(cluster, &call, rpc, may_forward).await,
                None => self.serve_long_poll(&call, rpc, may_forward, false).await,
            };
            let refused = match ended {
                Ended::Moved if may_forward => continue,
                Ended::Moved => return Ok(rpc.nothing()),
                Ended::Answered(Ok(answer)) => return Ok(answer),
                Ended::Answered(Err(_)) if traits.best_effort => return Ok(rpc.nothing()),
                Ended::Answered(Err(refused)) => refused,
            };
            match self.retry_at(&refused, target.as_ref(), may_forward, &current) {
                RetryAt::Nowhere => return Err(refused),
                RetryAt::Cluster(cluster) => named_active = Some(cluster),
                RetryAt::Later => {
                    if Instant::now() + PAUSE >= retry_until {
                        return Err(too_long(refused));
                    }
                    self.wait_for_change(PAUSE).await;
                }
            }
        }
    }

    fn call(&self, incoming: &IncomingCall, traits: &RpcTraits, namespace: Arc<Namespace>) -> Call {
        let poller_id = match traits.long_poll {
            LongPoll::Poll => self.ids.make(),
            LongPoll::No | LongPoll::Read => String::new(),
        };
        Call {
            namespace,
            deadline: incoming.deadline,
            poller_id,
            headers: incoming.headers.clone(),
        }
    }

    fn newest(&self, known: Arc<Namespace>) -> Arc<Namespace> {
        self.registry.by_id(&known.id).unwrap_or(known)
    }

    /// Serves the call here, and ends a long poll when the namespace becomes active elsewhere or the process stops.
    async fn serve_long_poll(
        &self,
        call: &Call,
        rpc: &mut dyn ErasedCall,
        may_forward: bool,
        is_last: bool,
    ) -> Ended {
        let traits = rpc.traits();
        if let Err(refused) = check_state(&call.namespace, traits.states) {
            return Ended::Answered(Err(refused));
        }
        let (long_poll, counts) = match rpc.is_long() {
            true => (traits.long_poll, Counts::Long),
            false => (LongPoll::No, traits.counts),
        };
        let admitted = self.quota.admit(
            &call.namespace,
            rpc.operation(),
            counts,
            priority_of(rpc),
            &|| self.membership.ring(Role::Frontend).len(),
        );
        let _permit = match admitted {
            Ok(permit) => permit,
            Err(refused) => return Ended::Answered(Err(refused)),
        };
        if long_poll == LongPoll::No {
            return Ended::Answered(rpc.serve(self, call, is_last).await);
        }
        // The message is needed once more to end the poll.
        let mut serve = rpc.serve(self, call, false);
        let goes_on = tokio::select! {
            biased;
            answered = &mut serve => return Ended::Answered(answered),
            () = self.moved(&call.namespace), if long_poll == LongPoll::Poll || may_forward => true,
            () = self.readiness.lost() => false,
        };
        if long_poll == LongPoll::Read {
            return if goes_on { Ended::Moved } else { stopping() };
        }
        // A task may be on its way to this very poll: it is asked to end rather than dropped.
        let end = async {
            rpc.end_poll(self, call).await;
            serve.await
        };
        match timeout(END_POLL_GRACE, end).await {
            Ok(Ok(answer)) if !answer.is_empty() => Ended::Answered(Ok(answer)),
            Ok(_) | Err(_) if goes_on => Ended::Moved,
            Ok(answered) => Ended::Answered(answered),
            Err(_) => stopping(),
        }
    }

    /// Forwards the call. A long poll is given up when the namespace becomes active elsewhere; the other
    /// side, which sees that too, is given the time to end it itself.
    async fn forward(
        &self,
        cluster: &ClusterName,
        call: &Call,
        rpc: &dyn ErasedCall,
        may_forward: bool,
    ) -> Ended {
        let channel = match self.remotes.get(cluster) {
            Ok(channel) => channel,
            Err(refused) => return Ended::Answered(Err(refused)),
        };
        let is_long = rpc.is_long() && may_forward;
        let mut headers = redirect::headers(&call.headers, &self.clusters.current_name());
        if let Some(value) = call.onward(()).metadata().get("grpc-timeout") {
            headers.insert("grpc-timeout", value.clone());
        }
        let operation = rpc.operation();
        let forward = rpc.forward(channel, headers);
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
        if rpc.traits().long_poll == LongPoll::Read {
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
    async fn wait_for_handover(&self, namespace: &Namespace, until: Instant) -> Result<(), Status> {
        let mut changes = self.registry.watch();
        loop {
            let is_in_handover = self
                .registry
                .by_id(&namespace.id)
                .is_some_and(|n| n.handover);
            if !is_in_handover {
                return Ok(());
            }
            match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(status::namespace_unavailable(namespace.name.as_str())),
            }
        }
    }

    /// Waits for a change of any namespace, at most this long.
    async fn wait_for_change(&self, at_most: Duration) {
        let mut changes = self.registry.watch();
        // No change is fine: the caller looks again.
        let _ = timeout(at_most, changes.changed()).await;
    }

    fn retry_at(
        &self,
        refused: &Status,
        target: Option<&ClusterName>,
        may_forward: bool,
        current: &ClusterName,
    ) -> RetryAt {
        // The shards may be frozen before this host is notified of the handover.
        if status::decode_detail::<NamespaceUnavailableFailure>(refused).is_some() {
            return RetryAt::Later;
        }
        let Some(failure) = status::decode_detail::<NamespaceNotActiveFailure>(refused) else {
            return RetryAt::Nowhere;
        };
        if !may_forward {
            return RetryAt::Nowhere;
        }
        let active = ClusterName::from(failure.active_cluster);
        let known = self.clusters.get(&active).is_some();
        // After a failover the two sides may disagree for as long as the change travels.
        match target {
            None if known && active != *current => RetryAt::Cluster(active),
            Some(tried) if known && active != *current && active != *tried => {
                RetryAt::Cluster(active)
            }
            _ => RetryAt::Later,
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
