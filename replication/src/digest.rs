//! A number that tells whether two clusters hold the same events of a run, without moving the events. What
//! each cluster sets for itself (task ids) is left out. Encoders write the entries of a map in any order, so
//! equal events have many encodings; the digest of a message therefore adds up its fields, whatever their
//! order. Pure.

use proto_messages::Wire;
use proto_messages::temporal::api::history::v1::HistoryEvent;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Nesting beyond this is taken as plain bytes.
const DEPTH_MAX: u32 = 32;

/// The digest of a history, event by event, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    state: u128,
}

impl Digest {
    /// Adds the next event.
    pub fn add(&mut self, event: &HistoryEvent) {
        let cleared = HistoryEvent {
            task_id: 0,
            ..event.clone()
        };
        let event = of_bytes(&cleared.to_wire(), 0);
        let mut chained = [0; 32];
        chained[..16].copy_from_slice(&self.state.to_be_bytes());
        chained[16..].copy_from_slice(&event.to_be_bytes());
        self.state = xxh3_128_with_seed(&chained, 1);
    }

    /// The digest of all events added.
    pub fn finish(&self) -> [u8; 16] {
        self.state.to_be_bytes()
    }
}

/// The digest of a field's bytes: as a message when they can be read as one, else as they are. Whether text
/// happens to look like a message is a property of the bytes alone, so both sides agree.
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

    fn of(events: &[HistoryEvent]) -> [u8; 16] {
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
}
