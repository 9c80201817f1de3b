//! Signals that are acknowledged while a worker holds the workflow task: they are buffered, and the switchover has
//! to bring them along.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use proto_messages::temporal::api::{
    history::v1::history_event::Attributes,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{PollWorkflowTaskQueueRequest, TerminateWorkflowExecutionRequest},
};
use scenarios_load::{
    client::{CALL_TIMEOUT, Client, Whose, execution},
    connect::timed,
    script::{Script, Step as ScriptStep},
};

use super::{Done, Hands};
use crate::{
    definition::{Span, SwitchoverStep},
    world::NAMESPACE,
};

/// No worker polls it.
const QUEUE: &str = "held-tasks";

/// How long a workflow task may take to come.
const POLL_MAX: Duration = Duration::from_secs(30);

/// (workflow id, run id).
type Run = (String, String);

impl Hands<'_> {
    /// Takes workflow tasks and keeps them, signals their workflows, and has the active cluster killed as soon as the
    /// switchover is done: every acknowledged signal has to be at the target then.
    pub(super) async fn buffered_signals(
        &mut self,
        (to, kill): (&str, &str),
        max_pause: Span,
        workflows: usize,
        signals: usize,
    ) -> anyhow::Result<Done> {
        let connections = self.world.cluster(kill)?.connections();
        let client = Client::new(connections, NAMESPACE, QUEUE);
        let runs = self.keep_tasks(&client, workflows).await?;
        let mut acknowledged = BTreeSet::new();
        for (id, _) in &runs {
            for n in 0..signals {
                let name = format!("buffered-{n}");
                client.signal(id, &name, &name).await?;
                acknowledged.insert((id.clone(), name));
            }
        }
        let done = self
            .interrupt(to, max_pause, kill, SwitchoverStep::Done)
            .await?;
        let Done::Expected(true, said) = done else {
            return Ok(done);
        };
        if !said.contains(&format!("{to} is active")) {
            return Ok(Done::Expected(false, said));
        }
        let target = self.world.cluster(to)?.connections();
        let target = Client::new(target, NAMESPACE, QUEUE);
        for (id, run) in &runs {
            let history = target.history(id, run, Whose::Own).await;
            let history = history.with_context(|| format!("read {id} on {to}"))?;
            for event in history {
                if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) =
                    event.attributes
                {
                    acknowledged.remove(&(id.clone(), a.signal_name));
                }
            }
        }
        end(&target, &runs).await?;
        let all = workflows * signals;
        let text = match acknowledged.len() {
            0 => format!("{to} has all {all} signals that {kill} had acknowledged and buffered"),
            missing => format!("{to} lacks {missing} of {all} acknowledged signals"),
        };
        Ok(Done::Expected(
            acknowledged.is_empty(),
            format!("{said}\n{text}"),
        ))
    }

    /// Starts workflows and takes their first workflow tasks, for good.
    async fn keep_tasks(&self, client: &Client, workflows: usize) -> anyhow::Result<Vec<Run>> {
        let input = Script {
            steps: vec![ScriptStep::Signals(1)],
            ..Default::default()
        }
        .input(0);
        let mut runs = Vec::new();
        for n in 0..workflows {
            let id = format!("held-{}-{n}", self.timeline.clock().now_ms());
            let run = client.start(&id, &id, &input).await;
            let run = run.with_context(|| format!("start {id}"))?;
            runs.push((id, run));
        }
        for _ in 0..workflows {
            let poll = PollWorkflowTaskQueueRequest {
                namespace: NAMESPACE.to_owned(),
                task_queue: Some(TaskQueue {
                    name: QUEUE.to_owned(),
                    ..Default::default()
                }),
                identity: "keeps-its-tasks".to_owned(),
                ..Default::default()
            };
            let mut api = client.connections().api();
            let polled = api.poll_workflow_task_queue(timed(poll, POLL_MAX)).await;
            let task = polled.context("poll a workflow task")?.into_inner();
            anyhow::ensure!(!task.task_token.is_empty(), "no workflow task came");
        }
        Ok(runs)
    }
}

/// Ends workflows without a worker: they must not look like ones that are stuck.
async fn end(client: &Client, runs: &[Run]) -> anyhow::Result<()> {
    for (id, run) in runs {
        let request = TerminateWorkflowExecutionRequest {
            namespace: NAMESPACE.to_owned(),
            workflow_execution: Some(execution(id, run)),
            reason: "the drill has seen what it wanted".to_owned(),
            ..Default::default()
        };
        let mut api = client.connections().api();
        let ended = api.terminate_workflow_execution(timed(request, CALL_TIMEOUT));
        ended.await.with_context(|| format!("terminate {id}"))?;
    }
    Ok(())
}
