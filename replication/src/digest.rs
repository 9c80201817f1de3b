//! Digests that show whether two clusters hold the same events and the same state of a run, without moving
//! either. What each cluster sets for itself (task ids, positions of its own) is left out. Encoders write the
//! entries of a map in any order, so equal messages have many encodings: entries of maps are added up,
//! everything else counts in the order in which it stands. Pure.
//!
//! [`Digest::finish`] gives the first form as well, which adds up all fields and so misses swapped arguments: an
//! older peer knows only that one. [`same`] compares what both sides have.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use proto_messages::{
    Wire,
    meridian::replication::v1::HistoryDigest,
    temporal::{
        api::history::v1::HistoryEvent, server::api::persistence::v1::WorkflowMutableState,
    },
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The rules the ordered digests follow. Raised with every change of them.
pub const VERSION: u32 = 2;

/// Nesting beyond this is taken as plain bytes.
const DEPTH_MAX: u32 = 32;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto_messages::DESCRIPTORS).unwrap_or_default());
static EVENT: LazyLock<Option<MessageDescriptor>> =
    LazyLock::new(|| POOL.get_message_by_name("temporal.api.history.v1.HistoryEvent"));
static STATE: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    POOL.get_message_by_name("temporal.server.api.persistence.v1.WorkflowMutableState")
});

/// The digest of a history, event by event, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    unordered: u128,
    ordered: u128,
}

/// The digest of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The first form, for older peers.
    pub unordered: [u8; 16],
    /// The one that sees the order of repeated fields.
    pub ordered: [u8; 16],
}

impl Digest {
    /// Adds the next event.
    pub fn add(&mut self, event: &HistoryEvent) {
        let cleared = HistoryEvent {
            task_id: 0,
            ..event.clone()
        };
        let bytes = cleared.to_wire();
        self.unordered = chain(self.unordered, of_bytes(&bytes, 0), 1);
        self.ordered = chain(self.ordered, of_described(EVENT.as_ref(), &bytes, 0), 1);
    }

    /// The digest of all events added.
    pub fn finish(&self) -> Finished {
        Finished {
            unordered: self.unordered.to_be_bytes(),
            ordered: self.ordered.to_be_bytes(),
        }
    }
}

/// The digest of a run's state: how it stands, and what is pending in it. Left out is what each cluster has
/// for itself (sticky queues, workflow-task attempts, tokens, counters) and what has no event yet.
pub fn of_state(mut state: WorkflowMutableState) -> [u8; 16] {
    state.buffered_events.clear();
    for activity in state.activity_infos.values_mut() {
        activity.request_id.clear();
        activity.started_identity.clear();
    }
    if let Some(info) = &mut state.execution_info {
        info.version_histories = None;
        info.last_update_time = None;
        info.last_running_clock = 0;
        info.state_transition_count = 0;
        info.execution_stats = None;
        info.auto_reset_points = None;
        info.workflow_was_reset = false;
        info.cancel_request_id.clear();
        info.reset_run_id.clear();
        info.sticky_task_queue.clear();
        info.sticky_schedule_to_start_timeout = None;
        info.workflow_task_version = 0;
        info.workflow_task_scheduled_event_id = 0;
        info.workflow_task_started_event_id = 0;
        info.workflow_task_timeout = None;
        info.workflow_task_attempt = 0;
        info.workflow_task_scheduled_time = None;
        info.workflow_task_started_time = None;
        info.workflow_task_original_scheduled_time = None;
        info.workflow_task_request_id.clear();
    }
    if let Some(execution) = &mut state.execution_state {
        // Whether the run is a zombie is each cluster's own affair, and a status says the rest.
        execution.state = 0;
        execution.create_request_id.clear();
    }
    of_described(STATE.as_ref(), &state.encode_to_vec(), 0).to_be_bytes()
}

/// Whether two clusters hold the same of a run, by the best digest that both of them have.
pub fn same(one: &HistoryDigest, other: &HistoryDigest) -> bool {
    let alike = one.found == other.found
        && one.items == other.items
        && one.next_event_id == other.next_event_id
        && one.status == other.status;
    let digests = match one.digest_version == other.digest_version && one.digest_version > 0 {
        true => {
            one.history_digest == other.history_digest && one.state_digest == other.state_digest
        }
        false => one.digest == other.digest,
    };
    alike && digests
}

fn chain(state: u128, next: u128, seed: u64) -> u128 {
    let mut chained = [0; 32];
    chained[..16].copy_from_slice(&state.to_be_bytes());
    chained[16..].copy_from_slice(&next.to_be_bytes());
    xxh3_128_with_seed(&chained, seed)
}

/// The digest of a message of a known type; of anything else, the digest of its bytes.
fn of_described(message: Option<&MessageDescriptor>, bytes: &[u8], depth: u32) -> u128 {
    let described = message.filter(|_| depth < DEPTH_MAX);
    described
        .and_then(|message| of_fields(message, bytes, depth))
        .unwrap_or_else(|| xxh3_128_with_seed(bytes, 2))
}

fn of_fields(message: &MessageDescriptor, mut rest: &[u8], depth: u32) -> Option<u128> {
    let mut fields: BTreeMap<u64, u128> = BTreeMap::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let field = message.get_field(u32::try_from(key >> 3).ok()?);
        let value = match key & 7 {
            0 => xxh3_128_with_seed(&varint(&mut rest)?.to_be_bytes(), 3),
            1 => xxh3_128_with_seed(take(&mut rest, 8)?, 3),
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                let bytes = take(&mut rest, len)?;
                match field.as_ref().map(|field| field.kind()) {
                    Some(Kind::Message(inner)) => of_described(Some(&inner), bytes, depth + 1),
                    _ => xxh3_128_with_seed(bytes, 2),
                }
            }
            5 => xxh3_128_with_seed(take(&mut rest, 4)?, 3),
            _ => return None,
        };
        let sum = fields.entry(key).or_insert(4);
        *sum = match field.is_some_and(|field| field.is_map()) {
            true => sum.wrapping_add(value),
            false => chain(*sum, value, 5),
        };
    }
    let all = fields.into_iter().fold(6, |all, (key, sum)| {
        chain(chain(all, u128::from(key), 7), sum, 7)
    });
    Some(all)
}

/// The first form: the digest of a field's bytes as a message when they can be read as one, else as they are.
/// Whether text happens to look like a message is a property of the bytes alone, so both sides agree.
fn of_bytes(bytes: &[u8], depth: u32) -> u128 {
    let as_message = (depth < DEPTH_MAX)
        .then(|| of_message(bytes, depth))
        .flatten();
    as_message.unwrap_or_else(|| xxh3_128_with_seed(bytes, 2))
}

fn of_message(mut rest: &[u8], depth: u32) -> Option<u128> {
    let mut sum = 3_u128;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        if key >> 3 == 0 {
            return None;
        }
        let value = match key & 7 {
            0 => xxh3_128_with_seed(&varint(&mut rest)?.to_be_bytes(), key),
            1 => xxh3_128_with_seed(take(&mut rest, 8)?, key),
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                let inner = of_bytes(take(&mut rest, len)?, depth + 1);
                xxh3_128_with_seed(&inner.to_be_bytes(), key)
            }
            5 => xxh3_128_with_seed(take(&mut rest, 4)?, key),
            _ => return None,
        };
        sum = sum.wrapping_add(value);
    }
    Some(sum)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_messages::temporal::api::{
        common::v1::{Header, Payload, Payloads},
        history::v1::{WorkflowExecutionSignaledEventAttributes, history_event::Attributes},
    };

    fn signal(id: i64, task_id: i64, input: &[u8], keys: &[&str]) -> HistoryEvent {
        let payload = |data: &[u8]| Payload {
            data: data.to_vec().into(),
            ..Default::default()
        };
        // Each map has its own hash seed, so the entries come out in any order.
        let fields = keys
            .iter()
            .map(|k| ((*k).to_owned(), payload(k.as_bytes())))
            .collect();
        HistoryEvent {
            event_id: id,
            task_id,
            attributes: Some(Attributes::WorkflowExecutionSignaledEventAttributes(
                WorkflowExecutionSignaledEventAttributes {
                    input: Some(Payloads {
                        payloads: vec![payload(input)],
                    }),
                    header: Some(Header { fields }),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }
    }

    fn of(events: &[HistoryEvent]) -> Finished {
        let mut digest = Digest::default();
        for event in events {
            digest.add(event);
        }
        digest.finish()
    }

    #[test]
    fn sees_what_differs_and_nothing_else() {
        let keys: Vec<_> = (0..8).map(|n| format!("key-{n}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let first = of(&[signal(1, 5, b"a", &keys), signal(2, 6, b"b", &keys)]);
        for _ in 0..8 {
            assert_eq!(
                first,
                of(&[signal(1, 7, b"a", &keys), signal(2, 9, b"b", &keys)])
            );
        }
        assert_ne!(
            first,
            of(&[signal(2, 6, b"b", &keys), signal(1, 5, b"a", &keys)])
        );
        assert_ne!(
            first,
            of(&[signal(1, 5, b"a", &keys), signal(2, 6, b"c", &keys)])
        );
        assert_ne!(
            first,
            of(&[signal(1, 5, b"a", &keys), signal(2, 6, b"b", &keys[1..])])
        );
        assert_ne!(first, of(&[signal(1, 5, b"a", &keys)]));
    }

    #[test]
    fn swapped_arguments_are_a_difference() {
        let of_arguments = |arguments: [&[u8]; 2]| {
            let mut event = signal(1, 5, b"", &[]);
            if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) =
                &mut event.attributes
            {
                let payloads = arguments.map(|data| Payload {
                    data: data.to_vec().into(),
                    ..Default::default()
                });
                a.input = Some(Payloads {
                    payloads: payloads.to_vec(),
                });
            }
            of(&[event])
        };
        let (one, other) = (of_arguments([b"a", b"b"]), of_arguments([b"b", b"a"]));
        assert_ne!(one.ordered, other.ordered);
        // Older peers do not see it.
        assert_eq!(one.unordered, other.unordered);
    }

    #[test]
    fn state_counts_as_far_as_both_clusters_have_it() {
        use proto_messages::temporal::server::api::persistence::v1::{
            ActivityInfo, TimerInfo, WorkflowExecutionInfo, WorkflowExecutionState,
        };
        let state = |attempt, timer: &str, queue: &str| WorkflowMutableState {
            activity_infos: [1, 2, 3]
                .map(|id| {
                    let info = ActivityInfo {
                        attempt,
                        request_id: queue.to_owned(),
                        ..Default::default()
                    };
                    (id, info)
                })
                .into(),
            timer_infos: [(timer.to_owned(), TimerInfo::default())].into(),
            execution_info: Some(WorkflowExecutionInfo {
                sticky_task_queue: queue.to_owned(),
                ..Default::default()
            }),
            execution_state: Some(WorkflowExecutionState::default()),
            ..Default::default()
        };
        let first = of_state(state(1, "t", "here"));
        assert_eq!(first, of_state(state(1, "t", "there")));
        assert_ne!(first, of_state(state(2, "t", "here")));
        assert_ne!(first, of_state(state(1, "u", "here")));
    }

    #[test]
    fn an_older_peer_is_compared_by_what_it_tells() {
        let told = |version, history: &[u8]| HistoryDigest {
            found: true,
            digest: vec![1].into(),
            digest_version: version,
            history_digest: history.to_vec().into(),
            ..Default::default()
        };
        assert!(same(&told(VERSION, b"a"), &told(0, b"")));
        assert!(same(&told(VERSION, b"a"), &told(VERSION, b"a")));
        assert!(!same(&told(VERSION, b"a"), &told(VERSION, b"b")));
    }
}
