//! The workers: the built-in one on each side, or a program the drill names, started once per side with
//! its address in the environment.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::Context;
use scenarios_load::worker::{Worker, WorkerEvent, WorkerObserver, WorkerOptions};
use tokio::process::{Child, Command};

use super::QUEUE;
use crate::{
    definition::Drill,
    oracle::{Op, Oracle},
    world::{Cluster, NAMESPACE, World},
};

/// How long a worker program may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The workers of all sides.
pub(crate) struct Workers {
    built_in: Vec<Worker>,
    programs: Vec<Child>,
}

impl Workers {
    pub(super) fn start(drill: &Drill, world: &World, oracle: &Oracle) -> anyhow::Result<Self> {
        let mut workers = Self {
            built_in: Vec::new(),
            programs: Vec::new(),
        };
        for name in drill.worker_sides() {
            let cluster = world.cluster(name)?;
            if let Some((program, arguments)) = drill.workload.worker_command.split_first() {
                let child = program_command(program, arguments, cluster, world)
                    .spawn()
                    .with_context(|| format!("start the worker program {program}"))?;
                workers.programs.push(child);
            } else {
                let observer = Observer {
                    cluster: name.clone(),
                    oracle: oracle.clone(),
                };
                let options = WorkerOptions {
                    workflow_pollers: drill.workload.workflow_pollers,
                    activity_pollers: drill.workload.activity_pollers,
                    ..WorkerOptions::new(NAMESPACE, QUEUE, &format!("drill-worker-{name}"))
                };
                workers.built_in.push(Worker::start(
                    cluster.connections(),
                    options,
                    Arc::new(observer),
                ));
            }
        }
        Ok(workers)
    }

    pub(super) async fn stop(self) {
        for worker in self.built_in {
            worker.stop().await;
        }
        for mut child in self.programs {
            let _ = child.start_kill();
            let _ = tokio::time::timeout(DRAIN, child.wait()).await;
        }
    }
}

/// The program gets everything it needs from its environment: it must serve workflows of type
/// `meridian.load.script`, whose input is a script in JSON, and activities of `meridian.load.activity`.
fn program_command(
    program: &str,
    arguments: &[String],
    cluster: &Cluster,
    world: &World,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .env("TEMPORAL_ADDRESS", cluster.frontend().to_string())
        .env("TEMPORAL_NAMESPACE", NAMESPACE)
        .env("DRILL_TASK_QUEUE", QUEUE)
        .env("DRILL_CLUSTER", &cluster.name);
    if let Some(tls) = world.certificates.as_ref().map(|c| c.client()) {
        let files = [
            ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", tls.ca),
            ("TEMPORAL_TLS_CLIENT_CERT_PATH", tls.cert),
            ("TEMPORAL_TLS_CLIENT_KEY_PATH", tls.key),
        ];
        for (name, path) in files {
            if let Some(path) = path {
                command.env(name, path);
            }
        }
        command.env(
            "TEMPORAL_TLS_SERVER_NAME",
            tls.server_name.unwrap_or_default(),
        );
    }
    command
}

/// Tells the oracle what a side's worker was promised.
struct Observer {
    cluster: String,
    oracle: Oracle,
}

impl WorkerObserver for Observer {
    fn observe(&self, event: WorkerEvent<'_>) {
        match event {
            WorkerEvent::WorkflowTaskAnswered {
                workflow_id,
                run_id,
                started_event_id,
                closing,
                took,
                outcome,
            } => {
                let op = Op::WorkflowTask {
                    started_event_id,
                    closing,
                };
                self.oracle
                    .record(&self.cluster, op, workflow_id, run_id, took, outcome);
            }
            WorkerEvent::ActivityAnswered {
                workflow_id,
                run_id,
                activity_id,
                took,
                outcome,
            } => {
                let op = Op::Activity {
                    activity_id: activity_id.to_owned(),
                };
                self.oracle
                    .record(&self.cluster, op, workflow_id, run_id, took, outcome);
            }
            WorkerEvent::FirstTask { .. }
            | WorkerEvent::TimerFired(_)
            | WorkerEvent::PollFailed(_) => {}
        }
    }
}
