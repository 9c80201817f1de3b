//! The workflows and activities of the tests.

use std::time::Duration;

use temporalio_client::RetryPolicy;
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::{
    ActivityCancellationType, ActivityExecutionError, ActivityOptions, ApplicationFailure,
    ChildWorkflowOptions, ContinueAsNewOptions, LocalActivityOptions, SyncWorkflowContext,
    WorkflowCancellationToken, WorkflowContext, WorkflowContextView, WorkflowResult,
    WorkflowTermination,
    activities::{ActivityContext, ActivityError},
};

pub(crate) struct Activities;

#[activities]
impl Activities {
    #[activity]
    pub(crate) async fn greet(
        _ctx: ActivityContext,
        name: String,
    ) -> Result<String, ActivityError> {
        Ok(format!("Hello, {name}"))
    }

    /// Succeeds at the third attempt, and tells which it was.
    #[activity]
    pub(crate) async fn third_time_lucky(ctx: ActivityContext) -> Result<u32, ActivityError> {
        match ctx.info().attempt {
            attempt @ ..3 => {
                Err(ApplicationFailure::new(format!("attempt {attempt} fails")).into())
            }
            attempt => Ok(attempt),
        }
    }

    /// Works until cancelled, and says so.
    #[activity]
    pub(crate) async fn works_until_cancelled(
        ctx: ActivityContext,
    ) -> Result<String, ActivityError> {
        loop {
            if ctx.is_cancelled() {
                return Err(ActivityError::cancelled());
            }
            ctx.record_heartbeat(()).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn soon() -> ActivityOptions {
    ActivityOptions::start_to_close_timeout(Duration::from_secs(20))
}

fn quickly() -> RetryPolicy {
    RetryPolicy::builder()
        .initial_interval(Duration::from_millis(20))
        .maximum_attempts(5)
        .build()
}

#[workflow]
#[derive(Default)]
pub(crate) struct Greets;

#[workflow_methods]
impl Greets {
    #[run]
    pub(crate) async fn run(
        ctx: &mut WorkflowContext<Self>,
        name: String,
    ) -> WorkflowResult<String> {
        Ok(ctx
            .execute_activity(Activities::greet, name, soon())
            .await?)
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Retries;

#[workflow_methods]
impl Retries {
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<u32> {
        let options = ActivityOptions::with_start_to_close_timeout(Duration::from_secs(20))
            .retry_policy(quickly())
            .build();
        let attempt = ctx.execute_activity(Activities::third_time_lucky, (), options);
        Ok(attempt.await?)
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Timers;

#[workflow_methods]
impl Timers {
    /// One after the other; how many fired.
    #[run]
    pub(crate) async fn run(
        ctx: &mut WorkflowContext<Self>,
        millis: Vec<u64>,
    ) -> WorkflowResult<usize> {
        for ms in &millis {
            ctx.timer(Duration::from_millis(*ms)).await;
        }
        Ok(millis.len())
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Basket {
    items: Vec<String>,
    finished: bool,
}

#[workflow_methods]
impl Basket {
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<Vec<String>> {
        ctx.wait_condition(|s| s.finished).await?;
        Ok(ctx.state(|s| s.items.clone()))
    }

    #[signal]
    pub(crate) fn add(&mut self, _ctx: &mut SyncWorkflowContext<Self>, item: String) {
        self.items.push(item);
    }

    #[signal]
    pub(crate) fn finish(&mut self, _ctx: &mut SyncWorkflowContext<Self>) {
        self.finished = true;
    }

    #[query]
    pub(crate) fn items(&self, _ctx: &WorkflowContextView) -> Vec<String> {
        self.items.clone()
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Child;

#[workflow_methods]
impl Child {
    #[run]
    pub(crate) async fn run(
        _ctx: &mut WorkflowContext<Self>,
        name: String,
    ) -> WorkflowResult<String> {
        if name.is_empty() {
            return Err(ApplicationFailure::non_retryable("nobody to greet").into());
        }
        Ok(format!("Hello, {name}, from a child"))
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Parent;

#[workflow_methods]
impl Parent {
    /// What one child returned, and how the other failed.
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<(String, String)> {
        let own = ctx.workflow_id().to_owned();
        let good = ChildWorkflowOptions::workflow_id(format!("{own}-good"));
        let good = ctx.start_child_workflow(Child::run, "you".to_owned(), good);
        let good = good.await?.result().await?;
        let bad = ChildWorkflowOptions::workflow_id(format!("{own}-bad"));
        let bad = ctx.start_child_workflow(Child::run, String::new(), bad);
        let bad = match bad.await?.result().await {
            Ok(unexpected) => unexpected,
            Err(failure) => format!("{:?}", failure),
        };
        Ok((good, bad))
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Countdown;

#[workflow_methods]
impl Countdown {
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>, left: u32) -> WorkflowResult<String> {
        if left > 0 {
            ctx.continue_as_new(left - 1, ContinueAsNewOptions::default())?;
        }
        Ok("lift-off".to_owned())
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct CleansUp;

#[workflow_methods]
impl CleansUp {
    /// Its activity and itself are cancelled; an activity of its own cleans up before it ends so.
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        // The SDK sends a heartbeat every four fifths of this; the cancellation comes back with one.
        let long = ActivityOptions::with_start_to_close_timeout(Duration::from_secs(60))
            .heartbeat_timeout(Duration::from_secs(3))
            .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
            .build();
        let worked = ctx.execute_activity(Activities::works_until_cancelled, (), long);
        match worked.await {
            Err(ActivityExecutionError::Cancelled(_)) => {}
            Err(other) => return Err(other.into()),
            Ok(never) => return Ok(never),
        }
        let detached = ActivityOptions::with_start_to_close_timeout(Duration::from_secs(20))
            .cancellation_token(WorkflowCancellationToken::new())
            .build();
        ctx.execute_activity(Activities::greet, "cleaner".to_owned(), detached)
            .await?;
        Err(WorkflowTermination::cancelled())
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct Local;

#[workflow_methods]
impl Local {
    /// A local activity, once at once and once after retries on the worker.
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<(String, u32)> {
        let at_once = LocalActivityOptions::builder()
            .start_to_close_timeout(Duration::from_secs(10))
            .build();
        let greeting = ctx.execute_local_activity(Activities::greet, "local".to_owned(), at_once);
        let greeting = greeting.await?;
        let retried = LocalActivityOptions::builder()
            .start_to_close_timeout(Duration::from_secs(10))
            .retry_policy(quickly())
            .build();
        let attempt = ctx.execute_local_activity(Activities::third_time_lucky, (), retried);
        Ok((greeting, attempt.await?))
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct FailsTwice;

#[workflow_methods]
impl FailsTwice {
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<u32> {
        match ctx.info().attempt() {
            attempt @ ..3 => Err(ApplicationFailure::new(format!("run {attempt} fails")).into()),
            attempt => Ok(attempt),
        }
    }
}
