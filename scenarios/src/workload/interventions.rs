//! Interventions of operators on single workflows: cancel, terminate, reset. Each gets a workflow of its own
//! that waits for a signal; those that are still open afterwards get it.

use std::{sync::Arc, time::Duration};

use proto_messages::temporal::api::history::v1::history_event::Attributes;
use scenarios_load::{
    client::Whose,
    script::{Script, Step},
};
use tokio::task::JoinSet;

use super::clients::{FINISH, Traffic};
use crate::oracle::Op;

/// How often a history is asked for the first answered workflow task, from which a reset goes on.
const LOOKS: usize = 50;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One intervention after the other, on schedule, until it is stopped.
pub(super) async fn run(traffic: Arc<Traffic>, n: usize, home: usize) {
    if traffic.interventions_per_second <= 0.0 {
        return;
    }
    let gap = Duration::from_secs_f64(1.0 / traffic.interventions_per_second);
    let mut every = tokio::time::interval(gap);
    let mut open = JoinSet::new();
    for k in 0u64.. {
        if traffic
            .stop
            .run_until_cancelled(every.tick())
            .await
            .is_none()
        {
            break;
        }
        let id = format!("operated-{n}-{k}");
        let traffic = traffic.clone();
        open.spawn(async move {
            match k % 3 {
                0 => terminate(&traffic, home, &id).await,
                1 => cancel(&traffic, home, &id).await,
                _ => reset(&traffic, home, &id).await,
            }
        });
        while open.try_join_next().is_some() {}
    }
    while open.join_next().await.is_some() {}
}

async fn begin(traffic: &Traffic, home: usize, id: &str) -> Option<String> {
    let script = Script {
        steps: vec![Step::Until(FINISH.to_owned())],
        ..Default::default()
    };
    traffic.start(home, id, &script.input(0)).await
}

async fn terminate(traffic: &Traffic, home: usize, id: &str) {
    if begin(traffic, home, id).await.is_none() {
        return;
    }
    let op = Op::Terminate {
        reason: format!("terminated-{id}"),
    };
    traffic.repeat(home, id, &op).await;
}

/// The script takes no notice of a request to cancel, so the workflow is finished afterwards.
async fn cancel(traffic: &Traffic, home: usize, id: &str) {
    if begin(traffic, home, id).await.is_none() {
        return;
    }
    let op = Op::Cancel {
        reason: format!("cancelled-{id}"),
    };
    traffic.repeat(home, id, &op).await;
    traffic.signal(home, id, FINISH).await;
}

/// One attempt: a reset that was not acknowledged promised nothing.
async fn reset(traffic: &Traffic, home: usize, id: &str) {
    let Some(run) = begin(traffic, home, id).await else {
        return;
    };
    let side = &traffic.sides[home];
    if let Some(answered) = first_answer(traffic, home, id, &run).await {
        let begun = std::time::Instant::now();
        let outcome = side
            .client
            .reset(id, &run, answered, &format!("reset-{id}"))
            .await;
        let op = Op::Reset {
            new_run_id: outcome.as_deref().unwrap_or_default().to_owned(),
        };
        let known = outcome.as_ref().map(drop);
        traffic
            .oracle
            .record(&side.cluster, op, id, &run, begun.elapsed(), known);
    }
    traffic.signal(home, id, FINISH).await;
}

/// The event that ends the run's first workflow task.
async fn first_answer(traffic: &Traffic, home: usize, id: &str, run: &str) -> Option<i64> {
    for _ in 0..LOOKS {
        let read = traffic.sides[home]
            .client
            .history(id, run, Whose::Any)
            .await;
        let answered = read.ok()?.into_iter().find(|event| {
            matches!(
                event.attributes,
                Some(Attributes::WorkflowTaskCompletedEventAttributes(_))
            )
        });
        if let Some(answered) = answered {
            return Some(answered.event_id);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}
