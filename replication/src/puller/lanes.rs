//! The lanes of a receiver, and what it acknowledges. A sender either keeps one lane of tasks, or (a Temporal
//! Server with tiered processing) two, of high and low priority, each with watermarks of its own. The first
//! message settles which; a sender that changes its mind closes the stream, so a mix is a fault. Pure.

use proto_ids::{TaskId, Timestamp};
use proto_messages::{
    temporal::server::api::{
        enums::v1::{ReplicationFlowControlCommand, TaskPriority},
        replication::v1::{ReplicationState, SyncReplicationState, WorkflowReplicationMessages},
    },
    time,
};

use crate::watermark::{Disorder, Mark, Reception, Watermark};

/// How the sender orders its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One line.
    Single,
    /// Two lines, by priority.
    Tiered,
}

/// The watermarks of one stream.
#[derive(Debug, Default)]
pub struct Lanes {
    mode: Option<Mode>,
    /// The only line, or the high one.
    first: Watermark,
    /// The low one.
    low: Watermark,
}

/// The lane on which a task came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The only one, or the high one.
    First,
    /// The low one.
    Low,
}

/// A message that does not fit what came before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The order of ids is broken.
    #[error(transparent)]
    Disorder(#[from] Disorder),
    /// Messages with and without priority on one stream.
    #[error("messages with and without priority came on one stream")]
    Mixed,
}

impl Lanes {
    /// Takes note of a message: its lane, and whether its tasks are new.
    pub fn arrive(
        &mut self,
        message: &WorkflowReplicationMessages,
    ) -> Result<(Lane, Reception), LaneError> {
        let (mode, lane) = match TaskPriority::try_from(message.priority) {
            Ok(TaskPriority::Unspecified) => (Mode::Single, Lane::First),
            Ok(TaskPriority::High) => (Mode::Tiered, Lane::First),
            _ => (Mode::Tiered, Lane::Low),
        };
        if *self.mode.get_or_insert(mode) != mode {
            return Err(LaneError::Mixed);
        }
        let at =
            |time: Option<&prost_types::Timestamp>| time.map_or(Timestamp::ZERO, time::from_proto);
        let tasks = message.replication_tasks.iter().map(|task| Mark {
            id: TaskId::new(task.source_task_id),
            time: at(task.visibility_time.as_ref()),
        });
        let high = Mark {
            id: TaskId::new(message.exclusive_high_watermark),
            time: at(message.exclusive_high_watermark_time.as_ref()),
        };
        let incoming = self.lane(lane).arrive(tasks, high)?;
        Ok((lane, incoming))
    }

    /// A task is done.
    pub fn finish(&mut self, lane: Lane, id: TaskId) {
        self.lane(lane).finish(id);
    }

    /// The position that may be acknowledged; none before every lane has brought a message.
    pub fn ack(&self) -> Option<SyncReplicationState> {
        let first = self.first.low();
        match self.mode? {
            Mode::Single => first.map(|mark| state(mark, None)),
            Mode::Tiered => {
                let (high, low) = (first?, self.low.low()?);
                let lower = if high.id <= low.id { high } else { low };
                Some(state(lower, Some((high, low))))
            }
        }
    }

    /// The lower of the low marks.
    pub fn low_mark(&self) -> Option<Mark> {
        match self.mode? {
            Mode::Single => self.first.low(),
            Mode::Tiered => [self.first.low()?, self.low.low()?]
                .into_iter()
                .min_by_key(|m| m.id),
        }
    }

    /// The higher of the high marks.
    pub fn high_mark(&self) -> Option<Mark> {
        [self.first.high(), self.low.high()]
            .into_iter()
            .flatten()
            .max_by_key(|mark| mark.id)
    }

    fn lane(&mut self, lane: Lane) -> &mut Watermark {
        match lane {
            Lane::First => &mut self.first,
            Lane::Low => &mut self.low,
        }
    }
}

fn state(overall: Mark, lanes: Option<(Mark, Mark)>) -> SyncReplicationState {
    let lane = |mark: Mark| ReplicationState {
        inclusive_low_watermark: mark.id.get(),
        inclusive_low_watermark_time: Some(time::to_proto(mark.time)),
        // A stream is slowed down by not being read; the sender's own flow control is not needed.
        flow_control_command: ReplicationFlowControlCommand::Resume as i32,
    };
    SyncReplicationState {
        inclusive_low_watermark: overall.id.get(),
        inclusive_low_watermark_time: Some(time::to_proto(overall.time)),
        high_priority_state: lanes.map(|(high, _)| lane(high)),
        low_priority_state: lanes.map(|(_, low)| lane(low)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_messages::temporal::server::api::replication::v1::ReplicationTask;

    fn message(priority: i32, tasks: &[i64], high: i64) -> WorkflowReplicationMessages {
        WorkflowReplicationMessages {
            replication_tasks: tasks
                .iter()
                .map(|id| ReplicationTask {
                    source_task_id: *id,
                    ..Default::default()
                })
                .collect(),
            exclusive_high_watermark: high,
            exclusive_high_watermark_time: None,
            priority,
        }
    }

    #[test]
    fn one_line_acknowledges_one_pair() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.ack(), None);
        lanes.arrive(&message(0, &[4], 5)).unwrap();
        let ack = lanes.ack().unwrap();
        assert_eq!(
            (ack.inclusive_low_watermark, ack.high_priority_state),
            (4, None)
        );
        lanes.finish(Lane::First, 4.into());
        assert_eq!(lanes.ack().unwrap().inclusive_low_watermark, 5);
        assert_eq!(lanes.arrive(&message(1, &[], 9)), Err(LaneError::Mixed));
    }

    #[test]
    fn two_lines_acknowledge_once_both_have_spoken() {
        let mut lanes = Lanes::default();
        lanes.arrive(&message(1, &[7], 8)).unwrap();
        assert_eq!(lanes.ack(), None);
        lanes.arrive(&message(10, &[], 3)).unwrap();
        let ack = lanes.ack().unwrap();
        assert_eq!(ack.inclusive_low_watermark, 3);
        assert_eq!(ack.high_priority_state.unwrap().inclusive_low_watermark, 7);
        assert_eq!(ack.low_priority_state.unwrap().inclusive_low_watermark, 3);
    }
}
