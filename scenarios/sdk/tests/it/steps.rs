//! The steps of one run: activities, timers, local activities, retries.

use std::time::{Duration, Instant};

use temporalio_client::WorkflowStartOptions;
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::{
    harness::{kinds, with_worker},
    workflows as w,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_returns_to_its_workflow() -> anyhow::Result<()> {
    with_worker("activity", async |case| {
        let greets = case.start("greets");
        let run = case
            .client
            .start_workflow(w::Greets::run, "Rust".to_owned(), greets)
            .await?;
        assert_eq!(run.get_result(Default::default()).await?, "Hello, Rust");
        let history = run.fetch_history(Default::default()).into_events().await?;
        assert_eq!(
            kinds(&history),
            [
                EventType::WorkflowExecutionStarted,
                EventType::WorkflowTaskScheduled,
                EventType::WorkflowTaskStarted,
                EventType::WorkflowTaskCompleted,
                EventType::ActivityTaskScheduled,
                EventType::ActivityTaskStarted,
                EventType::ActivityTaskCompleted,
                EventType::WorkflowTaskScheduled,
                EventType::WorkflowTaskStarted,
                EventType::WorkflowTaskCompleted,
                EventType::WorkflowExecutionCompleted,
            ]
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activities_and_workflows_are_retried() -> anyhow::Result<()> {
    with_worker("retry", async |case| {
        let retries = case.start("retries");
        let run = case
            .client
            .start_workflow(w::Retries::run, (), retries)
            .await?;
        assert_eq!(run.get_result(Default::default()).await?, 3);

        let policy = temporalio_client::RetryPolicy::builder()
            .initial_interval(Duration::from_millis(20))
            .maximum_attempts(4)
            .build();
        let fails = WorkflowStartOptions::new(case.queue.clone(), case.id("fails-twice"))
            .retry_policy(policy)
            .build();
        let run = case
            .client
            .start_workflow(w::FailsTwice::run, (), fails)
            .await?;
        assert_eq!(run.get_result(Default::default()).await?, 3);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_fire_in_order_and_never_early() -> anyhow::Result<()> {
    with_worker("timers", async |case| {
        let timers = case.start("timers");
        let begun = Instant::now();
        let run = case
            .client
            .start_workflow(w::Timers::run, vec![150, 10, 250], timers)
            .await?;
        assert_eq!(run.get_result(Default::default()).await?, 3);
        assert!(begun.elapsed() >= Duration::from_millis(410), "early");
        let history = run.fetch_history(Default::default()).into_events().await?;
        let fired = kinds(&history)
            .iter()
            .filter(|k| **k == EventType::TimerFired)
            .count();
        assert_eq!(fired, 3);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_activities_leave_markers_only() -> anyhow::Result<()> {
    with_worker("local", async |case| {
        let local = case.start("local");
        let run = case.client.start_workflow(w::Local::run, (), local).await?;
        let result = run.get_result(Default::default()).await?;
        assert_eq!(result, ("Hello, local".to_owned(), 3));
        let history = run.fetch_history(Default::default()).into_events().await?;
        let kinds = kinds(&history);
        let markers = kinds.iter().filter(|k| **k == EventType::MarkerRecorded);
        assert_eq!(markers.count(), 2);
        assert!(!kinds.contains(&EventType::ActivityTaskScheduled));
        Ok(())
    })
    .await
}
