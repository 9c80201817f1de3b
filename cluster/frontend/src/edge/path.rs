//! From a request and its namespace to an answer: waits out a hand-over, chooses the side, serves or
//! passes on, and begins again when the choice turns out to be old. Only refusals after which nothing
//! has happened are tried again.

use std::{sync::Arc, time::Duration};

use cluster_rpc::status;
use namespaces::Namespace;
use proto_ids::ClusterName;
use proto_messages::temporal::api::errordetails::v1::{
    NamespaceNotActiveFailure, NamespaceUnavailableFailure,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

use super::{Arrival, Call, Parks, Serve, check_state, left, operation};
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
enum Attempt<A> {
    Ended(Result<A, Status>),
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
fn stopping<A>() -> Attempt<A> {
    Attempt::Ended(Err(status::unavailable("Frontend is stopping")))
}

impl Host {
    pub(super) async fn drive<R: Serve>(
        &self,
        arrival: &Arrival,
        message: R,
        mut namespace: Arc<Namespace>,
    ) -> Result<R::Answer, Status> {
        let patience_ends = Instant::now() + left(arrival.deadline).unwrap_or(PATIENCE);
        let patience_ends = patience_ends - RESERVE;
        let may_forward = !arrival.marks.stays()
            && self
                .policy
                .allows(R::NATURE.forwarded, &self.settings, namespace.name.as_str());
        let current = self.clusters.current_name();
        // Only a replicated namespace can make a second attempt necessary.
        if !namespace.is_replicated() && !namespace.handover {
            let call = self.call::<R>(arrival, namespace);
            return match self.here_watched(&call, message, false).await {
                Attempt::Ended(ended) => ended,
                Attempt::Moved => Ok(R::Answer::default()),
            };
        }
        let mut told: Option<ClusterName> = None;
        loop {
            if R::NATURE.waits_for_handover && namespace.handover {
                self.released(&namespace, patience_ends).await?;
            }
            namespace = self.newest(namespace);
            let active = redirect::elsewhere(&namespace, &current).cloned();
            let there = told.take().or(active).filter(|_| may_forward);
            let call = self.call::<R>(arrival, namespace.clone());
            let attempt = match &there {
                Some(cluster) => {
                    self.there(cluster, &call, message.clone(), may_forward)
                        .await
                }
                None => self.here_watched(&call, message.clone(), may_forward).await,
            };
            let refused = match attempt {
                Attempt::Moved if may_forward => continue,
                Attempt::Moved => return Ok(R::Answer::default()),
                Attempt::Ended(Ok(answer)) => return Ok(answer),
                Attempt::Ended(Err(_)) if R::NATURE.farewell => return Ok(R::Answer::default()),
                Attempt::Ended(Err(refused)) => refused,
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

    fn call<R: Serve>(&self, arrival: &Arrival, namespace: Arc<Namespace>) -> Call {
        let poller_id = match R::NATURE.parks {
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

    async fn here<R: Serve>(&self, call: &Call, message: R) -> Result<R::Answer, Status> {
        check_state(&call.namespace, R::NATURE.states)?;
        let counts = match message.is_long() {
            true => Counts::Long,
            false => R::NATURE.counts,
        };
        let _place = self
            .quota
            .admit(&call.namespace, operation::<R>(), counts)?;
        message.serve(self, call).await
    }

    /// Serves here, and ends a parked call when the namespace becomes active elsewhere or the process stops.
    async fn here_watched<R: Serve>(
        &self,
        call: &Call,
        message: R,
        may_forward: bool,
    ) -> Attempt<R::Answer> {
        let parks = match message.is_long() {
            true => R::NATURE.parks,
            false => Parks::No,
        };
        if parks == Parks::No {
            return Attempt::Ended(self.here(call, message).await);
        }
        let kept = message.clone();
        let mut serve = std::pin::pin!(self.here(call, message));
        let goes_on = tokio::select! {
            biased;
            ended = &mut serve => return Attempt::Ended(ended),
            () = self.moved(&call.namespace), if parks == Parks::Poll || may_forward => true,
            () = self.readiness.lost() => false,
        };
        if parks == Parks::Read {
            return if goes_on { Attempt::Moved } else { stopping() };
        }
        // A task may be on its way to this very poll: it is asked to end rather than dropped.
        let end = async {
            kept.unpark(self, call).await;
            serve.await
        };
        match timeout(UNPARK_GRACE, end).await {
            Ok(Ok(answer)) if prost::Message::encoded_len(&answer) > 0 => {
                Attempt::Ended(Ok(answer))
            }
            Ok(_) | Err(_) if goes_on => Attempt::Moved,
            Ok(ended) => Attempt::Ended(ended),
            Err(_) => stopping(),
        }
    }

    /// Passes the call on. A parked one is given up when the namespace becomes active elsewhere; the other
    /// side, which sees that too, is given the time to end it itself.
    async fn there<R: Serve>(
        &self,
        cluster: &ClusterName,
        call: &Call,
        message: R,
        may_forward: bool,
    ) -> Attempt<R::Answer> {
        let channel = match self.remotes.get(cluster) {
            Ok(channel) => channel,
            Err(refused) => return Attempt::Ended(Err(refused)),
        };
        let is_long = message.is_long() && may_forward;
        let mut request: Request<R> = call.onward(message);
        let timeout_header = request.metadata().get("grpc-timeout").cloned();
        *request.metadata_mut() = redirect::headers(&call.headers, &self.clusters.current_name());
        if let Some(value) = timeout_header {
            request.metadata_mut().insert("grpc-timeout", value);
        }
        let forward = async {
            let result = R::forward(channel, request).await;
            self.metrics.forwarded(operation::<R>(), &result);
            result
                .map(tonic::Response::into_inner)
                .map_err(lost_on_the_way)
        };
        let mut forward = std::pin::pin!(forward);
        if !is_long {
            return Attempt::Ended(forward.await);
        }
        tokio::select! {
            biased;
            ended = &mut forward => return Attempt::Ended(ended),
            () = self.moved(&call.namespace) => {}
            () = self.readiness.lost() => return stopping(),
        }
        if R::NATURE.parks == Parks::Read {
            return Attempt::Moved;
        }
        match timeout(LEAVE_GRACE, forward).await {
            Ok(Ok(answer)) if prost::Message::encoded_len(&answer) > 0 => {
                Attempt::Ended(Ok(answer))
            }
            Ok(_) | Err(_) => Attempt::Moved,
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
