//! Pulls events that are missing from the cluster that has them. Both ends are exclusive; batches come as
//! they were written, page by page, and each page is applied before the next is asked for, so that a long
//! history needs little memory.

use cluster_core::EventBatch;
use proto_ids::{ClusterName, RunKey};
use proto_messages::temporal::{
    api::common::v1::WorkflowExecution,
    server::api::{
        adminservice::v1::{
            GetWorkflowExecutionRawHistoryV2Request, GetWorkflowExecutionRawHistoryV2Response,
        },
        errordetails::v1::RetryReplicationFailure,
    },
};
use replication_ndc::Missing;
use tonic::{Code, Status};

use super::{Applier, ApplyTarget, Progress, absorb::Work};
use crate::{remotes::request, wire};

/// Batches in one page.
const PAGE: i32 = 100;

/// The result of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// The range is here.
    All,
    /// The source does not have the run any more.
    Gone,
}

impl Applier {
    /// Pulls a range and applies it.
    pub(super) async fn backfill(
        &self,
        at: &ApplyTarget,
        key: &RunKey,
        missing: &Missing,
        progress: &mut Progress,
    ) -> Result<Pulled, Status> {
        let source = &at.source;
        tracing::info!(
            remote_cluster = %source,
            run = %key,
            after = missing.after.map_or(0, |item| item.event_id.get()),
            before = %missing.before.event_id,
            "events are missing and are pulled from their source"
        );
        let mut token = bytes::Bytes::new();
        loop {
            let page = match self.pull(source, key, missing, token).await {
                Ok(page) => page,
                Err(status) if status.code() == Code::NotFound => return Ok(Pulled::Gone),
                Err(status) => return Err(status),
            };
            token = page.next_page_token.clone();
            if let Some(work) = work_of(key, page)? {
                self.absorb_pulled(at, work, progress).await?;
            }
            if token.is_empty() {
                return Ok(Pulled::All);
            }
        }
    }

    async fn pull(
        &self,
        source: &ClusterName,
        key: &RunKey,
        missing: &Missing,
        next_page_token: bytes::Bytes,
    ) -> Result<GetWorkflowExecutionRawHistoryV2Response, Status> {
        let wanted = GetWorkflowExecutionRawHistoryV2Request {
            execution: Some(WorkflowExecution {
                workflow_id: key.workflow_id.to_string(),
                run_id: key.run_id.to_string(),
            }),
            start_event_id: missing.after.map_or(0, |item| item.event_id.get()),
            start_event_version: missing.after.map_or(0, |item| item.version.get()),
            end_event_id: missing.before.event_id.get(),
            end_event_version: missing.before.version.get(),
            maximum_page_size: PAGE,
            next_page_token,
            namespace_id: key.namespace_id.to_string(),
        };
        let mut admin = self.deps().remotes.admin(source)?;
        Ok(admin
            .get_workflow_execution_raw_history_v2(request(wanted))
            .await?
            .into_inner())
    }
}

fn work_of(
    key: &RunKey,
    page: GetWorkflowExecutionRawHistoryV2Response,
) -> Result<Option<Work>, Status> {
    let malformed = |error: wire::Malformed| Status::data_loss(error.to_string());
    let batches: Vec<EventBatch> =
        wire::batches_from_blobs(&page.history_batches).map_err(malformed)?;
    if batches.is_empty() {
        return Ok(None);
    }
    let history = page.version_history.unwrap_or_default();
    let items = wire::items_from_wire(&history.items);
    Ok(Some(Work {
        key: key.clone(),
        items,
        batches,
        new_run: None,
        non_history: page
            .run_state
            .as_ref()
            .map(wire::non_history_from_wire)
            .unwrap_or_default(),
    }))
}

/// A gap in the form for peers.
pub(super) fn to_wire(key: &RunKey, missing: &Missing) -> RetryReplicationFailure {
    RetryReplicationFailure {
        namespace_id: key.namespace_id.to_string(),
        workflow_id: key.workflow_id.to_string(),
        run_id: key.run_id.to_string(),
        start_event_id: missing.after.map_or(0, |item| item.event_id.get()),
        start_event_version: missing.after.map_or(0, |item| item.version.get()),
        end_event_id: missing.before.event_id.get(),
        end_event_version: missing.before.version.get(),
    }
}
