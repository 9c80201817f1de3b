//! Calls of a comparison to the shards here and to the other cluster.

use std::collections::BTreeMap;

use proto_ids::NamespaceName;
use proto_messages::{
    meridian::replication::v1::{
        CompareRunsRequest, CompareRunsResponse, FlushBufferedEventsRequest,
        ListChangedRunsRequest, RunStanding,
    },
    temporal::{
        api::common::v1::WorkflowExecution,
        server::api::adminservice::v1::GenerateLastHistoryReplicationTasksRequest,
    },
};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Check, ComparisonError, Look, PAGE, here, is_complete};
use crate::remotes;

impl Check {
    pub(super) async fn changed(&self, shard_id: i32, after: i64) -> Result<Look, ComparisonError> {
        let (mut look, mut more) = self.changed_page(shard_id, after).await?;
        while more {
            let (page, is_more) = self.changed_page(shard_id, look.through).await?;
            look.through = page.through;
            look.runs.extend(page.runs);
            more = is_more;
        }
        Ok(look)
    }

    pub(super) async fn changed_page(
        &self,
        shard_id: i32,
        after: i64,
    ) -> Result<(Look, bool), ComparisonError> {
        let request = ListChangedRunsRequest {
            shard_id,
            namespace_id: self.namespace_id.to_string(),
            watch: self.watch.clone(),
            after,
            ..Default::default()
        };
        let changed = self.shards.list_changed_runs(request).await;
        let changed = changed.map_err(|s| here(shard_id, &s))?;
        if changed.began && self.seen.contains_key(&shard_id) {
            let text = format!(
                "shard {shard_id} changed hands during the comparison; it has to begin anew"
            );
            return Err(ComparisonError::Interrupted(text));
        }
        let look = Look {
            through: changed.through,
            runs: changed.runs,
        };
        Ok((look, changed.more))
    }

    pub(super) async fn ask_dead_letters(&mut self) -> Result<(), ComparisonError> {
        let answer = self.ask(Vec::new(), true).await?;
        self.dead_letters = answer.dead_letters;
        self.dead_letter_runs = answer.dead_letter_runs;
        Ok(())
    }

    pub(super) async fn ask(
        &self,
        runs: Vec<RunStanding>,
        dead_letters: bool,
    ) -> Result<CompareRunsResponse, ComparisonError> {
        let from = self.remotes.clusters().current_name();
        let request = CompareRunsRequest {
            namespace_id: self.namespace_id.to_string(),
            runs,
            dead_letters_of: if dead_letters {
                from.to_string()
            } else {
                String::new()
            },
        };
        let unknown = |status: Status| {
            ComparisonError::Unknown(match status.code() {
                Code::Unimplemented => format!(
                    "cluster {} does not offer to compare runs, as a Temporal Server does not",
                    self.to
                ),
                _ => format!(
                    "cluster {} cannot say what it has: {}",
                    self.to,
                    status.message()
                ),
            })
        };
        let mut client = self.remotes.extension(&self.to).map_err(unknown)?;
        let answer = client.compare_runs(remotes::request(request)).await;
        answer.map(|a| a.into_inner()).map_err(unknown)
    }

    /// Writes buffered events to history on shards that are held.
    pub(super) async fn flush(&mut self, until: Instant) -> Result<(), ComparisonError> {
        let mut by_shard: BTreeMap<i32, Vec<WorkflowExecution>> = BTreeMap::new();
        for (workflow_id, run_id) in self.buffered.keys() {
            let run = WorkflowExecution {
                workflow_id: workflow_id.clone(),
                run_id: run_id.clone(),
            };
            let shard = self.shard_of(workflow_id);
            by_shard.entry(shard).or_default().push(run);
        }
        for (shard_id, executions) in by_shard {
            for page in executions.chunks(PAGE) {
                let request = FlushBufferedEventsRequest {
                    shard_id,
                    namespace_id: self.namespace_id.to_string(),
                    executions: page.to_vec(),
                };
                let flushed = self.shards.flush_buffered_events(request);
                match tokio::time::timeout_at(until, flushed).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(status)) => return Err(here(shard_id, &status)),
                    Err(_) => {
                        let text = "buffered events could not be written within the time";
                        return Err(ComparisonError::Interrupted(text.to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends what is lacking again; returns how many runs.
    pub async fn send_again(&self, namespace: &NamespaceName) -> Result<i64, ComparisonError> {
        let mut sent = 0;
        for open in self.open.values() {
            let request = GenerateLastHistoryReplicationTasksRequest {
                namespace: namespace.to_string(),
                execution: open.standing.execution.clone(),
                ..Default::default()
            };
            let id = self.namespace_id.as_str();
            let shards = &self.shards;
            match shards
                .generate_last_history_replication_tasks(id, request)
                .await
            {
                Ok(_) => sent += 1,
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => {
                    let text = format!("a run cannot be sent again: {}", status.message());
                    return Err(ComparisonError::Interrupted(text));
                }
            }
        }
        Ok(sent)
    }

    /// Nothing more is asked; shards forget what they kept for this comparison, and hear if nothing is lacking.
    pub async fn end(&self) {
        let is_complete = self.compared && is_complete(&self.findings());
        let complete_in = match is_complete {
            true => self.to.to_string(),
            false => String::new(),
        };
        for shard_id in self.seen.keys() {
            let request = ListChangedRunsRequest {
                shard_id: *shard_id,
                namespace_id: self.namespace_id.to_string(),
                watch: self.watch.clone(),
                after: -1,
                complete_in: complete_in.clone(),
            };
            // A shard that cannot be reached forgets by itself.
            let _ = self.shards.list_changed_runs(request).await;
        }
    }
}
