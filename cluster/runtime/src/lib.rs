//! The ground every running part stands on: clocks, tasks with a kind, retries, live settings,
//! rate limits, logs and metrics. Nothing in this crate knows a word of the domain.

pub mod clock;
mod log_fields;
pub mod overload;
pub mod rate;
pub mod retry;
pub mod sampled;
pub mod settings;
pub mod task;
pub mod telemetry;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use overload::Overload;
pub use sampled::Sampled;
pub use settings::{AnyKey, Key, Settings};
pub use task::{TaskKind, Tasks};
pub use telemetry::Metrics;
pub use tokio_util::sync::CancellationToken;
