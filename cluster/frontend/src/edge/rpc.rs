//! The traits of RPCs, as the path needs them.

use std::{any::Any, future::Future};

use futures::{FutureExt, future::BoxFuture};
use prost::{Message, Name};
use proto_messages::temporal::api::enums::v1::NamespaceState;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    edge::Call,
    frontend::Host,
    quota::{Counts, Priority},
    redirect::Forwarded,
};

/// A request of the public API that is about a namespace.
pub(crate) trait Rpc: Message + Name + Clone + Default + 'static {
    /// The message it is answered with.
    type Answer: Message + Default + 'static;
    /// The traits of the RPC.
    const TRAITS: RpcTraits;

    /// The place where it names its namespace.
    fn locate(&self) -> Locate<'_>;

    /// Calls the same RPC of another cluster's frontend.
    fn forward(
        to: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// Serving of an RPC by this frontend.
pub(crate) trait Serve: Rpc {
    /// Validates and delegates.
    fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> impl Future<Output = Result<Self::Answer, Status>> + Send;

    /// Makes a poll that waits here end soon, because its namespace has become active elsewhere.
    fn end_poll(&self, _host: &Host, _call: &Call) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The task queue for which it begins new work.
    fn begins_on(&self) -> Option<&str> {
        None
    }

    /// Whether this very request may stay open for long.
    fn is_long(&self) -> bool {
        Self::TRAITS.long_poll == LongPoll::Poll
    }
}

/// A call without its type, as the path sees it. The path is the same for all RPCs, so it is compiled once,
/// over this, and hands the message on as a reference.
pub(crate) trait ErasedCall: Send + Sync {
    /// The traits of the RPC.
    fn traits(&self) -> &'static RpcTraits;

    /// The RPC's name.
    fn operation(&self) -> &'static str;

    /// The place where it names its namespace.
    fn locate(&self) -> Locate<'_>;

    /// The task queue for which it begins new work.
    fn begins_on(&self) -> Option<&str>;

    /// Whether it may stay open for long.
    fn is_long(&self) -> bool;

    /// Serves it here. What may be attempted again is served as a copy.
    fn serve<'a>(
        &mut self,
        host: &'a Host,
        call: &'a Call,
        is_last: bool,
    ) -> BoxFuture<'a, Result<ErasedAnswer, Status>>;

    /// Makes a poll that waits here end soon.
    fn end_poll<'a>(&'a self, host: &'a Host, call: &'a Call) -> BoxFuture<'a, ()>;

    /// Passes a copy on, with these headers.
    fn forward(
        &self,
        to: Channel,
        headers: MetadataMap,
    ) -> BoxFuture<'static, Result<ErasedAnswer, Status>>;

    /// The empty answer.
    fn nothing(&self) -> ErasedAnswer;
}

/// An answer on its way back along the path.
pub(crate) struct ErasedAnswer {
    message: Box<dyn Any + Send>,
    bytes: usize,
}

impl ErasedAnswer {
    fn of<A: Message + 'static>(message: A) -> Self {
        Self {
            bytes: message.encoded_len(),
            message: Box::new(message),
        }
    }

    /// Whether it says nothing, as the end of a poll without a task.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Its size on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message, which is of the type that the RPC answers with.
    pub(crate) fn into_message<A: 'static>(self) -> Result<A, Status> {
        let message = self.message.downcast::<A>();
        message
            .map(|message| *message)
            .map_err(|_| Status::internal("an answer of another RPC"))
    }
}

/// A call with its type.
pub(crate) struct TypedCall<R>(pub(crate) R);

impl<R: Serve> ErasedCall for TypedCall<R> {
    fn traits(&self) -> &'static RpcTraits {
        &R::TRAITS
    }

    fn operation(&self) -> &'static str {
        operation::<R>()
    }

    fn locate(&self) -> Locate<'_> {
        self.0.locate()
    }

    fn begins_on(&self) -> Option<&str> {
        self.0.begins_on()
    }

    fn is_long(&self) -> bool {
        self.0.is_long()
    }

    fn serve<'a>(
        &mut self,
        host: &'a Host,
        call: &'a Call,
        is_last: bool,
    ) -> BoxFuture<'a, Result<ErasedAnswer, Status>> {
        let message = match is_last {
            true => std::mem::take(&mut self.0),
            false => self.0.clone(),
        };
        let serving = message.serve(host, call);
        serving.map(|answer| answer.map(ErasedAnswer::of)).boxed()
    }

    fn end_poll<'a>(&'a self, host: &'a Host, call: &'a Call) -> BoxFuture<'a, ()> {
        self.0.end_poll(host, call).boxed()
    }

    fn forward(
        &self,
        to: Channel,
        headers: MetadataMap,
    ) -> BoxFuture<'static, Result<ErasedAnswer, Status>> {
        let mut request = Request::new(self.0.clone());
        *request.metadata_mut() = headers;
        let forwarding = R::forward(to, request);
        forwarding
            .map(|answer| answer.map(|a| ErasedAnswer::of(a.into_inner())))
            .boxed()
    }

    fn nothing(&self) -> ErasedAnswer {
        ErasedAnswer::of(R::Answer::default())
    }
}

/// The traits of an RPC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcTraits {
    /// When it is passed on to the active cluster.
    pub(crate) forwarded: Forwarded,
    /// Which limits count it.
    pub(crate) counts: Counts,
    /// Its priority when not all calls can be served.
    pub(crate) priority: Priority,
    /// Whether it is a long poll.
    pub(crate) long_poll: LongPoll,
    /// Whether it waits while the namespace is handed over.
    pub(crate) waits_for_handover: bool,
    /// Whether it is best effort: an error is answered as success.
    pub(crate) best_effort: bool,
    /// In which states of the namespace it is served.
    pub(crate) states: &'static [NamespaceState],
}

/// How a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongPoll {
    /// Not at all.
    No,
    /// For a task: a wait given up without care could lose one.
    Poll,
    /// For something to read: may be dropped and made again.
    Read,
}

/// Where a request names its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Locate<'a> {
    /// By name.
    Name(&'a str),
    /// By a task token; the name may be empty and must agree otherwise.
    Task { name: &'a str, task_token: &'a [u8] },
    /// By a query task's token.
    Query { name: &'a str, task_token: &'a [u8] },
}

/// The RPC's name: that of its request, which is always named after it.
fn operation<R: Name>() -> &'static str {
    R::NAME.strip_suffix("Request").unwrap_or(R::NAME)
}
