//! Routing of a key to the service that owns it: the service object in this process, or a channel to the member that
//! owns the key. Calls that fail because ownership moved, or because the owner is gone, are made again
//! for a short while, each time with the ring of the moment.

use std::{
    error::Error,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use cluster_membership::{Member, Membership, Ring, Role};
use cluster_runtime::retry::{Policy, retry};
use proto_messages::temporal::api::errordetails::v1::NamespaceUnavailableFailure;
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{channel::Channels, deadline, status};

/// Covers the time in which a dead member is noticed and its keys find a new owner.
const RETRY: Policy = Policy::exponential(Duration::from_millis(20), Duration::from_millis(400));
const RETRY_WITHIN: Duration = Duration::from_secs(8);
/// Where nobody else could take over only a service that starts or re-reads its shard is waited for; a
/// longer wait would hold up a shutdown.
const RETRY_ALONE_WITHIN: Duration = Duration::from_secs(1);
/// How long a member that left the ring may still take to answer: one that leaves in good order ends
/// what it has begun.
const LEAVER_GRACE: Duration = Duration::from_secs(1);

/// Where a call goes.
pub(crate) enum Target<S: ?Sized> {
    Local(Arc<S>),
    Remote(Channel),
}

/// One service's routing.
pub(crate) struct Route<S: ?Sized> {
    role: Role,
    peers: Option<Peers>,
    local: OnceLock<Arc<S>>,
}

struct Peers {
    membership: Membership,
    channels: Channels,
}

impl<S: ?Sized> Route<S> {
    /// Everything is served in this process.
    pub(crate) fn local(role: Role) -> Self {
        Self {
            role,
            peers: None,
            local: OnceLock::new(),
        }
    }

    /// Keys are served by their owners in the role's ring.
    pub(crate) fn routed(role: Role, membership: Membership, channels: Channels) -> Self {
        let peers = Some(Peers {
            membership,
            channels,
        });
        Self {
            role,
            peers,
            local: OnceLock::new(),
        }
    }

    /// Names the service in this process. Only the first call counts.
    pub(crate) fn set_local(&self, service: Arc<S>) {
        if self.local.set(service).is_err() {
            tracing::error!(role = %self.role, "the local service was set twice; the first stays");
        }
    }

    /// Calls the owner of the key. `key` is only asked when more than one member plays the role.
    pub(crate) async fn call<T, R, F>(
        &self,
        key: impl Fn(&T) -> Result<String, Status>,
        request: Request<T>,
        op: impl Fn(Target<S>, Request<T>) -> F,
    ) -> Result<Response<R>, Status>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let limit = if self.is_alone() {
            RETRY_ALONE_WITHIN
        } else {
            RETRY_WITHIN
        };
        let within = deadline::timeout_of(request.metadata()).map_or(limit, |d| d.min(limit));
        let once = || async {
            let (owner, target) = self.target(|| key(request.get_ref()))?;
            // The clone keeps the request for another attempt.
            let made = op(target, again(&request));
            match owner {
                None => made.await,
                Some(owner) => tokio::select! {
                    biased;
                    answer = made => answer.map_err(lost_on_the_way),
                    () = self.gone(&owner) => Err(status::unavailable(format!(
                        "{} member {} left while it was called", self.role, owner.id
                    ))),
                },
            }
        };
        retry(&RETRY.within(within), is_retryable, once).await
    }

    /// Where calls for the key go at this moment, for streams, which are not made again.
    pub(crate) fn find(&self, key: &str) -> Result<Target<S>, Status> {
        self.target(|| Ok(key.to_owned())).map(|(_, target)| target)
    }

    /// Calls every member of the role once; a member that fails is left out and logged.
    pub(crate) async fn call_each<T, R, F>(
        &self,
        request: T,
        op: impl Fn(Target<S>, Request<T>) -> F,
    ) -> Vec<R>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let targets: Vec<_> = match &self.peers {
            None => vec![(String::new(), self.here())],
            Some(peers) => {
                let ring = peers.membership.ring(self.role);
                ring.members()
                    .map(|m| (m.id.clone(), self.target_of(peers, m)))
                    .collect()
            }
        };
        let calls = targets.into_iter().map(|(member, target)| {
            let made = target.map(|target| op(target, Request::new(request.clone())));
            async move {
                match made {
                    Ok(made) => made.await,
                    Err(error) => Err(error),
                }
                .map_err(|error| tracing::warn!(member, %error, "a member did not answer"))
                .ok()
            }
        });
        let answers = futures::future::join_all(calls).await;
        answers
            .into_iter()
            .flatten()
            .map(Response::into_inner)
            .collect()
    }

    /// The target and, when it is another process, its member.
    fn target(
        &self,
        key: impl FnOnce() -> Result<String, Status>,
    ) -> Result<(Option<Arc<Member>>, Target<S>), Status> {
        let Some(peers) = &self.peers else {
            return Ok((None, self.here()?));
        };
        let ring = peers.membership.ring(self.role);
        let owner = if ring.len() < 2 {
            ring.members().next()
        } else {
            ring.owner(&key()?)
        };
        let owner = owner
            .ok_or_else(|| status::unavailable(format!("no {} member is known", self.role)))?;
        let target = self.target_of(peers, owner)?;
        let remote = matches!(target, Target::Remote(_)).then(|| owner.clone());
        Ok((remote, target))
    }

    fn target_of(&self, peers: &Peers, member: &Member) -> Result<Target<S>, Status> {
        if peers.membership.is_me(member) {
            return self.here();
        }
        let at = member.rpc(self.role).ok_or_else(|| {
            status::unavailable(format!("member {} does not play {}", member.id, self.role))
        })?;
        peers.channels.get(at).map(Target::Remote)
    }

    fn is_alone(&self) -> bool {
        let Some(peers) = &self.peers else {
            return true;
        };
        let ring = peers.membership.ring(self.role);
        matches!(ring.members().next(), Some(only) if ring.len() == 1 && peers.membership.is_me(only))
    }

    fn here(&self) -> Result<Target<S>, Status> {
        let service = self.local.get().cloned().map(Target::Local);
        service.ok_or_else(|| status::unavailable(format!("the {} service is starting", self.role)))
    }

    /// Returns some time after the member left the ring.
    async fn gone(&self, member: &Member) {
        let Some(peers) = &self.peers else {
            return std::future::pending().await;
        };
        let mut ring = peers.membership.watch(self.role);
        let is_gone = |ring: &Arc<Ring>| {
            ring.get(&member.id)
                .is_none_or(|m| m.incarnation != member.incarnation)
        };
        if ring.wait_for(is_gone).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(LEAVER_GRACE).await;
        if let Some(at) = member.rpc(self.role) {
            peers.channels.forget(at);
        }
    }
}

/// The same request once more.
fn again<T: Clone>(request: &Request<T>) -> Request<T> {
    Request::from_parts(
        request.metadata().clone(),
        request.extensions().clone(),
        request.get_ref().clone(),
    )
}

/// A connection that breaks under a call shows as UNKNOWN with an error of the transport behind it; the
/// peer itself never answers so.
fn lost_on_the_way(status: Status) -> Status {
    let is_transport =
        status.source().is_some() && matches!(status.code(), Code::Unknown | Code::Internal);
    if is_transport {
        status::unavailable(format!("connection lost: {}", status.message()))
    } else {
        status
    }
}

fn is_retryable(error: &Status) -> bool {
    match error.code() {
        Code::Aborted => status::is_shard_ownership_lost(error),
        // A hand-over takes longer than a retry is worth; the frontend waits for it in its own way.
        Code::Unavailable => status::decode_detail::<NamespaceUnavailableFailure>(error).is_none(),
        _ => false,
    }
}
