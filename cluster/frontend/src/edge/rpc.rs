//! What the path asks of an RPC.

use std::future::Future;

use prost::{Message, Name};
use proto_messages::temporal::api::enums::v1::NamespaceState;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{edge::Call, frontend::Host, quota::Counts, redirect::Forwarded};

/// A request of the public API that is about a namespace.
pub(crate) trait Rpc: Message + Name + Clone + Default + 'static {
    /// What it is answered with.
    type Answer: Message + Default + 'static;
    /// What kind of call it is.
    const NATURE: Nature;

    /// Where it says which namespace it is about.
    fn locate(&self) -> Locate<'_>;

    /// Calls the same RPC of another cluster's frontend.
    fn forward(
        to: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// What an RPC does here.
pub(crate) trait Serve: Rpc {
    /// Validates and delegates.
    fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> impl Future<Output = Result<Self::Answer, Status>> + Send;

    /// Makes a parked poll end soon, because its namespace has become active elsewhere.
    fn unpark(&self, _host: &Host, _call: &Call) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Whether this very request may stay open for long.
    fn is_long(&self) -> bool {
        Self::NATURE.parks == Parks::Poll
    }
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// When it is passed on to the active cluster.
    pub(crate) forwarded: Forwarded,
    /// Which limits count it.
    pub(crate) counts: Counts,
    /// Whether it may wait for long.
    pub(crate) parks: Parks,
    /// Whether it waits while the namespace is handed over.
    pub(crate) waits_for_handover: bool,
    /// Whether it is a farewell: when the other side cannot be reached, nothing is left to be told.
    pub(crate) farewell: bool,
    /// In which states of the namespace it is served.
    pub(crate) states: &'static [NamespaceState],
}

/// How a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parks {
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
pub(crate) fn operation<R: Name>() -> &'static str {
    R::NAME.strip_suffix("Request").unwrap_or(R::NAME)
}
