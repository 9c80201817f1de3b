//! Depth of failures. A failure holds its cause, which holds its own, and readers of protobuf give up at a
//! depth of their own: a hundred messages for most of them, this server and Java's SDK among them. A failure
//! travels inside of events, tasks and states, so what is kept of it leaves room for all of these.

use proto_messages::{
    temporal::api::{
        command::v1::{Command, command::Attributes},
        failure::v1::{Failure, failure::FailureInfo},
    },
    time,
};

/// Failures of one chain that are kept, the outermost first. The deepest place of a failure is the snapshot of
/// a pending activity on its way to another cluster, nine messages down; its details add four more, and the
/// server itself may wrap it a few times.
pub(crate) const DEPTH_MAX: usize = 64;

/// Drops the causes that lie too deep, and cuts delays that are too long to be counted with. A refusal instead would leave the activity or workflow task running
/// until it times out.
pub(crate) fn failure(failure: Option<&mut Failure>) {
    let mut kept = 0;
    let mut at = failure;
    while let Some(failure) = at {
        kept += 1;
        if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut failure.failure_info {
            time::cap_duration(info.next_retry_delay.as_mut());
        }
        if kept == DEPTH_MAX {
            failure.cause = None;
        }
        at = failure.cause.as_deref_mut();
    }
}

/// The same for all failures of a completion's commands.
pub(crate) fn commands(commands: &mut [Command]) {
    for command in commands {
        match &mut command.attributes {
            Some(Attributes::FailWorkflowExecutionCommandAttributes(a)) => {
                failure(a.failure.as_mut());
            }
            Some(Attributes::RecordMarkerCommandAttributes(a)) => failure(a.failure.as_mut()),
            Some(Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(a)) => {
                failure(a.failure.as_mut());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto_messages::{
        Wire,
        temporal::{
            api::{
                common::v1::{Payload, Payloads},
                failure::v1::ApplicationFailureInfo,
                history::v1::{
                    ActivityTaskFailedEventAttributes, History, HistoryEvent,
                    history_event::Attributes as Event,
                },
                workflowservice::v1::GetWorkflowExecutionHistoryResponse,
            },
            server::api::{
                adminservice::v1::{
                    StreamWorkflowReplicationMessagesResponse,
                    stream_workflow_replication_messages_response::Attributes as Streamed,
                },
                persistence::v1::{ActivityInfo, WorkflowMutableState},
                replication::v1::{
                    ReplicationTask, SyncVersionedTransitionTaskAttributes,
                    SyncWorkflowStateSnapshotAttributes, VersionedTransitionArtifact,
                    WorkflowReplicationMessages, replication_task::Attributes as Task,
                    versioned_transition_artifact::StateAttributes,
                },
            },
        },
    };

    use super::*;

    /// A failure with so many failures in its chain, each with details.
    fn chain(length: usize) -> Failure {
        let details = Payloads {
            payloads: vec![Payload {
                metadata: [("encoding".to_owned(), "json/plain".into())].into(),
                ..Default::default()
            }],
        };
        let link = |cause: Option<Failure>| Failure {
            message: "broken".into(),
            cause: cause.map(Box::new),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(
                ApplicationFailureInfo {
                    details: Some(details.clone()),
                    ..Default::default()
                },
            )),
            ..Default::default()
        };
        let innermost = link(None);
        (1..length).fold(innermost, |cause, _| link(Some(cause)))
    }

    fn length(failure: &Failure) -> usize {
        std::iter::successors(Some(failure), |f| f.cause.as_deref()).count()
    }

    fn kept(of: usize) -> Failure {
        let mut kept = chain(of);
        failure(Some(&mut kept));
        kept
    }

    #[test]
    fn causes_are_kept_to_the_limit_and_no_farther() {
        assert_eq!(kept(1), chain(1));
        assert_eq!(kept(DEPTH_MAX), chain(DEPTH_MAX));
        assert_eq!(kept(DEPTH_MAX + 1), chain(DEPTH_MAX));
        assert_eq!(length(&kept(97)), DEPTH_MAX);
        failure(None);
    }

    /// A failure that is accepted can be decoded wherever it travels; one that is refused could not have been.
    #[test]
    fn a_failure_that_is_kept_can_be_carried_everywhere() {
        let in_history = |failure: Failure| {
            let attributes = ActivityTaskFailedEventAttributes {
                failure: Some(failure),
                ..Default::default()
            };
            let event = HistoryEvent {
                attributes: Some(Event::ActivityTaskFailedEventAttributes(attributes)),
                ..Default::default()
            };
            let answer = GetWorkflowExecutionHistoryResponse {
                history: Some(History {
                    events: vec![event],
                }),
                ..Default::default()
            };
            GetWorkflowExecutionHistoryResponse::from_wire(answer.to_wire()).is_ok()
        };
        let in_stream = |failure: Failure| {
            let activity = ActivityInfo {
                retry_last_failure: Some(failure),
                ..Default::default()
            };
            let state = WorkflowMutableState {
                activity_infos: [(5, activity)].into(),
                ..Default::default()
            };
            let artifact = VersionedTransitionArtifact {
                state_attributes: Some(StateAttributes::SyncWorkflowStateSnapshotAttributes(
                    SyncWorkflowStateSnapshotAttributes { state: Some(state) },
                )),
                ..Default::default()
            };
            let attributes = SyncVersionedTransitionTaskAttributes {
                versioned_transition_artifact: Some(artifact),
                ..Default::default()
            };
            let task = ReplicationTask {
                attributes: Some(Task::SyncVersionedTransitionTaskAttributes(attributes)),
                ..Default::default()
            };
            let messages = WorkflowReplicationMessages {
                replication_tasks: vec![task],
                ..Default::default()
            };
            let answer = StreamWorkflowReplicationMessagesResponse {
                attributes: Some(Streamed::Messages(messages)),
            };
            let bytes = answer.encode_to_vec();
            StreamWorkflowReplicationMessagesResponse::decode(bytes.as_slice()).is_ok()
        };
        assert!(in_history(kept(99)) && in_stream(kept(99)));
        assert!(!in_history(chain(99)) && !in_stream(chain(99)));
    }
}
