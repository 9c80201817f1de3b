//! Sequences that are easy to get wrong, each spelled out.

use cluster_core::request::Fire;

use crate::script::{Run, activity, finish, schedule, timer};

#[test]
fn one_activity_and_a_timer() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a")), timer("t", 60)]);
    run.start_activity().seconds(1).complete_activity();
    run.poll().complete(vec![]);
    run.seconds(60).fire(Fire::UserTimers);
    run.poll().complete(vec![finish()]);
    assert_eq!(
        run.names_from(1),
        [
            "WorkflowExecutionStarted",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "ActivityTaskScheduled",
            "TimerStarted",
            "ActivityTaskStarted",
            "ActivityTaskCompleted",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "TimerFired",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "WorkflowExecutionCompleted",
        ]
    );
}

#[test]
fn signals_wait_for_the_task_in_flight() {
    let mut run = Run::new();
    run.poll().signal("one").signal("two");
    assert_eq!(run.wf.buffered.len(), 2);
    run.complete(vec![timer("t", 60)]);
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskCompleted",
            "TimerStarted",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled",
        ]
    );
}
