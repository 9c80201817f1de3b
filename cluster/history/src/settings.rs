//! Settings of the history service that may change while it runs.

use std::time::Duration;

use cluster_runtime::{AnyKey, Key};

/// Server side of `GetWorkflowExecutionHistory` with `wait_new_event`.
pub static LONG_POLL: Key<Duration> = Key::new(
    "history.longPollExpirationInterval",
    Duration::from_secs(20),
    "How long a reader that waits for new events is kept before it gets an empty page.",
);

/// Queries of one run that wait for its workflow task.
pub static BUFFERED_QUERIES: Key<i64> = Key::new(
    "history.MaxBufferedQueryCount",
    1,
    "Most queries of one run that wait for its workflow task at once.",
);

/// A query whose caller set no deadline.
pub static QUERY_TIMEOUT: Key<Duration> = Key::new(
    "history.queryTimeout",
    Duration::from_secs(30),
    "How long a query waits for a worker when the caller sets no deadline.",
);

/// Least time between a start and a start that terminates it.
pub static REUSE_INTERVAL: Key<Duration> = Key::new(
    "history.workflowIdReuseMinimalInterval",
    Duration::from_secs(1),
    "Least age of a running run before another start of the same id may terminate it.",
);

/// Eager start.
pub static EAGER_START: Key<bool> = Key::new(
    "system.enableEagerWorkflowStart",
    true,
    "Whether a start may carry back the first workflow task.",
);

/// All of them.
pub static SETTINGS: &[&dyn AnyKey] = &[
    &LONG_POLL,
    &BUFFERED_QUERIES,
    &QUERY_TIMEOUT,
    &REUSE_INTERVAL,
    &EAGER_START,
];
