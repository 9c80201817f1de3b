//! Remembers every call that clients and workers made: when, to which cluster, and how it ended. The
//! judges believe this record and nothing a server says about itself. It is kept in memory and written
//! as one JSON object per line, so that a run can be judged again later.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use crate::timeline::RunClock;

/// A call that changes something and was made by a client or a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A workflow was started.
    Start,
    /// A workflow was signalled; names of signals are unique in a run of a drill.
    Signal {
        /// The signal's name.
        name: String,
    },
    /// A workflow was asked to cancel; reasons are unique in a run of a drill.
    Cancel {
        /// The reason given.
        reason: String,
    },
    /// A workflow was terminated; reasons are unique in a run of a drill.
    Terminate {
        /// The reason given.
        reason: String,
    },
    /// A workflow was reset.
    Reset {
        /// The run that goes on.
        new_run_id: String,
    },
    /// A workflow task was answered.
    WorkflowTask {
        /// The task's started event.
        started_event_id: i64,
        /// Whether the answer closed the run.
        closing: bool,
    },
    /// An activity was completed.
    Activity {
        /// Its id in the run.
        activity_id: String,
    },
    /// An activity reported how far it is; numbers rise within a run.
    Heartbeat {
        /// What was reported.
        number: u64,
    },
    /// An attempt of an activity began.
    Attempt {
        /// The last number that it was told of; 0 for none.
        found: u64,
    },
}

impl Op {
    /// A short name for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal { .. } => "signal",
            Self::Cancel { .. } => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Reset { .. } => "reset",
            Self::WorkflowTask { .. } => "workflow task",
            Self::Activity { .. } => "activity",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Attempt { .. } => "attempt",
        }
    }
}

/// One call and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When it ended, in milliseconds of the run.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// The cluster whose frontend was called.
    pub cluster: String,
    /// The request.
    #[serde(flatten)]
    pub op: Op,
    /// The workflow.
    pub workflow_id: String,
    /// The run, where the caller knows it.
    pub run_id: String,
    /// The error's code and text; absent when the server acknowledged.
    pub error: Option<String>,
}

impl Call {
    /// Whether the server promised the write.
    pub fn acknowledged(&self) -> bool {
        self.error.is_none()
    }

    /// The call in a few words.
    pub fn describe(&self) -> String {
        let detail = match &self.op {
            Op::Start => String::new(),
            Op::Signal { name } => format!(" {name:?}"),
            Op::Cancel { reason } | Op::Terminate { reason } => format!(" {reason:?}"),
            Op::Reset { new_run_id } => format!(" to run {new_run_id}"),
            Op::WorkflowTask {
                started_event_id, ..
            } => format!(" started by event {started_event_id}"),
            Op::Activity { activity_id } => format!(" {activity_id}"),
            Op::Heartbeat { number } => format!(" {number}"),
            Op::Attempt { found } => format!(" told of heartbeat {found}"),
        };
        format!(
            "{}{detail} of {} run {} acknowledged by {} at {:.3} s",
            self.op.name(),
            self.workflow_id,
            if self.run_id.is_empty() {
                "(current)"
            } else {
                &self.run_id
            },
            self.cluster,
            self.at_ms as f64 / 1000.0
        )
    }
}

/// Collects calls; clones share the record.
#[derive(Clone)]
pub struct Oracle {
    clock: RunClock,
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    calls: Vec<Call>,
    file: Option<BufWriter<File>>,
}

impl Oracle {
    /// An empty record that is also written to `file`.
    pub fn new(clock: RunClock, file: &Path) -> anyhow::Result<Self> {
        let created = File::create(file).with_context(|| format!("create {}", file.display()))?;
        Ok(Self {
            clock,
            kept: Arc::new(Mutex::new(Kept {
                calls: Vec::new(),
                file: Some(BufWriter::new(created)),
            })),
        })
    }

    /// Adds a call that ended now.
    pub fn record(
        &self,
        cluster: &str,
        op: Op,
        workflow_id: &str,
        run_id: &str,
        took: Duration,
        outcome: Result<(), &Status>,
    ) {
        let call = Call {
            at_ms: self.clock.now_ms(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            cluster: cluster.to_owned(),
            op,
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
            error: outcome
                .err()
                .map(|s| format!("{:?}: {}", s.code(), s.message())),
        };
        let mut kept = self.kept.lock();
        if let Some(file) = &mut kept.file {
            let line = serde_json::to_string(&call).unwrap_or_default();
            if let Err(error) = writeln!(file, "{line}") {
                tracing::warn!(%error, "the record of calls is no longer written");
                kept.file = None;
            }
        }
        kept.calls.push(call);
    }

    /// How many calls were acknowledged, and how many were not.
    pub fn counts(&self) -> (usize, usize) {
        let kept = self.kept.lock();
        let acknowledged = kept.calls.iter().filter(|c| c.acknowledged()).count();
        (acknowledged, kept.calls.len() - acknowledged)
    }

    /// All calls so far, in order of their ends.
    pub fn calls(&self) -> Vec<Call> {
        self.kept.lock().calls.clone()
    }

    /// Writes out what is buffered.
    pub fn flush(&self) -> anyhow::Result<()> {
        if let Some(file) = &mut self.kept.lock().file {
            file.flush().context("write the record of calls")?;
        }
        Ok(())
    }
}

/// Whether an error leaves a call worth repeating with the same request id.
pub fn repeatable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Aborted
            // A standby that does not forward; the namespace may be about to move here.
            | Code::FailedPrecondition
    )
}
