//! Histories that official SDK projects recorded against Temporal Server go through the applier.

use std::{fs, path::PathBuf};

use cluster_core::{EventBatch, Limits, MutableState, version::BranchToken};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use proto_ids::RunKey;
use proto_messages::temporal::api::{
    enums::v1::EventType,
    history::v1::{History, HistoryEvent},
};
use serde_json::Value;

/// Left out, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "sdk-go-workflow_with_unknown_event.json",
        "a second scheduled event was put in by hand under an unknown type, so another task starts",
    ),
    ("sdk-go-workflow_with_bad_unknown_event.json", "the same"),
];

#[test]
fn recorded_histories_apply_cleanly() {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/histories");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let pool = DescriptorPool::decode(proto_messages::DESCRIPTORS).expect("descriptors");
    let descriptor = pool
        .get_message_by_name("temporal.api.history.v1.History")
        .expect("history message");
    let mut paths: Vec<_> = entries.map(|e| e.expect("entry").path()).collect();
    paths.sort();
    let mut failed = Vec::new();
    let mut count = 0;
    for path in paths {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
            continue;
        }
        count += 1;
        let result = read(&path, &descriptor).and_then(|all| {
            all.into_iter().try_for_each(|history| {
                apply(batches(history.events.clone()))
                    .and_then(|()| apply(one_by_one(history.events)))
            })
        });
        if let Err(reason) = result {
            failed.push(format!("{name}: {reason}"));
        }
    }
    assert!(failed.is_empty(), "of {count}:\n{}", failed.join("\n"));
    assert!(count > 80, "only {count} histories were found");
}

fn read(path: &PathBuf, descriptor: &MessageDescriptor) -> Result<Vec<History>, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    if path.extension().is_some_and(|e| e == "bin") {
        return History::decode(bytes.as_slice())
            .map(|h| vec![h])
            .map_err(|e| e.to_string());
    }
    let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    modernise(&mut json);
    // Some files hold a list of histories, the runs of one chain.
    let all = match json {
        Value::Array(all) => all,
        one => vec![one],
    };
    all.into_iter()
        .map(|json| decode(json, descriptor))
        .collect()
}

fn decode(json: Value, descriptor: &MessageDescriptor) -> Result<History, String> {
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), json, &options)
        .map_err(|e| e.to_string())?;
    History::decode(message.encode_to_vec().as_slice()).map_err(|e| e.to_string())
}

/// Rewrites what older recorders wrote: short enum names, and the name of an event type in place of the
/// enum's full name.
fn modernise(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(modernise),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                let prefix = match key.as_str() {
                    "eventType" => "EVENT_TYPE_",
                    "kind" => "TASK_QUEUE_KIND_",
                    "timeoutType" => "TIMEOUT_TYPE_",
                    "retryState" => "RETRY_STATE_",
                    "parentClosePolicy" => "PARENT_CLOSE_POLICY_",
                    "workflowIdReusePolicy" => "WORKFLOW_ID_REUSE_POLICY_",
                    "initiator" => "CONTINUE_AS_NEW_INITIATOR_",
                    "cause" if value.is_string() => "WORKFLOW_TASK_FAILED_CAUSE_",
                    _ => {
                        modernise(value);
                        continue;
                    }
                };
                if let Some(text) = value.as_str()
                    && text.chars().any(char::is_lowercase)
                {
                    *value = Value::String(format!("{prefix}{}", upper_snake(text)));
                }
            }
        }
        _ => {}
    }
}

fn upper_snake(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// Applies the history, and takes its task ids over as the order in which it was written.
fn apply(batches: Vec<EventBatch>) -> Result<(), String> {
    let limits = Limits {
        replicated: true,
        ..Limits::default()
    };
    let mut ms = MutableState::empty(RunKey::new("ns", "wf", "run"), BranchToken::default());
    let events = || batches.iter().flat_map(|batch| &batch.events);
    let count = events().count() as i64;
    let clock = events().map(|event| event.task_id).max();
    for batch in &batches {
        ms.apply(batch, &limits).map_err(|e| e.to_string())?;
    }
    if ms.execution_info.next_event_id.get() != count + 1 {
        return Err(format!("ends at {}", ms.execution_info.next_event_id));
    }
    if Some(ms.execution_info.last_running_clock) != clock {
        return Err(format!("clock {}", ms.execution_info.last_running_clock));
    }
    ms.pending_tasks(&limits);
    Ok(())
}

/// As a cluster gets them that fetches a gap in the smallest steps.
fn one_by_one(events: Vec<HistoryEvent>) -> Vec<EventBatch> {
    let alone = |event| EventBatch {
        events: vec![event],
    };
    events.into_iter().map(alone).collect()
}

/// One batch per workflow task started and per completion, as a server writes it.
fn batches(events: Vec<HistoryEvent>) -> Vec<EventBatch> {
    let mut batches: Vec<EventBatch> = Vec::new();
    for event in events {
        let opens = matches!(
            event.event_type(),
            EventType::WorkflowTaskStarted | EventType::WorkflowTaskCompleted
        );
        match batches.last_mut() {
            Some(last) if !opens && last.version().get() == event.version => {
                last.events.push(event);
            }
            _ => batches.push(EventBatch {
                events: vec![event],
            }),
        }
    }
    batches
}
