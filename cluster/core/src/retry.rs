//! Retries: what may be tried again, when, and why not.

use std::time::Duration;

use proto_ids::Timestamp;
use proto_messages::{
    temporal::api::{
        common::v1::RetryPolicy,
        enums::v1::{RetryState, TimeoutType},
        failure::v1::{Failure, failure::FailureInfo},
    },
    time::{cap_duration, duration_from_proto, duration_to_proto},
};

use crate::{Limits, context::DefaultRetry};

/// First step of the stretch of a workflow task's timeout after many failures.
const WORKFLOW_TASK_STRETCH: Duration = Duration::from_secs(5);

/// Prefix by which a retry policy names a timeout as not retryable.
const TIMEOUT_TYPE_PREFIX: &str = "TemporalTimeout:";

/// Fills the unset fields of a policy.
pub fn fill_defaults(policy: &mut RetryPolicy, defaults: &DefaultRetry) {
    if duration_from_proto(policy.initial_interval.as_ref()).is_zero() {
        policy.initial_interval = Some(duration_to_proto(defaults.initial_interval));
    }
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = defaults.backoff_coefficient;
    }
    if duration_from_proto(policy.maximum_interval.as_ref()).is_zero() {
        let initial = duration_from_proto(policy.initial_interval.as_ref());
        let longest = initial
            .checked_mul(defaults.maximum_interval_coefficient.max(1.0) as u32)
            .unwrap_or(Duration::MAX);
        policy.maximum_interval = Some(duration_to_proto(longest));
    }
    cap_duration(policy.initial_interval.as_mut());
    cap_duration(policy.maximum_interval.as_mut());
    if policy.maximum_attempts == 0 {
        policy.maximum_attempts = defaults.maximum_attempts;
    }
}

/// Refuses a policy that contradicts itself. Unset fields are fine.
pub fn validate(policy: &RetryPolicy) -> Result<(), String> {
    let negative = |d: &Option<prost_types::Duration>| {
        d.as_ref().is_some_and(|d| d.seconds < 0 || d.nanos < 0)
    };
    // One attempt means no retry, whatever else is said.
    if policy.maximum_attempts == 1 {
        return Ok(());
    }
    if negative(&policy.initial_interval) {
        return Err("InitialInterval cannot be negative on retry policy.".into());
    }
    if policy.backoff_coefficient != 0.0 && policy.backoff_coefficient < 1.0 {
        return Err("BackoffCoefficient cannot be less than 1 on retry policy.".into());
    }
    if negative(&policy.maximum_interval) {
        return Err("MaximumInterval cannot be negative on retry policy.".into());
    }
    let longest = duration_from_proto(policy.maximum_interval.as_ref());
    if !longest.is_zero() && longest < duration_from_proto(policy.initial_interval.as_ref()) {
        return Err("MaximumInterval cannot be less than InitialInterval on retry policy.".into());
    }
    if policy.maximum_attempts < 0 {
        return Err("MaximumAttempts cannot be negative on retry policy.".into());
    }
    for name in &policy.non_retryable_error_types {
        if let Some(timeout) = name.strip_prefix(TIMEOUT_TYPE_PREFIX)
            && ![
                "StartToClose",
                "ScheduleToStart",
                "ScheduleToClose",
                "Heartbeat",
            ]
            .contains(&timeout)
        {
            return Err(format!("Invalid timeout type value: {timeout}."));
        }
    }
    Ok(())
}

/// When the attempt after a failed one is due, or why there is none.
pub(crate) fn next_backoff(
    policy: &RetryPolicy,
    failed_attempt: i32,
    now: Timestamp,
    expiration: Timestamp,
    asked: Option<Duration>,
) -> Result<Duration, RetryState> {
    if policy.maximum_attempts > 0 && failed_attempt >= policy.maximum_attempts {
        return Err(RetryState::MaximumAttemptsReached);
    }
    let interval = asked.unwrap_or_else(|| interval(policy, failed_attempt));
    if !expiration.is_zero() && now.plus(interval) > expiration {
        return Err(RetryState::Timeout);
    }
    Ok(interval)
}

fn interval(policy: &RetryPolicy, failed_attempt: i32) -> Duration {
    let initial = duration_from_proto(policy.initial_interval.as_ref()).as_secs_f64();
    let longest = duration_from_proto(policy.maximum_interval.as_ref());
    let grown = initial
        * policy
            .backoff_coefficient
            .max(1.0)
            .powi(failed_attempt.max(1) - 1);
    // Far beyond any deadline, but still a moment that can be told.
    let cap = if longest.is_zero() {
        Duration::from_secs(100 * 365 * 86_400)
    } else {
        longest
    };
    Duration::try_from_secs_f64(grown).map_or(cap, |d| d.min(cap))
}

/// Whether a failure may be tried again at all.
pub(crate) fn is_retryable(failure: Option<&Failure>, non_retryable: &[String]) -> bool {
    let Some(info) = failure.and_then(|f| f.failure_info.as_ref()) else {
        return true;
    };
    match info {
        FailureInfo::TerminatedFailureInfo(_) | FailureInfo::CanceledFailureInfo(_) => false,
        FailureInfo::TimeoutFailureInfo(timeout) => {
            let kind = timeout.timeout_type();
            matches!(kind, TimeoutType::StartToClose | TimeoutType::Heartbeat)
                && !non_retryable
                    .iter()
                    .any(|name| name.strip_prefix(TIMEOUT_TYPE_PREFIX) == Some(timeout_name(kind)))
        }
        FailureInfo::ServerFailureInfo(server) => !server.non_retryable,
        FailureInfo::ApplicationFailureInfo(application) => {
            !application.non_retryable && !non_retryable.contains(&application.r#type)
        }
        _ => true,
    }
}

/// Whether a failure is one of the deadlines that no further attempt can meet.
pub(crate) fn ends_all_attempts(failure: Option<&Failure>) -> bool {
    let Some(FailureInfo::TimeoutFailureInfo(timeout)) =
        failure.and_then(|f| f.failure_info.as_ref())
    else {
        return false;
    };
    matches!(
        timeout.timeout_type(),
        TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose
    )
}

/// The delay a failure itself asks for.
pub(crate) fn requested_delay(failure: Option<&Failure>) -> Option<Duration> {
    match failure?.failure_info.as_ref()? {
        FailureInfo::ApplicationFailureInfo(a) => a
            .next_retry_delay
            .as_ref()
            .map(|d| duration_from_proto(Some(d))),
        _ => None,
    }
}

/// The short name of a timeout, as it stands in messages.
pub(crate) fn timeout_name(kind: TimeoutType) -> &'static str {
    match kind {
        TimeoutType::Unspecified => "Unspecified",
        TimeoutType::StartToClose => "StartToClose",
        TimeoutType::ScheduleToStart => "ScheduleToStart",
        TimeoutType::ScheduleToClose => "ScheduleToClose",
        TimeoutType::Heartbeat => "Heartbeat",
    }
}

/// A workflow task's timeout: stretched after many failures, so that a broken worker is asked less often.
pub(crate) fn workflow_task_timeout(base: Duration, attempt: i32, limits: &Limits) -> Duration {
    let extra = attempt - limits.workflow_task_retry_backoff_after;
    if extra <= 0 {
        return base;
    }
    let stretch = WORKFLOW_TASK_STRETCH
        .saturating_mul(1 << (extra - 1).min(16))
        .min(limits.workflow_task_retry_max_interval);
    base + stretch
}
