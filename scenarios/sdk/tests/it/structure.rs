//! Workflows that consist of several: children, and runs that continue as new ones.

use temporalio_client::WorkflowGetResultOptions;
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::{
    harness::{kinds, with_worker},
    workflows as w,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_return_and_fail_to_their_parent() -> anyhow::Result<()> {
    with_worker("children", async |case| {
        let options = case.start("parent");
        let run = case
            .client
            .start_workflow(w::Parent::run, (), options)
            .await?;
        let (good, bad) = run.get_result(Default::default()).await?;
        assert_eq!(good, "Hello, you, from a child");
        assert!(bad.contains("nobody to greet"), "{bad}");
        let history = run.fetch_history(Default::default()).into_events().await?;
        let kinds = kinds(&history);
        for expected in [
            EventType::StartChildWorkflowExecutionInitiated,
            EventType::ChildWorkflowExecutionStarted,
            EventType::ChildWorkflowExecutionCompleted,
            EventType::ChildWorkflowExecutionFailed,
        ] {
            assert!(kinds.contains(&expected), "{expected:?} missing: {kinds:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuing_as_new_keeps_type_and_queue() -> anyhow::Result<()> {
    with_worker("continue", async |case| {
        let options = case.start("countdown");
        let run = case
            .client
            .start_workflow(w::Countdown::run, 3, options)
            .await?;
        // Followed to the last run of the chain.
        let follow = WorkflowGetResultOptions::default();
        assert_eq!(run.get_result(follow).await?, "lift-off");
        let last = run.describe(Default::default()).await?;
        assert_eq!(last.workflow_type(), "Countdown");
        assert_eq!(last.task_queue(), case.queue);
        let first = run.fetch_history(Default::default()).into_events().await?;
        assert_eq!(
            kinds(&first).last(),
            Some(&EventType::WorkflowExecutionContinuedAsNew)
        );
        Ok(())
    })
    .await
}
