//! Activities that report their progress and then fall silent: the next attempt has to be told of the progress that was
//! acknowledged, whatever was killed meanwhile. Each takes one workflow through, on a task queue of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proto_messages::{
    temporal::api::{
        command::v1::{
            Command, CompleteWorkflowExecutionCommandAttributes,
            ScheduleActivityTaskCommandAttributes, command::Attributes as Of,
        },
        common::v1::{ActivityType, Payload, Payloads},
        enums::v1::CommandType,
        taskqueue::v1::TaskQueue,
        workflowservice::v1::{
            PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
            PollWorkflowTaskQueueRequest, RecordActivityTaskHeartbeatRequest,
            RespondActivityTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
        },
    },
    time::duration_to_proto,
};
use scenarios_load::{
    client::Client,
    connect::timed,
    script::{ACTIVITY_TYPE, Script},
};
use tonic::{Code, Status};

use super::{Side, clients::Traffic};
use crate::{oracle::Op, world::NAMESPACE};

/// Workflows at once, of each client.
pub(super) const AT_ONCE: usize = 6;

/// Attempts of each activity; the last one completes it.
const ATTEMPTS: i32 = 3;

/// Reports of each attempt.
const REPORTS: usize = 5;

/// Pause between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Silence after which an attempt has failed.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a call may take.
const CALL: Duration = Duration::from_secs(5);

/// How long a poll waits.
const POLL: Duration = Duration::from_secs(10);

/// How long one workflow may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pause after a failed call.
const AGAIN: Duration = Duration::from_millis(200);

/// The one activity of a workflow.
const ACTIVITY: &str = "beats";

/// One workflow after the other until told to stop.
pub(super) async fn run(traffic: Arc<Traffic>, n: usize, home: usize) {
    for k in 0u64.. {
        if traffic.stop.is_cancelled() {
            return;
        }
        let id = format!("heartbeat-{n}-{k}");
        let beats = Beats {
            client: Client::new(
                traffic.sides[home].client.connections().clone(),
                NAMESPACE,
                &id,
            ),
            traffic: &traffic,
            home,
            id: &id,
        };
        if tokio::time::timeout(PATIENCE, beats.through())
            .await
            .is_err()
        {
            tracing::warn!(workflow_id = id, "a workflow with heartbeats does not end");
        }
    }
}

/// One workflow, whose task queue has its name.
struct Beats<'a> {
    client: Client,
    traffic: &'a Traffic,
    home: usize,
    id: &'a str,
}

impl Beats<'_> {
    async fn through(&self) {
        let on_queue =
            |side: &Side| Client::new(side.client.connections().clone(), NAMESPACE, self.id);
        let input = Script::default().input(0);
        let started = self.traffic.start_by(self.home, self.id, &input, on_queue);
        if started.await.is_none() {
            return;
        }
        self.answer_task(schedule(self.id)).await;
        let mut reported = 0;
        while !self.attempt(&mut reported).await {}
        self.answer_task(complete()).await;
    }

    /// Answers the next workflow task, again and again until an answer is acknowledged.
    async fn answer_task(&self, command: Command) {
        loop {
            match self.try_answer(&command).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn try_answer(&self, command: &Command) -> Result<bool, Status> {
        let poll = PollWorkflowTaskQueueRequest {
            namespace: NAMESPACE.to_owned(),
            task_queue: Some(queue(self.id)),
            identity: "beats".to_owned(),
            ..Default::default()
        };
        let mut api = self.client.connections().api();
        let polled = api.poll_workflow_task_queue(timed(poll, POLL)).await?;
        let task = polled.into_inner();
        if task.task_token.is_empty() {
            return Ok(false);
        }
        let answer = RespondWorkflowTaskCompletedRequest {
            namespace: NAMESPACE.to_owned(),
            task_token: task.task_token,
            commands: vec![command.clone()],
            identity: "beats".to_owned(),
            ..Default::default()
        };
        let answered = api.respond_workflow_task_completed(timed(answer, CALL));
        answered.await.map(|_| true)
    }

    /// Takes the next attempt, reports, and falls silent or completes it. Whether it is completed.
    async fn attempt(&self, reported: &mut u64) -> bool {
        let poll = PollActivityTaskQueueRequest {
            namespace: NAMESPACE.to_owned(),
            task_queue: Some(queue(self.id)),
            identity: "beats".to_owned(),
            ..Default::default()
        };
        let mut api = self.client.connections().api();
        let task = match api.poll_activity_task_queue(timed(poll, POLL)).await {
            Ok(polled) => polled.into_inner(),
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                return false;
            }
        };
        if task.task_token.is_empty() {
            return false;
        }
        let run = task.workflow_execution.clone().unwrap_or_default().run_id;
        let found = Op::Attempt {
            found: found_in(&task),
        };
        self.record(&run, found, Duration::ZERO, Ok(()));
        for _ in 0..REPORTS {
            *reported += 1;
            let report = RecordActivityTaskHeartbeatRequest {
                namespace: NAMESPACE.to_owned(),
                task_token: task.task_token.clone(),
                details: Some(number(*reported)),
                identity: "beats".to_owned(),
                ..Default::default()
            };
            let begun = Instant::now();
            let told = api
                .record_activity_task_heartbeat(timed(report, CALL))
                .await;
            let op = Op::Heartbeat { number: *reported };
            self.record(&run, op, begun.elapsed(), told.as_ref().map(drop));
            if told.is_err_and(|status| status.code() == Code::NotFound) {
                // It has taken too long, and the next attempt is due.
                return false;
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
        if task.attempt < ATTEMPTS {
            return false;
        }
        let done = RespondActivityTaskCompletedRequest {
            namespace: NAMESPACE.to_owned(),
            task_token: task.task_token,
            identity: "beats".to_owned(),
            ..Default::default()
        };
        let begun = Instant::now();
        let ended = api.respond_activity_task_completed(timed(done, CALL)).await;
        let op = Op::Activity {
            activity_id: ACTIVITY.to_owned(),
        };
        self.record(&run, op, begun.elapsed(), ended.as_ref().map(drop));
        ended.is_ok()
    }

    fn record(&self, run: &str, op: Op, took: Duration, outcome: Result<(), &Status>) {
        let cluster = &self.traffic.sides[self.home].cluster;
        let oracle = &self.traffic.oracle;
        oracle.record(cluster, op, self.id, run, took, outcome);
    }
}

fn queue(name: &str) -> TaskQueue {
    TaskQueue {
        name: name.to_owned(),
        ..Default::default()
    }
}

fn number(n: u64) -> Payloads {
    Payloads {
        payloads: vec![Payload {
            data: n.to_string().into(),
            ..Default::default()
        }],
    }
}

/// The number that an attempt was told; 0 when it was told none.
fn found_in(task: &PollActivityTaskQueueResponse) -> u64 {
    let details = task.heartbeat_details.as_ref();
    let first = details.and_then(|details| details.payloads.first());
    let text = first.and_then(|payload| std::str::from_utf8(&payload.data).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn schedule(queue_name: &str) -> Command {
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: ACTIVITY.to_owned(),
        activity_type: Some(ActivityType {
            name: ACTIVITY_TYPE.to_owned(),
        }),
        task_queue: Some(queue(queue_name)),
        start_to_close_timeout: Some(duration_to_proto(PATIENCE)),
        heartbeat_timeout: Some(duration_to_proto(SILENCE_MAX)),
        ..Default::default()
    };
    Command {
        command_type: CommandType::ScheduleActivityTask as i32,
        attributes: Some(Of::ScheduleActivityTaskCommandAttributes(attributes)),
        ..Default::default()
    }
}

fn complete() -> Command {
    let attributes = CompleteWorkflowExecutionCommandAttributes::default();
    Command {
        command_type: CommandType::CompleteWorkflowExecution as i32,
        attributes: Some(Of::CompleteWorkflowExecutionCommandAttributes(attributes)),
        ..Default::default()
    }
}
