//! What reaches a running workflow from outside: signals, queries, cancellation, a second start.

use temporalio_client::{
    WorkflowCancelOptions,
    errors::{WorkflowGetResultError, WorkflowInteractionError, WorkflowStartError},
};
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::{
    harness::{kinds, with_worker},
    workflows as w,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_change_what_queries_tell() -> anyhow::Result<()> {
    with_worker("messages", async |case| {
        let basket = case.start("basket");
        let run = case
            .client
            .start_workflow(w::Basket::run, (), basket)
            .await?;
        for item in ["bread", "salt"] {
            run.signal(w::Basket::add, item.to_owned(), Default::default())
                .await?;
        }
        let items = run.query(w::Basket::items, (), Default::default()).await?;
        assert_eq!(items, ["bread", "salt"]);
        run.signal(w::Basket::finish, (), Default::default())
            .await?;
        let result = run.get_result(Default::default()).await?;
        assert_eq!(result, ["bread", "salt"]);
        let items = run.query(w::Basket::items, (), Default::default()).await?;
        assert_eq!(items, ["bread", "salt"], "a closed run answers queries");
        let late = run
            .signal(w::Basket::add, "late".to_owned(), Default::default())
            .await;
        assert!(
            matches!(late, Err(WorkflowInteractionError::NotFound(_))),
            "{late:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signal_with_start_starts_once() -> anyhow::Result<()> {
    with_worker("signal-with-start", async |case| {
        let options = case.start("basket");
        let mut runs = Vec::new();
        for item in ["first", "second"] {
            let run = case
                .client
                .signal_with_start_workflow(
                    w::Basket::run,
                    (),
                    w::Basket::add,
                    item.to_owned(),
                    options.clone(),
                )
                .await?;
            runs.push(run);
        }
        assert_eq!(runs[0].run_id(), runs[1].run_id());
        runs[0]
            .signal(w::Basket::finish, (), Default::default())
            .await?;
        let result = runs[0].get_result(Default::default()).await?;
        assert_eq!(result, ["first", "second"]);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_is_told_of_the_first() -> anyhow::Result<()> {
    with_worker("second-start", async |case| {
        let options = case.start("basket");
        let run = case
            .client
            .start_workflow(w::Basket::run, (), options.clone())
            .await?;
        let again = case
            .client
            .start_workflow(w::Basket::run, (), options)
            .await;
        let Err(WorkflowStartError::AlreadyStarted { run_id, .. }) = again else {
            anyhow::bail!("a second run was started");
        };
        assert_eq!(run_id.as_deref(), run.run_id());
        run.terminate(Default::default()).await?;
        let ended = run.get_result(Default::default()).await;
        assert!(
            matches!(ended, Err(WorkflowGetResultError::Terminated { .. })),
            "{ended:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellation_reaches_activities_and_lets_workflows_clean_up() -> anyhow::Result<()> {
    with_worker("cancel", async |case| {
        let options = case.start("cleans-up");
        let run = case
            .client
            .start_workflow(w::CleansUp::run, (), options)
            .await?;
        // The activity has to be at work: one that never started is cancelled by the server alone.
        loop {
            let described = run.describe(Default::default()).await?;
            let pending = &described.raw().pending_activities;
            if pending.iter().any(|a| a.last_started_time.is_some()) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        run.cancel(WorkflowCancelOptions::builder().reason("enough").build())
            .await?;
        let ended = run.get_result(Default::default()).await;
        assert!(
            matches!(ended, Err(WorkflowGetResultError::Cancelled { .. })),
            "{ended:?}"
        );
        let history = run.fetch_history(Default::default()).into_events().await?;
        let kinds = kinds(&history);
        for expected in [
            EventType::WorkflowExecutionCancelRequested,
            EventType::ActivityTaskCancelRequested,
            EventType::ActivityTaskCanceled,
            EventType::ActivityTaskCompleted,
        ] {
            assert!(kinds.contains(&expected), "{expected:?} missing: {kinds:?}");
        }
        assert_eq!(kinds.last(), Some(&EventType::WorkflowExecutionCanceled));
        Ok(())
    })
    .await
}
