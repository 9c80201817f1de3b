//! DescribeTaskQueue in both of its modes: one kind of queue with what is asked about it, or, in the older
//! enhanced mode, several kinds by version. Queues here have no versions but the unversioned one.

use proto_messages::temporal::api::{
    enums::v1::{BuildIdTaskReachability, DescribeTaskQueueMode, TaskQueueKind},
    taskqueue::v1::{TaskIdBlock, TaskQueueStatus, TaskQueueTypeInfo, TaskQueueVersionInfo},
    workflowservice::v1 as api,
};
use tonic::Status;

use cluster_rpc::status;

use super::{ACTIVITY, MatchingService, WORKFLOW};
use crate::queue::{Queue, total};

/// Under this name the unversioned queue stands among the versions.
const UNVERSIONED: &str = "";

impl MatchingService {
    #[expect(deprecated, reason = "clients of the older mode still ask for it")]
    pub(super) async fn describe(
        &self,
        namespace_id: &str,
        asked: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Status> {
        if asked.api_mode() == DescribeTaskQueueMode::Enhanced {
            return self.describe_versions(namespace_id, asked).await;
        }
        let kind = asked.task_queue_type.max(WORKFLOW);
        let queue = self
            .queue(namespace_id, asked.task_queue.as_ref(), kind)
            .await?;
        let by_priority = match asked.report_stats {
            true => queue.stats_by_priority(self.engine.unread(&queue).await?),
            false => Default::default(),
        };
        Ok(api::DescribeTaskQueueResponse {
            pollers: queue.pollers(),
            stats: asked.report_stats.then(|| total(by_priority.values())),
            stats_by_priority_key: by_priority,
            task_queue_status: asked.include_task_queue_status.then(|| status_of(&queue)),
            ..Default::default()
        })
    }

    #[expect(
        deprecated,
        reason = "the whole mode is deprecated, and the CLI still asks in it"
    )]
    async fn describe_versions(
        &self,
        namespace_id: &str,
        asked: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Status> {
        let queue = asked.task_queue.as_ref();
        if queue.is_some_and(|q| q.kind == TaskQueueKind::Sticky as i32) {
            return Err(status::invalid_argument(
                "Enhanced DescribeTaskQueue is not valid for a sticky queue, use api mode UNSPECIFIED \
                 or the normal queue name.",
            ));
        }
        let builds = asked
            .versions
            .as_ref()
            .map_or(&[][..], |v| v.build_ids.as_slice());
        let is_named = |build: &&String| build.as_str() != UNVERSIONED;
        if asked.report_task_reachability && builds.iter().any(|build| is_named(&build)) {
            return Err(status::unimplemented(
                "task reachability of build ids is not known to this server",
            ));
        }
        let kinds = match asked.task_queue_types.as_slice() {
            [] => vec![WORKFLOW, ACTIVITY],
            kinds => kinds.to_vec(),
        };
        let mut unversioned = TaskQueueVersionInfo::default();
        if asked.report_task_reachability {
            // New runs of a queue without versions go there.
            unversioned.task_reachability = BuildIdTaskReachability::Reachable as i32;
        }
        for kind in kinds {
            let queue = self.queue(namespace_id, queue, kind).await?;
            let info = TaskQueueTypeInfo {
                pollers: match asked.report_pollers {
                    true => queue.pollers(),
                    false => Vec::new(),
                },
                stats: match asked.report_stats {
                    true => {
                        let unread = self.engine.unread(&queue).await?;
                        Some(total(queue.stats_by_priority(unread).values()))
                    }
                    false => None,
                },
            };
            unversioned.types_info.insert(kind, info);
        }
        let mut versions: std::collections::HashMap<_, _> = builds
            .iter()
            .filter(is_named)
            .map(|build| (build.clone(), TaskQueueVersionInfo::default()))
            .collect();
        let wants_unversioned = asked
            .versions
            .as_ref()
            .is_none_or(|v| v.unversioned || v.all_active || versions.len() < v.build_ids.len());
        if wants_unversioned || builds.is_empty() {
            versions.insert(UNVERSIONED.to_owned(), unversioned);
        }
        Ok(api::DescribeTaskQueueResponse {
            versions_info: versions,
            ..Default::default()
        })
    }
}

fn status_of(queue: &Queue) -> TaskQueueStatus {
    let (ack, read) = queue.ids();
    TaskQueueStatus {
        backlog_count_hint: queue.backlog_count(),
        read_level: read.get(),
        ack_level: ack.get(),
        rate_per_second: 100_000.0,
        task_id_block: Some(TaskIdBlock {
            start_id: ack.get() + 1,
            end_id: read.get(),
        }),
    }
}
