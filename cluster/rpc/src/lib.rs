//! How the parts of the server talk: statuses with details, listeners, channels, and one client handle
//! per internal service that hides whether the callee is in this process. This crate moves messages; it
//! knows no rule.

pub mod channel;
pub mod deadline;
pub mod guard;
pub mod history;
pub mod matching;
pub mod replication;
mod route;
pub mod serve;
pub mod service_metrics;
pub mod status;

pub use channel::{ChannelOptions, Channels, INTERNAL_MESSAGE_BYTES_MAX, Security};
pub use history::HistoryClient;
pub use matching::MatchingClient;
pub use replication::ReplicationClient;
pub use serve::{
    Connection, Gate, Gated, Listener, PUBLIC_MESSAGE_BYTES_MAX, ServeOptions, Unread,
};
pub use service_metrics::ServiceMetrics;
