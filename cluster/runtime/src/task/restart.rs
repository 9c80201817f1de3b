//! Tasks that run as long as the process: one that panics is started again.

use std::{borrow::Cow, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio::time::Instant;

use super::{Task, TaskKind, Tasks, panic_text};
use crate::{retry, telemetry::Metrics};

/// Pauses between a panic and the next start.
const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(100), Duration::from_secs(10));

/// A task that ran this long counts as healthy again.
const WELL_AFTER: Duration = Duration::from_secs(60);

impl Tasks {
    /// Counts restarts of this group's tasks, and of its children's, by the task's name.
    pub fn count_restarts(&self, metrics: &Metrics) {
        let restarts = metrics.counters(
            "meridian_task_restarts_total",
            "Long-lived tasks that panicked and were started again.",
            &["task"],
        );
        let _ = self.0.restarts.set(restarts);
    }

    /// Spawns a task that others rely on as long as the process lives. When it panics that is logged and
    /// counted, and `make` makes it anew after a pause; it ends when its future returns. `make` has to take up
    /// what the one before left, so that state lives outside the future.
    pub fn spawn_restarting<M, F>(
        &self,
        kind: TaskKind,
        name: impl Into<Cow<'static, str>>,
        make: M,
    ) -> Task<()>
    where
        M: Fn() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let (group, stop, task) = (self.clone(), self.token(kind), name.clone());
        self.spawn(kind, name, async move {
            let mut pauses = PAUSES.pauses();
            loop {
                let begun = Instant::now();
                let caught = AssertUnwindSafe(make()).catch_unwind();
                let Err(panic) = caught.await else { return };
                group.restarted(&task);
                if begun.elapsed() >= WELL_AFTER {
                    pauses.reset();
                }
                let pause = pauses.next_pause();
                tracing::error!(group = group.0.path, task = %task, %kind, ?pause,
                    reason = panic_text(&*panic), "task panicked and is started again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        })
    }

    fn restarted(&self, task: &str) {
        let counter = self.0.lineage().find_map(|group| group.restarts.get());
        if let Some(counter) = counter {
            counter.with_label_values(&[task]).inc();
        }
    }
}
