//! What a standby takes over of an activity in flight, and what it arms for it.

use std::collections::BTreeMap;

use cluster_core::{
    EventBatch, MutableState, Request, Task, TaskKind, mutable_state::ActivityInfo,
    request::ActivityRef,
};
use proto_ids::{EventId, Timestamp};
use proto_messages::temporal::api::{
    enums::v1::EventType,
    history::v1::{HistoryEvent, history_event::Attributes},
};

use crate::script::*;

/// A run with an activity that heartbeats.
fn with_activity() -> (Run, EventId) {
    let mut run = Run::new();
    run.poll().complete(vec![schedule(activity("a"))]);
    let scheduled = run
        .events()
        .find(|e| e.event_type() == EventType::ActivityTaskScheduled)
        .map(|e| EventId::new(e.event_id));
    (run, scheduled.expect("it is scheduled"))
}

/// Timers armed by a state that came, by what they are for.
fn armed(ms: &mut MutableState, state: ActivityInfo, run: &Run) -> BTreeMap<String, usize> {
    let mut armed = BTreeMap::new();
    let applied = ms.sync_activity(state, &run.limits).expect("it is newer");
    for task in applied.tasks {
        if let TaskKind::ActivityTimeout { timeout, .. } = task.kind {
            *armed.entry(format!("{timeout:?}")).or_default() += 1;
        }
    }
    armed
}

#[test]
fn heartbeats_that_come_over_arm_no_more_timers_than_one_attempt_has() {
    let (run, scheduled) = with_activity();
    let mut ms = run.ms.clone();
    let mut state = ms.activities[&scheduled].clone();
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |armed: BTreeMap<String, usize>| {
        for (timeout, count) in armed {
            *all.entry(timeout).or_default() += count;
        }
    };
    state.started_time = run.now;
    add(armed(&mut ms, state.clone(), &run));
    for second in 1..1_000 {
        let later = std::time::Duration::from_secs(second);
        state.last_heartbeat_time = run.now.plus(later);
        add(armed(&mut ms, state.clone(), &run));
    }
    assert!(all.values().all(|count| *count == 1), "{all:?}");
    assert_eq!(all.get("Heartbeat"), Some(&1));

    // The next attempt has timers of its own.
    state.attempt += 1;
    state.last_heartbeat_time = Default::default();
    state.attempt_scheduled_time = run.now;
    state.started_time = Default::default();
    armed(&mut ms, state.clone(), &run);
    state.started_time = run.now;
    assert_eq!(armed(&mut ms, state, &run).get("Heartbeat"), Some(&1));
}

#[test]
fn a_heartbeat_after_the_clock_went_back_is_the_later_one() {
    let (mut run, scheduled) = with_activity();
    let take = Request::StartActivity {
        scheduled_event_id: scheduled,
        attempt: 1,
        request_id: "t".into(),
        identity: "w".into(),
    };
    run.ask(take).expect("is taken");
    let mut elsewhere = run.ms.clone();
    for step in [3_i64, -2, -2] {
        run.now = Timestamp::from_nanos(run.now.nanos() + step * 1_000_000_000);
        let heartbeat = Request::Heartbeat {
            activity: ActivityRef::Token {
                scheduled_event_id: scheduled,
                attempt: 1,
            },
            details: payloads(&step.to_string()),
            identity: "w".into(),
        };
        run.ask(heartbeat).expect("is heard");
        let state = run.ms.activities[&scheduled].clone();
        assert!(elsewhere.sync_activity(state, &run.limits).is_some());
    }
    let details = |ms: &MutableState| ms.activities[&scheduled].heartbeat_details.clone();
    assert_eq!(details(&elsewhere), details(&run.ms));
}

#[test]
fn a_zombie_run_that_ends_has_only_its_record_and_its_removal_pending() {
    let run = Run::new();
    let mut ms = run.ms.clone();
    ms.execution_info.zombie = true;
    let attributes = Attributes::WorkflowExecutionTerminatedEventAttributes(Default::default());
    let batch = EventBatch {
        events: vec![HistoryEvent {
            event_id: ms.execution_info.next_event_id.get(),
            version: 1,
            event_type: EventType::WorkflowExecutionTerminated.into(),
            attributes: Some(attributes),
            ..Default::default()
        }],
    };
    let applied = ms.apply(&batch, &run.limits).expect("it applies");
    let kinds = |tasks: &[Task]| -> Vec<TaskKind> {
        let kinds = tasks.iter().map(|task| task.kind.clone());
        kinds.collect()
    };
    assert_eq!(
        kinds(&applied.tasks),
        [TaskKind::Visibility, TaskKind::Retention]
    );
    assert_eq!(kinds(&ms.pending_tasks(&run.limits)), [TaskKind::Retention]);
}

#[test]
fn a_batch_that_schedules_a_workflow_task_for_a_closed_run_is_refused() {
    let mut run = Run::new();
    run.poll().complete(vec![finish()]);
    let mut ms = run.ms.clone();
    assert_eq!(ms.broken_invariant(), None);
    let attributes = Attributes::WorkflowTaskScheduledEventAttributes(Default::default());
    let batch = EventBatch {
        events: vec![HistoryEvent {
            event_id: ms.execution_info.next_event_id.get(),
            version: ms.last_version().get(),
            event_type: EventType::WorkflowTaskScheduled.into(),
            attributes: Some(attributes),
            ..Default::default()
        }],
    };
    let refused = ms.apply(&batch, &run.limits).expect_err("it is refused");
    assert!(
        refused.reason.contains("a closed run has no workflow task"),
        "{refused}"
    );
}
