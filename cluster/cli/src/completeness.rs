//! Comparison of a namespace with another cluster, made run by run by the active cluster.

use std::time::Duration;

use proto_messages::meridian::replication::v1::{
    CheckCompletenessRequest, Completeness, run_difference::Kind,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::{connect::Server, output};

/// Without a sign of progress for so long, the answer is that it is not known.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// Workflows that are listed as text.
const SHOWN: usize = 10;

/// The result.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    /// Whether it is known.
    pub known: bool,
    /// Why not.
    pub reason: String,
    pub checked_runs: i64,
    pub lacking_runs: i64,
    /// Runs that lack nothing but events that wait for the end of a workflow task.
    pub buffered_runs: i64,
    pub dead_letters: i64,
    /// Runs that were sent again.
    pub sent_again: i64,
    pub runs: Vec<Lacking>,
}

/// A run that is lacking, whole or in part.
#[derive(Debug, Serialize)]
pub(crate) struct Lacking {
    pub workflow_id: String,
    pub run_id: String,
    pub what: &'static str,
    pub first_event_id: i64,
    pub next_event_id: i64,
    pub detail: String,
}

impl Found {
    pub(crate) fn unknown(reason: String) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }

    /// Whether it is known that nothing is lacking but what a switchover sends before it flips.
    pub(crate) fn is_complete(&self) -> bool {
        self.known && self.lacking_runs == 0 && self.dead_letters == 0
    }

    /// Runs of which something is lost when the active cluster is gone.
    pub(crate) fn runs_left_behind(&self) -> i64 {
        self.lacking_runs.saturating_add(self.buffered_runs)
    }

    /// What is lost when the active cluster is gone; nothing when nothing is.
    pub(crate) fn loss(&self) -> Option<String> {
        match (self.runs_left_behind(), self.dead_letters) {
            (0, 0) => None,
            (runs, letters) => Some(format!(
                "INCOMPLETE: {runs} of {} runs{}",
                self.checked_runs,
                and_letters(letters)
            )),
        }
    }

    /// In a cell of a table.
    pub(crate) fn brief(&self) -> String {
        if !self.known {
            return format!("unknown: {}", self.reason);
        }
        let buffered = match self.buffered_runs {
            0 => String::new(),
            runs => format!("; {runs} with events that wait for the end of a workflow task"),
        };
        match self.lacking_runs {
            0 if self.dead_letters == 0 => {
                format!("complete ({} runs compared){buffered}", self.checked_runs)
            }
            lacking => format!(
                "INCOMPLETE: {lacking} of {} runs{}{buffered}",
                self.checked_runs,
                and_letters(self.dead_letters)
            ),
        }
    }

    /// A line for each of the first runs.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .runs
            .iter()
            .take(SHOWN)
            .map(|run| {
                let events = match run.first_event_id < run.next_event_id {
                    true => format!(" events {}..{}", run.first_event_id, run.next_event_id - 1),
                    false => String::new(),
                };
                let detail = match run.detail.as_str() {
                    "" => String::new(),
                    detail => format!(": {detail}"),
                };
                format!(
                    "{} ({}) {}{events}{detail}",
                    run.workflow_id, run.run_id, run.what
                )
            })
            .collect();
        let all = usize::try_from(self.runs_left_behind()).unwrap_or(0);
        if all > lines.len() {
            lines.push(format!("and {} more", all - lines.len()));
        }
        lines
    }
}

fn and_letters(letters: i64) -> String {
    match letters {
        0 => String::new(),
        letters => format!(", {letters} dead letters"),
    }
}

impl From<Completeness> for Found {
    fn from(told: Completeness) -> Self {
        let runs = told.differences.into_iter().map(|difference| {
            let what = match difference.kind() {
                Kind::Missing => "is missing",
                Kind::Behind | Kind::Unspecified => "lacks events",
                Kind::Activity => "lacks state of an activity",
                Kind::NotCurrent => "is not current",
                Kind::Damaged => "is damaged",
                Kind::Buffered => "has buffered events",
            };
            let run = difference.execution.unwrap_or_default();
            Lacking {
                workflow_id: run.workflow_id,
                run_id: run.run_id,
                what,
                first_event_id: difference.first_event_id,
                next_event_id: difference.next_event_id,
                detail: difference.detail,
            }
        });
        Self {
            known: told.unknown.is_empty(),
            reason: told.unknown,
            checked_runs: told.checked_runs,
            lacking_runs: told.lacking_runs,
            buffered_runs: told.buffered_runs,
            dead_letters: told.dead_letters,
            sent_again: told.sent_again,
            runs: runs.collect(),
        }
    }
}

/// Compares a namespace with a cluster; no answer means that it is not known.
pub(crate) async fn ask(
    server: &Server,
    namespace: &str,
    to: &str,
    send_again: bool,
    within: Option<Duration>,
) -> Found {
    let until = within.map(|within| Instant::now() + within);
    let request = CheckCompletenessRequest {
        namespace: namespace.to_owned(),
        to_cluster: to.to_owned(),
        send_again,
    };
    let listen = async {
        let mut replication = server.replication();
        let answer = replication.check_completeness(request).await?;
        let mut messages = answer.into_inner();
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, messages.message()).await;
            match next {
                Ok(message) => match message? {
                    Some(message) => {
                        if let Some(result) = message.result {
                            return Ok(Found::from(result));
                        }
                    }
                    None => return Ok(Found::unknown("the answer ended too early".into())),
                },
                Err(_) => {
                    let text = format!("no answer for {}", output::span(SILENCE_MAX));
                    return Ok(Found::unknown(text));
                }
            }
        }
    };
    let listen = async {
        let heard: Result<Found, tonic::Status> = listen.await;
        heard.unwrap_or_else(|status| Found::unknown(explain(&status)))
    };
    match until {
        None => listen.await,
        Some(until) => tokio::time::timeout_at(until, listen)
            .await
            .unwrap_or_else(|_| {
                let within = output::span(within.unwrap_or_default());
                Found::unknown(format!("the comparison did not end within {within}"))
            }),
    }
}

fn explain(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Unimplemented => {
            "the active cluster does not offer to compare runs, as a Temporal Server does not"
                .into()
        }
        code => format!("{} ({code})", status.message()),
    }
}
