//! Whatever is written can be read, by this version and by later ones.

use std::{collections::BTreeSet, time::Duration};

use cluster_core::{
    BranchToken, Delta, ItemKey, MutableState, Task, TaskKind, VersionHistories, VersionHistory,
    VersionItem,
    mutable_state::{
        ActivityInfo, Armed, Carried, ChildExecutionInfo, ExecutionInfo, RequestCancelInfo,
        SignalInfo, StartInfo, Sticky, TimerInfo, WorkflowTask,
    },
    request::Parent,
    task::Timeout,
    version::BranchAncestor,
};
use proto_ids::{EventId, FailoverVersion, RunId, RunKey, TaskId, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{
        ActivityType, Header, Memo, Payload, Payloads, Priority, RetryPolicy, SearchAttributes,
        WorkflowExecution, WorkflowType,
    },
    enums::v1::{ParentClosePolicy, WorkflowExecutionStatus},
    failure::v1::Failure,
    history::v1::HistoryEvent,
    sdk::v1::UserMetadata,
    workflow::v1::ResetPoints,
};
use schema_store::execution::RunRecord;

use super::*;
use crate::queue::{QueuedTask, Reader};

/// Gives every field a value of its own, so that two that are swapped show.
struct Values(i64);

impl Values {
    fn n(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
    fn int(&mut self) -> i32 {
        self.n() as i32
    }
    fn text(&mut self) -> String {
        format!("text-{}", self.n())
    }
    fn event(&mut self) -> EventId {
        EventId::new(self.n())
    }
    fn version(&mut self) -> FailoverVersion {
        FailoverVersion::new(self.n())
    }
    fn at(&mut self) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000 + self.n())
    }
    fn for_(&mut self) -> Duration {
        Duration::from_nanos(1_000_000_000 + self.n() as u64)
    }
    fn run(&mut self) -> RunId {
        self.text().into()
    }
    fn payloads(&mut self) -> Payloads {
        let data = self.text().into_bytes().into();
        Payloads {
            payloads: vec![Payload {
                data,
                ..Default::default()
            }],
        }
    }
    fn execution(&mut self) -> WorkflowExecution {
        WorkflowExecution {
            workflow_id: self.text(),
            run_id: self.text(),
        }
    }
    fn header(&mut self) -> Header {
        Header {
            fields: [(self.text(), Payload::default())].into(),
        }
    }
    fn retry(&mut self) -> RetryPolicy {
        RetryPolicy {
            maximum_attempts: self.int(),
            ..Default::default()
        }
    }
    fn failure(&mut self) -> Failure {
        Failure {
            message: self.text(),
            ..Default::default()
        }
    }
    fn priority(&mut self) -> Priority {
        Priority {
            priority_key: self.int(),
            ..Default::default()
        }
    }
    fn metadata(&mut self) -> UserMetadata {
        let data = self.text().into_bytes().into();
        UserMetadata {
            summary: Some(Payload {
                data,
                ..Default::default()
            }),
            details: None,
        }
    }
}

// Every field is named below, and nothing is left to `Default`: a new field of core's state has to be given a
// place in its record before this compiles.

fn start(v: &mut Values) -> StartInfo {
    StartInfo {
        workflow_type: WorkflowType { name: v.text() },
        task_queue: v.text(),
        input: Some(v.payloads()),
        header: Some(v.header()),
        start_time: v.at(),
        execution_time: v.at(),
        execution_timeout: v.for_(),
        execution_expiration: v.at(),
        run_timeout: v.for_(),
        task_timeout: v.for_(),
        parent: Some(Parent {
            key: RunKey::new(v.text(), v.text(), v.text()),
            namespace: v.text(),
            initiated_event_id: v.event(),
            initiated_event_version: v.n(),
            root: Some(v.execution()),
        }),
        root: Some(v.execution()),
        request_id: v.text(),
        identity: v.text(),
        first_run_id: v.run(),
        original_run_id: v.run(),
        continued_run_id: v.run(),
        retry_policy: Some(v.retry()),
        attempt: v.int(),
        retry_expiration: v.at(),
        cron_schedule: v.text(),
        continued_failure: Some(v.failure()),
        last_completion_result: Some(v.payloads()),
        user_metadata: Some(v.metadata()),
        priority: Some(v.priority()),
        // Not in version 1.
        carried: None,
        clock: 0,
    }
}

fn execution_info(v: &mut Values) -> ExecutionInfo {
    ExecutionInfo {
        status: WorkflowExecutionStatus::TimedOut,
        zombie: true,
        next_event_id: v.event(),
        last_completed_started_event_id: v.event(),
        history_size: v.n(),
        state_transition_count: v.n(),
        last_update_time: v.at(),
        close_time: v.at(),
        close_event_id: v.event(),
        close_batch_first_event_id: v.event(),
        new_run_id: v.run(),
        workflow_task: Some(WorkflowTask {
            version: v.version(),
            scheduled_event_id: v.event(),
            started_event_id: v.event(),
            request_id: v.text(),
            attempt: v.int(),
            timeout: v.for_(),
            scheduled_time: v.at(),
            started_time: v.at(),
            original_scheduled_time: v.at(),
            task_queue: v.text(),
            sticky: true,
            identity: v.text(),
            suggest_continue_as_new: true,
            history_size: v.n(),
        }),
        first_workflow_task_scheduled: true,
        sticky: Some(Sticky {
            task_queue: v.text(),
            schedule_to_start_timeout: v.for_(),
        }),
        cancel_request: Some(String::new()),
        memo: Some(Memo {
            fields: [(v.text(), Payload::default())].into(),
        }),
        search_attributes: Some(SearchAttributes {
            indexed_fields: [(v.text(), Payload::default())].into(),
        }),
        reset_points: Some(ResetPoints::default()),
        signal_count: v.n(),
        workflow_task_attempt: v.int(),
        most_recent_build_id: v.text(),
        reapplied: BTreeSet::from([(v.run(), v.n(), v.n()), (v.run(), v.n(), v.n())]),
        reset_run_id: v.run(),
        sdk_name: v.text(),
        sdk_version: v.text(),
        workflow_task_heartbeat_since: v.at(),
        // Rows of version 1 do not have it.
        close_attempted: false,
        last_running_clock: 0,
    }
}

fn activity(v: &mut Values) -> ActivityInfo {
    ActivityInfo {
        version: v.version(),
        scheduled_event_id: v.event(),
        scheduled_batch_id: v.event(),
        activity_id: v.text(),
        activity_type: ActivityType { name: v.text() },
        task_queue: v.text(),
        input: Some(v.payloads()),
        header: Some(v.header()),
        scheduled_time: v.at(),
        attempt_scheduled_time: v.at(),
        started_event_id: v.event(),
        started_time: v.at(),
        request_id: v.text(),
        identity: v.text(),
        attempt: v.int(),
        schedule_to_close_timeout: v.for_(),
        schedule_to_start_timeout: v.for_(),
        start_to_close_timeout: v.for_(),
        heartbeat_timeout: v.for_(),
        last_heartbeat_time: v.at(),
        heartbeat_details: Some(v.payloads()),
        retry_policy: Some(v.retry()),
        retry_expiration: v.at(),
        last_failure: Some(v.failure()),
        last_worker_identity: v.text(),
        last_attempt_complete_time: v.at(),
        cancel_requested_event_id: v.event(),
        eager: true,
        priority: Some(v.priority()),
        user_metadata: Some(v.metadata()),
        armed: Armed {
            schedule_to_start: true,
            schedule_to_close: false,
            start_to_close: true,
            heartbeat: false,
            heartbeat_at: v.at(),
        },
    }
}

fn versions(v: &mut Values) -> VersionHistories {
    let mut branch = |ancestors| VersionHistory {
        branch: BranchToken {
            tree_id: v.text(),
            branch_id: v.text(),
            ancestors,
        },
        items: vec![
            VersionItem {
                event_id: v.event(),
                version: v.version(),
            },
            VersionItem {
                event_id: v.event(),
                version: v.version(),
            },
        ],
    };
    let ancestor = BranchAncestor {
        branch_id: "old".into(),
        begin: EventId::new(1),
        end: EventId::new(5),
    };
    VersionHistories {
        current: 1,
        histories: vec![branch(vec![]), branch(vec![ancestor])],
    }
}

fn sample() -> MutableState {
    let v = &mut Values(100);
    let activity = activity(v);
    let timer = TimerInfo {
        version: v.version(),
        timer_id: v.text(),
        started_event_id: v.event(),
        expiry: v.at(),
    };
    let child = ChildExecutionInfo {
        version: v.version(),
        initiated_event_id: v.event(),
        initiated_batch_id: v.event(),
        started_event_id: v.event(),
        namespace: v.text(),
        namespace_id: v.text(),
        workflow_id: v.text(),
        run_id: v.run(),
        workflow_type: WorkflowType { name: v.text() },
        create_request_id: v.text(),
        parent_close_policy: ParentClosePolicy::RequestCancel,
    };
    let cancel = RequestCancelInfo {
        version: v.version(),
        initiated_event_id: v.event(),
        initiated_batch_id: v.event(),
        namespace: v.text(),
        namespace_id: v.text(),
        target: v.execution(),
        request_id: v.text(),
    };
    let signal = SignalInfo {
        version: v.version(),
        initiated_event_id: v.event(),
        initiated_batch_id: v.event(),
        namespace: v.text(),
        namespace_id: v.text(),
        target: v.execution(),
        control: v.text(),
        request_id: v.text(),
    };
    MutableState {
        key: RunKey::new("namespace", "workflow", "run"),
        start: start(v),
        execution_info: execution_info(v),
        versions: versions(v),
        activities: [activity].into_iter().collect(),
        timers: [timer].into_iter().collect(),
        children: [child].into_iter().collect(),
        external_cancels: [cancel].into_iter().collect(),
        external_signals: [signal].into_iter().collect(),
        signal_request_ids: [v.text(), v.text()].into_iter().collect(),
        buffered: [HistoryEvent {
            event_id: -1,
            version: 7,
            ..Default::default()
        }]
        .into_iter()
        .collect(),
    }
}

fn stored(w: &MutableState) -> RunRecord {
    let all = Delta {
        replaced: true,
        ..Delta::default()
    };
    let items = encode_items(w, &all);
    RunRecord {
        version: 1,
        hot: encode_execution_info(w),
        start: encode_start(w),
        items: items
            .into_iter()
            .map(|i| (i.key, i.value.expect("present")))
            .collect(),
    }
}

fn all_tasks() -> Vec<QueuedTask> {
    let (event, attempt) = (EventId::new(5), 3);
    let activity_timeout = |timeout| TaskKind::ActivityTimeout {
        scheduled_event_id: event,
        attempt,
        timeout,
    };
    let kinds = vec![
        TaskKind::WorkflowTask {
            scheduled_event_id: event,
            attempt,
        },
        TaskKind::Activity {
            scheduled_event_id: event,
            attempt,
        },
        TaskKind::StartChild {
            initiated_event_id: event,
        },
        TaskKind::SignalExternal {
            initiated_event_id: event,
        },
        TaskKind::CancelExternal {
            initiated_event_id: event,
        },
        TaskKind::Close,
        TaskKind::DeleteExecution,
        TaskKind::UserTimer {
            started_event_id: event,
        },
        activity_timeout(Timeout::ScheduleToStart),
        activity_timeout(Timeout::ScheduleToClose),
        activity_timeout(Timeout::Heartbeat),
        TaskKind::ActivityRetry {
            scheduled_event_id: event,
            attempt,
        },
        TaskKind::WorkflowTaskTimeout {
            scheduled_event_id: event,
            attempt,
            timeout: Timeout::StartToClose,
        },
        TaskKind::WorkflowBackoff,
        TaskKind::RunTimeout,
        TaskKind::ExecutionTimeout,
        TaskKind::Retention,
        TaskKind::Visibility,
        TaskKind::ReplicateHistory {
            first_event_id: event,
            next_event_id: EventId::new(9),
            new_run_id: Some("next".into()),
        },
        TaskKind::SyncActivity {
            scheduled_event_id: event,
        },
        TaskKind::SyncWorkflowState,
        TaskKind::ReplicateDelete,
    ];
    let queued = |(n, kind): (usize, TaskKind)| QueuedTask {
        task_id: TaskId::new(1_000 + n as i64),
        run: RunKey::new("namespace", "workflow", "run"),
        task: Task {
            version: FailoverVersion::new(12),
            fire_at: (n % 2 == 0).then(|| Timestamp::from_nanos(77 + n as i64)),
            kind,
        },
        at: Timestamp::from_nanos(42),
    };
    kinds.into_iter().enumerate().map(queued).collect()
}

fn ack_levels() -> AckLevels {
    AckLevels {
        transfer: TaskId::new(1),
        timer: TaskId::new(2),
        visibility: TaskId::new(3),
        replication: TaskId::new(4),
        readers: [
            ("b/1".to_owned(), reader("", 7)),
            ("c/2".to_owned(), reader("7d2e", 8)),
        ]
        .into(),
        dropped: TaskId::new(3),
    }
}

fn reader(incarnation: &str, acked: i64) -> Reader {
    Reader {
        incarnation: incarnation.to_owned(),
        connected: true,
        acked: TaskId::new(acked),
        complete_since: TaskId::new(4),
        came_back_empty: true,
    }
}

/// As version 1 wrote them: readers were positions, and nothing was said of what had been trimmed.
fn older_positions() -> AckLevels {
    let reader = |acked| Reader {
        connected: true,
        acked: TaskId::new(acked),
        ..Reader::default()
    };
    AckLevels {
        readers: [("b".to_owned(), reader(7)), ("c/2".to_owned(), reader(8))].into(),
        dropped: TaskId::new(4),
        ..ack_levels()
    }
}

#[test]
fn what_is_written_is_read() {
    let w = sample();
    assert_eq!(decode(w.key.clone(), stored(&w)), Ok(w.clone()));
    // Fields that came after the frozen samples.
    let mut later = w;
    (later.start.clock, later.execution_info.last_running_clock) = (7, 8);
    assert_eq!(decode(later.key.clone(), stored(&later)), Ok(later));
    let empty = MutableState {
        key: RunKey::new("n", "w", "r"),
        ..MutableState::default()
    };
    assert_eq!(decode(empty.key.clone(), stored(&empty)), Ok(empty));
    let tasks = all_tasks();
    let row = encode_tasks(&tasks[0].run, &tasks.iter().collect::<Vec<_>>());
    assert_eq!(decode_tasks(&row), Ok(tasks));
    assert_eq!(
        decode_ack_levels(&encode_ack_levels(&ack_levels())),
        Ok(ack_levels())
    );
    assert_eq!(decode_ack_levels(&[]), Ok(AckLevels::default()));
}

#[test]
fn a_delta_names_what_is_written_and_what_goes() {
    let w = sample();
    let id = w.timers.keys().next().unwrap().clone();
    let items = [ItemKey::text(2, id), ItemKey::text(2, "gone")].into();
    let delta = Delta {
        items,
        ..Delta::default()
    };
    let writes = encode_items(&w, &delta);
    let shape: Vec<_> = writes
        .iter()
        .map(|i| (i.key.id.as_str(), i.value.is_some()))
        .collect();
    assert!(shape.contains(&("gone", false)));
    assert_eq!(shape.iter().filter(|(_, there)| *there).count(), 1);
}

#[test]
fn bad_rows_are_errors() {
    let w = sample();
    let mut bad = stored(&w);
    bad.hot = Bytes::from_static(&[0xff; 9]);
    assert!(decode(w.key.clone(), bad).is_err());
    let mut unknown = stored(&w);
    unknown.items[0].0.kind = 999;
    assert!(decode(w.key, unknown).is_err());
    assert!(decode_tasks(&[0xff, 0xff]).is_err());
}

/// Rows as version 1 wrote them, in hexadecimal, one a line. Lines are added, never changed: set
/// `RECORD_SAMPLES=1` to print the present ones.
const VERSION_1: &str = include_str!("samples/version_1.hex");

fn samples() -> Vec<(String, Bytes)> {
    let w = sample();
    let run = stored(&w);
    let tasks = all_tasks();
    let mut all = vec![
        ("hot".to_owned(), run.hot),
        ("start".to_owned(), run.start),
        (
            "tasks".to_owned(),
            encode_tasks(&tasks[0].run, &tasks.iter().collect::<Vec<_>>()),
        ),
        ("positions".to_owned(), encode_ack_levels(&ack_levels())),
    ];
    let items = run
        .items
        .into_iter()
        .map(|(key, value)| (format!("{} {}", key.kind, key.id), value));
    all.extend(items);
    all
}

#[test]
fn rows_of_version_1_can_be_read() {
    if std::env::var_os("RECORD_SAMPLES").is_some() {
        for (name, data) in samples() {
            let hex: String = data.iter().map(|b| format!("{b:02x}")).collect();
            println!("{name}\t{hex}");
        }
    }
    let w = sample();
    let (hot, start) = (Bytes::new(), Bytes::new());
    let mut run = RunRecord {
        version: 1,
        hot,
        start,
        items: Vec::new(),
    };
    for line in VERSION_1.lines() {
        let (name, hex) = line.split_once('\t').expect("name, tab, hex");
        let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
        let data: Bytes = (0..hex.len() / 2).map(byte).collect();
        match name {
            "hot" => run.hot = data,
            "start" => run.start = data,
            "tasks" => assert_eq!(decode_tasks(&data), Ok(all_tasks())),
            "positions" => assert_eq!(decode_ack_levels(&data), Ok(older_positions())),
            item => {
                let (kind, id) = item.split_once(' ').expect("kind and id");
                let key = ItemRowKey {
                    kind: kind.parse().expect("a number"),
                    id: id.to_owned(),
                };
                run.items.push((key, data));
            }
        }
    }
    assert!(decode(w.key.clone(), run) == Ok(w));
}

#[test]
fn what_the_next_run_begins_with_is_stored() {
    for memo in [None, Some(Memo::default())] {
        let mut w = sample();
        w.start.carried = Some(Carried {
            memo,
            search_attributes: Some(SearchAttributes {
                indexed_fields: [("k".to_owned(), Payload::default())].into(),
            }),
        });
        let read = decode(w.key.clone(), stored(&w));
        assert_eq!(read.as_ref().map(|read| &read.start), Ok(&w.start));
    }
}
