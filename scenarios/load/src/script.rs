//! The script of a workflow, as data in its input, and the state machine that plays it. A script
//! is a list of steps, each finished by what the history holds, so a worker needs nothing but history
//! (or the counters it kept of it) to decide, on any cluster and after any failover.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use proto_messages::temporal::api::{
    command::v1::{
        Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
        StartTimerCommandAttributes, command::Attributes as Of,
    },
    common::v1::{ActivityType, Payload, Payloads},
    enums::v1::CommandType,
    history::v1::{HistoryEvent, history_event::Attributes as Event},
    taskqueue::v1::TaskQueue,
};
use serde::{Deserialize, Serialize};

/// The activity type every script uses; its worker answers at once.
pub const ACTIVITY_TYPE: &str = "meridian.load.activity";

/// One step; the next begins when this one's effect is in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// This many activities, one after the other.
    Activities(u32),
    /// One timer of each length in milliseconds, all at once.
    Timers(Vec<u64>),
    /// Waits until this many signals have arrived since the start.
    Signals(u32),
    /// Waits until a signal of this name has arrived.
    Until(String),
}

/// A whole workflow: its steps, then completion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The steps in order; none means complete at once.
    pub steps: Vec<Step>,
    /// Asks for activities to be handed back with the workflow task's answer.
    #[serde(default)]
    pub eager: bool,
    /// Size of the result payload in bytes.
    #[serde(default)]
    pub result_bytes: usize,
    /// Filler, so that inputs have the size a run asks for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filler: String,
}

impl Script {
    /// The script as a workflow input of about `bytes` bytes, and never less than it needs.
    pub fn input(&self, bytes: usize) -> Payloads {
        let mut padded = self.clone();
        let bare = serde_json::to_vec(&padded).unwrap_or_default();
        padded.filler = "x".repeat(bytes.saturating_sub(bare.len()));
        payloads(serde_json::to_vec(&padded).unwrap_or(bare).into())
    }

    /// Reads a script back from a workflow input; anything else is the empty script, which completes
    /// at once, so that a stray workflow on our queue never blocks it.
    pub fn read(input: Option<&Payloads>) -> Self {
        input
            .and_then(|p| p.payloads.first())
            .and_then(|p| serde_json::from_slice(&p.data).ok())
            .unwrap_or_default()
    }
}

impl Script {
    fn awaits(&self, signal: &str) -> bool {
        self.steps
            .iter()
            .any(|s| matches!(s, Step::Until(name) if name == signal))
    }
}

/// One JSON payload.
pub fn payloads(data: Bytes) -> Payloads {
    let encoding = ("encoding".to_owned(), Bytes::from_static(b"json/plain"));
    Payloads {
        payloads: vec![Payload {
            metadata: HashMap::from([encoding]),
            data,
            ..Default::default()
        }],
    }
}

/// A timer that fired: when it was due by the server's record and when the server says it fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Start event time plus length, in nanoseconds since the epoch.
    pub due_nanos: i128,
    /// Event time of the fired event, in nanoseconds since the epoch.
    pub fired_nanos: i128,
}

/// The progress of a run by its history. Built by feeding it events in order.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    script: Script,
    queue: String,
    activities_scheduled: u32,
    activities_completed: u32,
    activities_broken: u32,
    timers_started: u32,
    timers_fired: u32,
    signals: u32,
    awaited_seen: Vec<String>,
    timers_due: HashMap<i64, i128>,
    last_event: i64,
}

impl Progress {
    /// Takes the next event in; says so when a timer fired.
    pub fn take(&mut self, event: &HistoryEvent) -> Option<Fired> {
        self.last_event = event.event_id;
        let at = nanos(event.event_time.as_ref());
        match event.attributes.as_ref()? {
            Event::WorkflowExecutionStartedEventAttributes(a) => {
                self.script = Script::read(a.input.as_ref());
                self.queue = a.task_queue.as_ref().map(|q| q.name.clone())?;
            }
            Event::ActivityTaskScheduledEventAttributes(_) => self.activities_scheduled += 1,
            Event::ActivityTaskCompletedEventAttributes(_) => self.activities_completed += 1,
            Event::ActivityTaskFailedEventAttributes(_)
            | Event::ActivityTaskTimedOutEventAttributes(_)
            | Event::ActivityTaskCanceledEventAttributes(_) => self.activities_broken += 1,
            Event::TimerStartedEventAttributes(a) => {
                self.timers_started += 1;
                let length = a.start_to_fire_timeout.as_ref().map_or(0, |d| {
                    i128::from(d.seconds) * 1_000_000_000 + i128::from(d.nanos)
                });
                self.timers_due.insert(event.event_id, at + length);
            }
            Event::TimerFiredEventAttributes(a) => {
                self.timers_fired += 1;
                let due_nanos = self.timers_due.remove(&a.started_event_id)?;
                return Some(Fired {
                    due_nanos,
                    fired_nanos: at,
                });
            }
            Event::WorkflowExecutionSignaledEventAttributes(a) => {
                self.signals += 1;
                if self.script.awaits(&a.signal_name) && !self.awaited_seen.contains(&a.signal_name)
                {
                    self.awaited_seen.push(a.signal_name.clone());
                }
            }
            _ => {}
        }
        None
    }

    /// The id of the last event taken in; 0 before the first.
    pub fn last_event(&self) -> i64 {
        self.last_event
    }

    /// The commands that answer a workflow task now.
    pub fn decide(&self) -> Vec<Command> {
        let (mut activities, mut timers) = (0, 0);
        for step in &self.script.steps {
            match step {
                Step::Activities(n) => {
                    activities += n;
                    if self.activities_completed < activities {
                        let ended = self.activities_completed + self.activities_broken;
                        return if self.activities_scheduled > ended {
                            Vec::new()
                        } else {
                            vec![self.activity()]
                        };
                    }
                }
                Step::Timers(delays) => {
                    let before = timers;
                    timers += delays.len() as u32;
                    if self.timers_fired < timers {
                        if self.timers_started > before {
                            return Vec::new();
                        }
                        return delays
                            .iter()
                            .zip(before + 1..)
                            .map(|(ms, n)| timer(n, Duration::from_millis(*ms)))
                            .collect();
                    }
                }
                Step::Signals(n) => {
                    if self.signals < *n {
                        return Vec::new();
                    }
                }
                Step::Until(name) => {
                    if !self.awaited_seen.contains(name) {
                        return Vec::new();
                    }
                }
            }
        }
        vec![self.completion()]
    }

    fn activity(&self) -> Command {
        let id = self.activities_scheduled + 1;
        command(
            CommandType::ScheduleActivityTask,
            Of::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
                activity_id: id.to_string(),
                activity_type: Some(ActivityType {
                    name: ACTIVITY_TYPE.to_owned(),
                }),
                task_queue: Some(TaskQueue {
                    name: self.queue.clone(),
                    ..Default::default()
                }),
                input: Some(payloads(Bytes::from_static(b"{}"))),
                // Short, so that an attempt lost with its worker is retried within a drill.
                start_to_close_timeout: Some(proto_messages::time::duration_to_proto(
                    Duration::from_secs(10),
                )),
                request_eager_execution: self.script.eager,
                ..Default::default()
            }),
        )
    }

    fn completion(&self) -> Command {
        let mut result = format!(
            "{{\"activities\":{},\"timers\":{},\"signals\":{}}}",
            self.activities_completed, self.timers_fired, self.signals
        );
        let missing = self.script.result_bytes.saturating_sub(result.len());
        result.extend(std::iter::repeat_n(' ', missing));
        command(
            CommandType::CompleteWorkflowExecution,
            Of::CompleteWorkflowExecutionCommandAttributes(
                CompleteWorkflowExecutionCommandAttributes {
                    result: Some(payloads(result.into())),
                },
            ),
        )
    }
}

fn timer(number: u32, length: Duration) -> Command {
    command(
        CommandType::StartTimer,
        Of::StartTimerCommandAttributes(StartTimerCommandAttributes {
            timer_id: number.to_string(),
            start_to_fire_timeout: Some(proto_messages::time::duration_to_proto(length)),
        }),
    )
}

fn command(kind: CommandType, attributes: Of) -> Command {
    Command {
        command_type: kind as i32,
        attributes: Some(attributes),
        ..Default::default()
    }
}

/// A wire timestamp as nanoseconds since the epoch; 0 when absent.
pub fn nanos(at: Option<&prost_types::Timestamp>) -> i128 {
    at.map_or(0, |t| {
        i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos)
    })
}

#[cfg(test)]
mod tests {
    use proto_messages::temporal::api::history::v1::{
        ActivityTaskCompletedEventAttributes, ActivityTaskScheduledEventAttributes,
        ActivityTaskTimedOutEventAttributes, TimerFiredEventAttributes,
        TimerStartedEventAttributes, WorkflowExecutionSignaledEventAttributes,
        WorkflowExecutionStartedEventAttributes,
    };

    use super::*;

    struct Play(Progress, i64);

    impl Play {
        fn of(steps: Vec<Step>) -> Self {
            let script = Script {
                steps,
                ..Default::default()
            };
            let mut play = Self(Progress::default(), 0);
            play.event(Event::WorkflowExecutionStartedEventAttributes(
                WorkflowExecutionStartedEventAttributes {
                    input: Some(script.input(256)),
                    task_queue: Some(TaskQueue {
                        name: "q".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ));
            play
        }

        fn event(&mut self, attributes: Event) -> Option<Fired> {
            self.1 += 1;
            self.0.take(&HistoryEvent {
                event_id: self.1,
                event_time: Some(prost_types::Timestamp {
                    seconds: self.1,
                    nanos: 0,
                }),
                attributes: Some(attributes),
                ..Default::default()
            })
        }

        fn kinds(&self) -> Vec<CommandType> {
            self.0.decide().iter().map(|c| c.command_type()).collect()
        }
    }

    #[test]
    fn an_order_goes_through_activity_timer_and_signal() {
        let mut play = Play::of(vec![
            Step::Activities(1),
            Step::Timers(vec![1000]),
            Step::Signals(1),
        ]);
        assert_eq!(play.kinds(), [CommandType::ScheduleActivityTask]);
        play.event(Event::ActivityTaskScheduledEventAttributes(
            ActivityTaskScheduledEventAttributes::default(),
        ));
        assert!(play.kinds().is_empty(), "the activity is on its way");
        play.event(Event::ActivityTaskTimedOutEventAttributes(
            ActivityTaskTimedOutEventAttributes::default(),
        ));
        assert_eq!(play.kinds(), [CommandType::ScheduleActivityTask], "again");
        play.event(Event::ActivityTaskScheduledEventAttributes(
            ActivityTaskScheduledEventAttributes::default(),
        ));
        play.event(Event::ActivityTaskCompletedEventAttributes(
            ActivityTaskCompletedEventAttributes::default(),
        ));
        assert_eq!(play.kinds(), [CommandType::StartTimer]);
        play.event(Event::TimerStartedEventAttributes(
            TimerStartedEventAttributes {
                start_to_fire_timeout: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                ..Default::default()
            },
        ));
        let started_event_id = play.1;
        let fired = play.event(Event::TimerFiredEventAttributes(
            TimerFiredEventAttributes {
                started_event_id,
                ..Default::default()
            },
        ));
        let fired = fired.expect("due time is known");
        assert_eq!(fired.due_nanos, fired.fired_nanos);
        assert!(play.kinds().is_empty(), "waits for the signal");
        play.event(Event::WorkflowExecutionSignaledEventAttributes(
            WorkflowExecutionSignaledEventAttributes::default(),
        ));
        assert_eq!(play.kinds(), [CommandType::CompleteWorkflowExecution]);
    }

    #[test]
    fn inputs_have_the_size_asked_for_and_read_back() {
        let script = Script {
            steps: vec![Step::Timers(vec![10, 20])],
            ..Default::default()
        };
        let input = script.input(256);
        assert_eq!(input.payloads[0].data.len(), 256 + ",\"filler\":\"\"".len());
        assert_eq!(Script::read(Some(&input)).steps, script.steps);
        assert_eq!(Script::read(None), Script::default());
    }
}
