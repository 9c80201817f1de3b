//! ScheduleActivityTask: missing timeouts are deduced, and none outlives the run.

use std::{fmt, time::Duration};

use proto_messages::{
    temporal::api::{
        command::v1::ScheduleActivityTaskCommandAttributes,
        enums::v1::WorkflowTaskFailedCause as Cause,
        history::v1::ActivityTaskScheduledEventAttributes,
    },
    time::{cap_duration, duration_from_proto, duration_to_proto},
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write, check_durations, size},
    event::Attributes,
    retry,
};

const BAD: Cause = Cause::BadScheduleActivityAttributes;

/// The number of ids up to which comparing one by one is faster than hashing.
const FEW: usize = 32;

/// Which activity an error is about; put into words only when there is one.
struct About<'a> {
    activity_id: &'a str,
    activity_type: &'a str,
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            activity_id,
            activity_type,
        } = self;
        write!(f, "ActivityId={activity_id} ActivityType={activity_type}")
    }
}

pub(super) fn check<'a>(
    a: &'a ScheduleActivityTaskCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let activity_type = a.activity_type.as_ref().map_or("", |t| t.name.as_str());
    let about = About {
        activity_id: &a.activity_id,
        activity_type,
    };
    let unset = |what: &str| {
        Err(CommandError::new(
            BAD,
            format!("{what} is not set on ScheduleActivityTaskCommand. {about}"),
        ))
    };
    if a.activity_id.is_empty() {
        return unset("ActivityId");
    }
    if activity_type.is_empty() {
        return unset("ActivityType");
    }
    let task_queue = a.task_queue.as_ref().map_or("", |q| q.name.as_str());
    if task_queue.is_empty() {
        return Err(CommandError::new(
            BAD,
            format!(
                "invalid TaskQueue on ScheduleActivityTaskCommand: missing task queue name. {about}"
            ),
        ));
    }
    if task_queue.starts_with("/_sys/") {
        return Err(CommandError::new(
            BAD,
            "task queue name cannot start with reserved prefix /_sys/",
        ));
    }
    cx.length(BAD, "ActivityId", &a.activity_id)?;
    cx.length(BAD, "ActivityType", activity_type)?;
    cx.length(BAD, "TaskQueue", task_queue)?;
    check_timeouts(a, &about)?;
    if let Some(policy) = &a.retry_policy {
        retry::validate(policy).map_err(|text| {
            CommandError::new(
                BAD,
                format!(
                    "Invalid ActivityRetryPolicy for SchedulingActivityTaskCommand. {about}: {text}"
                ),
            )
        })?;
    }
    cx.blob(
        BAD,
        "ScheduleActivityTaskCommandAttributes.Input",
        size(&a.input),
    )?;
    let pending = cx.ms.activities.len() + cx.activity.added.len();
    cx.room(Cause::PendingActivitiesLimitExceeded, "activities", pending)?;
    if !take_id(cx, &a.activity_id) {
        return Err(CommandError::new(Cause::ScheduleActivityDuplicateId, ""));
    }
    cx.activity.events.push(cx.event_id);
    Ok(())
}

/// Takes an activity id, unless a pending activity has it.
fn take_id<'a>(cx: &mut Check<'a>, id: &'a str) -> bool {
    let ms = cx.ms;
    let earlier = &mut cx.activity;
    let pending = ms.activities.len() + earlier.added.len();
    let known = if pending <= FEW {
        earlier.added.contains(&id) || ms.activities.values().any(|a| a.activity_id == id)
    } else {
        let added = &earlier.added;
        let ids = earlier.ids.get_or_insert_with(|| {
            let pending = ms.activities.values().map(|a| a.activity_id.as_str());
            pending.chain(added.iter().copied()).collect()
        });
        !ids.insert(id)
    };
    earlier.added.push(id);
    !known
}

fn check_timeouts(
    a: &ScheduleActivityTaskCommandAttributes,
    about: &About<'_>,
) -> Result<(), CommandError> {
    let timeouts = [
        ("ScheduleToCloseTimeout", &a.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &a.schedule_to_start_timeout),
        ("StartToCloseTimeout", &a.start_to_close_timeout),
        ("HeartbeatTimeout", &a.heartbeat_timeout),
    ];
    check_durations(BAD, timeouts, |what, fault| {
        format!("Invalid {what} for ScheduleActivityTaskCommand: {fault}. {about}")
    })?;
    if duration_from_proto(a.schedule_to_close_timeout.as_ref()).is_zero()
        && duration_from_proto(a.start_to_close_timeout.as_ref()).is_zero()
    {
        return Err(CommandError::new(
            BAD,
            format!(
                "A valid StartToClose or ScheduleToCloseTimeout is not set on ScheduleActivityTaskCommand. {about}"
            ),
        ));
    }
    Ok(())
}

pub(super) fn write(
    mut a: ScheduleActivityTaskCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    for timeout in [
        &mut a.schedule_to_close_timeout,
        &mut a.schedule_to_start_timeout,
        &mut a.start_to_close_timeout,
        &mut a.heartbeat_timeout,
    ] {
        cap_duration(timeout.as_mut());
    }
    let limits = cx.decision.ctx.limits;
    let timeouts = Timeouts::deduce(&a, cx.decision.ms.start.run_timeout);
    let mut retry_policy = a.retry_policy.unwrap_or_default();
    retry::fill_defaults(&mut retry_policy, &limits.default_activity_retry);
    let eager = a.request_eager_execution && limits.eager_activities;
    let set = |d: Duration| Some(duration_to_proto(d));
    let id = cx.write(Attributes::ActivityTaskScheduledEventAttributes(
        ActivityTaskScheduledEventAttributes {
            activity_id: a.activity_id,
            activity_type: a.activity_type,
            task_queue: a.task_queue,
            header: a.header,
            input: a.input,
            schedule_to_close_timeout: set(timeouts.schedule_to_close),
            schedule_to_start_timeout: set(timeouts.schedule_to_start),
            start_to_close_timeout: set(timeouts.start_to_close),
            heartbeat_timeout: set(timeouts.heartbeat),
            workflow_task_completed_event_id: cx.completed,
            retry_policy: Some(retry_policy),
            priority: a.priority,
            ..Default::default()
        },
    ))?;
    if eager {
        if let Some(activity) = cx.decision.ms.activities.0.get_mut(&id) {
            activity.eager = true;
        }
        cx.done.eager.push(id);
    }
    Ok(())
}

struct Timeouts {
    schedule_to_close: Duration,
    schedule_to_start: Duration,
    start_to_close: Duration,
    heartbeat: Duration,
}

impl Timeouts {
    /// Zero means unset on the way in, and no limit on the way out.
    fn deduce(a: &ScheduleActivityTaskCommandAttributes, run: Duration) -> Self {
        let ctx = |d: &Option<prost_types::Duration>| duration_from_proto(d.as_ref());
        let or = |d: Duration, other: Duration| if d.is_zero() { other } else { d };
        let cap = |d: Duration, most: Duration| {
            if most.is_zero() {
                d
            } else {
                or(d, most).min(most)
            }
        };
        let asked_close = ctx(&a.schedule_to_close_timeout);
        let schedule_to_close = cap(asked_close, run);
        let schedule_to_start = cap(ctx(&a.schedule_to_start_timeout), schedule_to_close);
        let start_to_close = cap(
            or(ctx(&a.start_to_close_timeout), asked_close),
            schedule_to_close,
        );
        let heartbeat = ctx(&a.heartbeat_timeout);
        let heartbeat = if heartbeat.is_zero() || start_to_close.is_zero() {
            heartbeat
        } else {
            heartbeat.min(start_to_close)
        };
        Self {
            schedule_to_close,
            schedule_to_start,
            start_to_close,
            heartbeat,
        }
    }
}
