//! Many runs at once, with workers that keep their caches, activities, signals and timers: all of them
//! finish, and each history is whole.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto_messages::{
    temporal::api::{
        command::v1::{
            Command, ScheduleActivityTaskCommandAttributes, StartTimerCommandAttributes,
            command::Attributes,
        },
        common::v1::ActivityType,
        enums::v1::{CommandType, EventType as E, WorkflowExecutionStatus},
        workflowservice::v1 as api,
    },
    time::duration_to_proto,
};

use crate::world::*;

const RUNS: usize = 200;
const ACTIVITIES: usize = 3;

fn activity(id: usize) -> Command {
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.to_string(),
        activity_type: Some(ActivityType { name: "act".into() }),
        task_queue: Some(queue(QUEUE)),
        start_to_close_timeout: Some(duration_to_proto(Duration::from_secs(10))),
        ..Default::default()
    };
    let attributes = Attributes::ScheduleActivityTaskCommandAttributes(attributes);
    command(CommandType::ScheduleActivityTask, attributes)
}

fn timer() -> Command {
    let attributes = StartTimerCommandAttributes {
        timer_id: "t".into(),
        start_to_fire_timeout: Some(duration_to_proto(Duration::from_millis(30))),
    };
    command(
        CommandType::StartTimer,
        Attributes::StartTimerCommandAttributes(attributes),
    )
}

/// What a worker remembers of a run: everything, since sticky tasks bring only what is new.
type Cache = HashMap<String, Vec<E>>;

fn answer(cache: &mut Cache, task: &api::PollWorkflowTaskQueueResponse) -> Vec<Command> {
    let run = task.workflow_execution.as_ref().unwrap().run_id.clone();
    let seen = cache.entry(run).or_default();
    let events = &task.history.as_ref().unwrap().events;
    if events[0].event_id == 1 {
        seen.clear();
    }
    assert_eq!(
        events[0].event_id as usize,
        seen.len() + 1,
        "no gap to what the worker knows"
    );
    seen.extend(events.iter().map(|e| e.event_type()));
    let count = |kind| seen.iter().filter(|e| **e == kind).count();
    if count(E::WorkflowTaskCompleted) == 0 {
        return (0..ACTIVITIES).map(activity).chain([timer()]).collect();
    }
    let done = count(E::ActivityTaskCompleted) == ACTIVITIES
        && count(E::TimerFired) == 1
        && count(E::WorkflowExecutionSignaled) == 1;
    if done {
        complete_workflow("")
    } else {
        Vec::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_many_runs_finishes() {
    let world = Arc::new(World::new().await);
    let finished = Arc::new(AtomicUsize::new(0));
    let cache = Arc::new(parking_lot::Mutex::new(Cache::default()));
    for n in 0..24 {
        let (world, finished, cache) = (world.clone(), finished.clone(), cache.clone());
        tokio::spawn(async move {
            loop {
                if n % 3 == 0 {
                    let task = world.poll_activity().await;
                    world.complete_activity(task.task_token, "").await.unwrap();
                    continue;
                }
                let task = if n % 3 == 1 {
                    world.poll().await
                } else {
                    world.poll_sticky().await
                };
                let commands = answer(&mut cache.lock(), &task);
                let closes = commands.len() == 1;
                let mut request = completion(&task, commands);
                request.sticky_attributes = keep_cache();
                match world.complete_with(request).await {
                    Ok(_) if closes => _ = finished.fetch_add(1, Ordering::SeqCst),
                    Ok(_) => {}
                    // A signal came meanwhile: the task comes again, and with it what was not taken.
                    Err(refused) => assert_eq!(refused.message(), "UnhandledCommand"),
                }
            }
        });
    }
    let starts = (0..RUNS).map(|n| {
        let world = world.clone();
        async move {
            let id = format!("crowd-{n}");
            world.start(&id).await;
            world.signal(&id, "s").await.unwrap();
        }
    });
    futures::future::join_all(starts).await;
    let begun = Instant::now();
    while finished.load(Ordering::SeqCst) < RUNS {
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{} finished",
            finished.load(Ordering::SeqCst)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..RUNS {
        let id = format!("crowd-{n}");
        let info = world
            .describe(&id)
            .await
            .unwrap()
            .workflow_execution_info
            .unwrap();
        assert_eq!(info.status(), WorkflowExecutionStatus::Completed);
        kinds(&world.events(&id, "").await);
    }
    eprintln!("took {:?}", begun.elapsed());
}
