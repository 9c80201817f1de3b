//! The path of every call on a namespace. The differences between RPCs are described by [`Rpc`] and its [`RpcTraits`];
//! what they do is in [`Serve`]. Nothing about forwarding, hand-over, quotas or statuses is in their files.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cluster_rpc::{
    Connection, Gated, deadline,
    guard::AuthenticatedPeer,
    service_metrics::Serving,
    status::{self, Masking},
};
use cluster_runtime::overload::{Class, InFlight};
use namespaces::Namespace;
use proto_messages::temporal::api::enums::v1::{
    NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope,
};
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tracing::Instrument;

use crate::{
    frontend::Host,
    limits,
    quota::{Counts, Priority},
    redirect::{Forwarded, RedirectionHeaders},
    refusal, token, versions,
};

mod path;
mod rpc;
mod table;

use rpc::{ErasedAnswer, ErasedCall, TypedCall};
pub(crate) use rpc::{Locate, LongPoll, Rpc, RpcTraits, Serve};

/// The context of a call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its namespace, as known when this attempt began.
    pub(crate) namespace: Arc<Namespace>,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Identifies a poll for cancelling it.
    pub(crate) poller_id: String,
    /// The caller's headers.
    pub(crate) headers: Arc<MetadataMap>,
}

/// A call as it came in.
struct IncomingCall {
    headers: Arc<MetadataMap>,
    redirection: RedirectionHeaders,
    deadline: Option<Instant>,
    /// A gate has let its class's share in already.
    is_gated: bool,
    /// The caller, when a certificate proved its identity.
    peer: Option<AuthenticatedPeer>,
}

impl IncomingCall {
    fn new(headers: MetadataMap, is_gated: bool) -> Self {
        Self {
            redirection: RedirectionHeaders::read(&headers),
            deadline: deadline::timeout_of(&headers).map(|d| Instant::now() + d),
            headers: Arc::new(headers),
            is_gated,
            peer: None,
        }
    }
}

impl Call {
    /// A request to another service that ends when the caller stops waiting.
    pub(crate) fn onward<T>(&self, message: T) -> Request<T> {
        self.onward_within(message, Duration::ZERO)
    }

    /// The same, ending `reserve` before, so that an answer made at the end still arrives.
    pub(crate) fn onward_within<T>(&self, message: T, reserve: Duration) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(left) = left(self.deadline) {
            request.set_timeout(left.saturating_sub(reserve));
        }
        request
    }

    pub(crate) fn namespace_id(&self) -> String {
        self.namespace.id.to_string()
    }
}

/// The time left until the deadline; `None` when there is none.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|d| d.saturating_duration_since(Instant::now()))
}

impl Host {
    /// Serves a call on a namespace, here or elsewhere.
    pub(crate) async fn run<R: Serve>(
        &self,
        request: Request<R>,
    ) -> Result<Response<R::Answer>, Status> {
        let (headers, extensions, message) = request.into_parts();
        let mut rpc = TypedCall(message);
        let connection = extensions.get::<Arc<Connection>>();
        let mut unread = match connection {
            Some(connection) if is_large_read(&rpc) => connection.turn_to_read().await,
            _ => None,
        };
        let is_gated = extensions.get::<Gated>().is_some();
        let mut incoming = IncomingCall::new(headers, is_gated);
        incoming.peer = extensions.get::<AuthenticatedPeer>().cloned();
        let answered = self.run_erased(incoming, &mut rpc).await?;
        if let Some(connection) = connection
            && rpc.is_long()
            && R::TRAITS.long_poll == LongPoll::Read
        {
            let held = connection.hold(answered.bytes());
            unread = Some(held.ok_or_else(unread_refusal)?);
        }
        let mut response = Response::new(answered.into_message()?);
        if let Some(unread) = unread {
            response.extensions_mut().insert(unread);
        }
        Ok(response)
    }

    async fn run_erased(
        &self,
        incoming: IncomingCall,
        rpc: &mut dyn ErasedCall,
    ) -> Result<ErasedAnswer, Status> {
        let mut running = self.metrics.begin(rpc.operation());
        let result = self.checked(incoming, rpc, &mut running).await;
        let result = result.map_err(|s| self.for_client(s));
        running.end(&result);
        result
    }

    /// Serves a call without a namespace, or about the namespace's own record.
    pub(crate) async fn run_plain<T, A, F>(
        &self,
        operation: &'static str,
        request: Request<T>,
        serve: impl FnOnce(T) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>> + Send,
    {
        let running = self.metrics.begin(operation);
        let result = match self
            .readiness
            .check()
            .and_then(|()| versions::check(request.metadata()))
        {
            Ok(()) => serve(request.into_inner()).await,
            Err(refused) => Err(refused),
        };
        let result = result.map_err(|s| self.for_client(s));
        running.end(&result);
        result.map(Response::new)
    }

    fn for_client(&self, refused: Status) -> Status {
        let masking = match self.settings.get(&limits::OPEN_ERRORS) {
            true => Masking::Open,
            false => Masking::Masked,
        };
        status::for_clients(refused, masking)
    }

    async fn checked(
        &self,
        incoming: IncomingCall,
        rpc: &mut dyn ErasedCall,
        running: &mut Serving<'_>,
    ) -> Result<ErasedAnswer, Status> {
        self.readiness.check()?;
        versions::check(&incoming.headers)?;
        let operation = rpc.operation();
        if rpc.traits().long_poll == LongPoll::Poll {
            check_poll_deadline(&incoming, operation)?;
        }
        let _in_flight = self.let_in(&incoming, rpc)?;
        let namespace = self.namespace_of(rpc.locate()).await?;
        self.check_peer(incoming.peer.as_ref(), &namespace)?;
        running.in_namespace(&namespace.name);
        if let Some(queue) = rpc.begins_on() {
            let admitted = self.overload.admit_to_queue(namespace.id.as_str(), queue);
            admitted.map_err(status::overloaded)?;
        }
        let span = tracing::debug_span!("call", operation, namespace = %namespace.name);
        self.serve(&incoming, rpc, namespace).instrument(span).await
    }

    /// Refuses what an overloaded process cannot do in time. What is returned is held while the call runs.
    fn let_in(
        &self,
        incoming: &IncomingCall,
        rpc: &dyn ErasedCall,
    ) -> Result<Option<InFlight>, Status> {
        let class = priority_of(rpc).class();
        let left = || left(incoming.deadline);
        let is_long = rpc.is_long() || rpc.traits().counts == Counts::Long;
        let admitted = match () {
            () if is_long => self.overload.admit_long(class).map(|()| None),
            () if incoming.is_gated && class == Class::Start => {
                self.overload.place(class, left()).map(Some)
            }
            () => self.overload.admit(class, left()).map(Some),
        };
        admitted.map_err(status::overloaded)
    }

    /// The namespace a request means, by name or by what its token says.
    async fn namespace_of(&self, locate: Locate<'_>) -> Result<Arc<Namespace>, Status> {
        let (name, id) = match locate {
            Locate::Name(name) => (name, None),
            Locate::Task { name, task_token } => {
                (name, Some(token::task(task_token)?.namespace_id))
            }
            Locate::Query { name, task_token } => {
                (name, Some(token::query(task_token)?.namespace_id))
            }
        };
        let Some(id) = id else {
            return self.namespace_named(name).await;
        };
        let found = self.registry.resolve_id(&id.as_str().into()).await;
        let namespace = found
            .map_err(refusal::of_store)?
            .ok_or_else(|| status::namespace_not_found(&id))?;
        if !name.is_empty() && namespace.name.as_str() != name {
            return Err(status::invalid_argument(
                "Operation requested with a token from a different namespace.",
            ));
        }
        Ok(namespace)
    }

    /// The namespace with this name.
    pub(crate) async fn namespace_named(&self, name: &str) -> Result<Arc<Namespace>, Status> {
        if name.is_empty() {
            return Err(status::invalid_argument("Namespace not set on request."));
        }
        if name.len() > self.limits(name).get(&limits::ID_LENGTH) {
            return Err(status::invalid_argument("Namespace length exceeds limit."));
        }
        crate::validate::storable("Namespace", name)?;
        let name = name.into();
        let found = self.registry.resolve(&name).await;
        found
            .map_err(refusal::of_store)?
            .ok_or_else(|| refusal::not_found(&name))
    }
}

/// Whether the answer may be large, as a page of a history or a list is.
fn is_large_read(rpc: &dyn ErasedCall) -> bool {
    let traits = rpc.traits();
    let is_page = traits.long_poll == LongPoll::Read
        || traits.counts == Counts::Visibility
        || traits.priority == Priority::Low;
    is_page && !rpc.is_long()
}

fn unread_refusal() -> Status {
    status::resource_exhausted(
        ResourceExhaustedCause::ConcurrentLimit,
        ResourceExhaustedScope::System,
        "answers that this connection has not read yet hold too much memory",
    )
}

/// The priority of a call. A read that waits for something to happen can wait for its turn, too.
fn priority_of(rpc: &dyn ErasedCall) -> Priority {
    match rpc.traits().long_poll {
        LongPoll::Read if rpc.is_long() => Priority::Low,
        _ => rpc.traits().priority,
    }
}

/// A poll without a deadline would be held for ever, and one with a short one ends before it waits.
fn check_poll_deadline(incoming: &IncomingCall, operation: &'static str) -> Result<(), Status> {
    match left(incoming.deadline) {
        None => Err(status::invalid_argument("Context timeout is not set.")),
        // Not INVALID_ARGUMENT, which workers take for a defect of their own and stop for good.
        Some(left) if left < limits::POLL_DEADLINE_MIN => {
            Err(status::failed_precondition("Context timeout is too short."))
        }
        Some(left) => {
            if left < limits::POLL_DEADLINE_LOW {
                // Said per poll, by clients that are within their rights: not for an operator.
                tracing::debug!(operation, ?left, "a poll's deadline is very short");
            }
            Ok(())
        }
    }
}

fn check_state(namespace: &Namespace, allowed: &[NamespaceState]) -> Result<(), Status> {
    let state = namespace.api_state();
    if allowed.contains(&state) {
        return Ok(());
    }
    Err(status::namespace_invalid_state(
        namespace.name.as_str(),
        state,
        allowed,
    ))
}

impl RpcTraits {
    /// An ordinary call.
    pub(crate) const CALL: Self = Self {
        forwarded: Forwarded::All,
        counts: Counts::Call,
        priority: Priority::Status,
        long_poll: LongPoll::No,
        waits_for_handover: true,
        best_effort: false,
        states: &[NamespaceState::Registered, NamespaceState::Deprecated],
    };

    /// One that clients use to act on workflows.
    pub(crate) const ACT: Self = Self {
        forwarded: Forwarded::Selected,
        priority: Priority::Event,
        ..Self::CALL
    };

    /// One that makes new workflows.
    pub(crate) const START: Self = Self {
        priority: Priority::Start,
        states: &[NamespaceState::Registered],
        ..Self::ACT
    };

    /// A worker's poll.
    pub(crate) const POLL: Self = Self {
        counts: Counts::Long,
        priority: Priority::Progress,
        long_poll: LongPoll::Poll,
        ..Self::CALL
    };

    /// A worker's answer to a task.
    pub(crate) const PROGRESS: Self = Self {
        priority: Priority::Progress,
        ..Self::CALL
    };

    /// A list or count.
    pub(crate) const VISIBILITY: Self = Self {
        counts: Counts::Visibility,
        waits_for_handover: false,
        ..Self::CALL
    };
}
