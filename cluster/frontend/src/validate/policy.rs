//! Policies: retries, and what happens when an id is taken.

use std::time::Duration;

use proto_messages::{
    temporal::api::{
        common::v1::RetryPolicy,
        enums::v1::{TimeoutType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy},
    },
    time,
};

use super::{Checked, refuse};

/// The defaults of absent fields of a retry policy.
const INITIAL_INTERVAL: Duration = Duration::from_secs(1);
const COEFFICIENT: f64 = 2.0;
const MAXIMUM_OF_INITIAL: u32 = 100;

/// An error type of this form means a timeout.
const TIMEOUT_TYPE: &str = "TemporalTimeout:";

/// Fills the absent fields of a retry policy and refuses one that makes no sense.
pub(super) fn retry(policy: Option<&mut RetryPolicy>) -> Checked {
    let Some(policy) = policy else {
        return Ok(());
    };
    let negative =
        |d: &Option<prost_types::Duration>| d.is_some_and(|d| d.seconds < 0 || d.nanos < 0);
    if negative(&policy.initial_interval) {
        return refuse("InitialInterval cannot be negative on retry policy.");
    }
    if negative(&policy.maximum_interval) {
        return refuse("MaximumInterval cannot be negative on retry policy.");
    }
    let initial = match time::duration_from_proto(policy.initial_interval.as_ref()) {
        Duration::ZERO => INITIAL_INTERVAL,
        set => set,
    };
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = COEFFICIENT;
    }
    let maximum = match time::duration_from_proto(policy.maximum_interval.as_ref()) {
        Duration::ZERO => initial.saturating_mul(MAXIMUM_OF_INITIAL),
        set => set,
    };
    // A policy of one attempt never waits, so its intervals are not looked at.
    if policy.maximum_attempts != 1 {
        if policy.backoff_coefficient.is_nan() || policy.backoff_coefficient < 1.0 {
            return refuse("BackoffCoefficient cannot be less than 1 on retry policy.");
        }
        if maximum < initial {
            return refuse("MaximumInterval cannot be less than InitialInterval on retry policy.");
        }
        if policy.maximum_attempts < 0 {
            return refuse("MaximumAttempts cannot be negative on retry policy.");
        }
        for kind in &policy.non_retryable_error_types {
            let named = kind.strip_prefix(TIMEOUT_TYPE);
            if named.is_some_and(|name| !is_timeout(name)) {
                return refuse(format!("Invalid timeout type value: {kind}."));
            }
        }
    }
    policy.initial_interval = Some(time::duration_to_proto(initial));
    policy.maximum_interval = Some(time::duration_to_proto(maximum));
    time::cap_duration(policy.initial_interval.as_mut());
    time::cap_duration(policy.maximum_interval.as_mut());
    Ok(())
}

/// Both spellings of the enum are known: `StartToClose` and `TIMEOUT_TYPE_START_TO_CLOSE`.
fn is_timeout(name: &str) -> bool {
    TimeoutType::from_str_name(name).is_some()
        || matches!(
            name,
            "StartToClose" | "ScheduleToStart" | "ScheduleToClose" | "Heartbeat"
        )
}

/// Refuses policies about a taken id that contradict each other, and fills in absent ones. The older way of
/// asking for termination becomes the newer.
pub(super) fn id_policies(
    reuse: &mut i32,
    conflict: &mut i32,
    default: WorkflowIdConflictPolicy,
) -> Checked {
    use WorkflowIdConflictPolicy as Conflict;
    use WorkflowIdReusePolicy as Reuse;
    let (Ok(wanted), Ok(running)) = (Reuse::try_from(*reuse), Conflict::try_from(*conflict)) else {
        return refuse("Invalid WorkflowIDReusePolicy or WorkflowIDConflictPolicy.");
    };
    #[expect(deprecated, reason = "clients still send it")]
    let terminates = wanted == Reuse::TerminateIfRunning;
    if running != Conflict::Unspecified && terminates {
        return refuse(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used \
             together with a WorkflowIDConflictPolicy.",
        );
    }
    if running == Conflict::TerminateExisting && wanted == Reuse::RejectDuplicate {
        return refuse(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used \
             together with WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
        );
    }
    if terminates {
        *reuse = Reuse::AllowDuplicate as i32;
        *conflict = Conflict::TerminateExisting as i32;
        return Ok(());
    }
    if wanted == Reuse::Unspecified {
        *reuse = Reuse::AllowDuplicate as i32;
    }
    if running == Conflict::Unspecified {
        *conflict = default as i32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn text(mut policy: RetryPolicy) -> String {
        retry(Some(&mut policy)).unwrap_err().message().to_owned()
    }

    #[test]
    fn absent_fields_get_their_defaults() {
        let mut policy = RetryPolicy::default();
        retry(Some(&mut policy)).unwrap();
        assert_eq!(policy.initial_interval, seconds(1));
        assert_eq!(policy.maximum_interval, seconds(100));
        assert_eq!(
            (policy.backoff_coefficient, policy.maximum_attempts),
            (2.0, 0)
        );
    }

    #[test]
    fn retry_policies_make_sense() {
        let ok = RetryPolicy {
            initial_interval: seconds(2),
            maximum_interval: seconds(10),
            backoff_coefficient: 1.0,
            non_retryable_error_types: vec!["E".into(), "TemporalTimeout:StartToClose".into()],
            ..Default::default()
        };
        assert!(retry(Some(&mut ok.clone())).is_ok());
        assert_eq!(
            text(RetryPolicy {
                initial_interval: seconds(-1),
                ..ok.clone()
            }),
            "InitialInterval cannot be negative on retry policy."
        );
        assert_eq!(
            text(RetryPolicy {
                maximum_interval: seconds(1),
                ..ok.clone()
            }),
            "MaximumInterval cannot be less than InitialInterval on retry policy."
        );
        assert_eq!(
            text(RetryPolicy {
                backoff_coefficient: 0.5,
                ..ok.clone()
            }),
            "BackoffCoefficient cannot be less than 1 on retry policy."
        );
        assert_eq!(
            text(RetryPolicy {
                maximum_attempts: -1,
                ..ok.clone()
            }),
            "MaximumAttempts cannot be negative on retry policy."
        );
        let unknown = vec!["TemporalTimeout:Never".to_owned()];
        assert_eq!(
            text(RetryPolicy {
                non_retryable_error_types: unknown,
                ..ok.clone()
            }),
            "Invalid timeout type value: TemporalTimeout:Never."
        );
        let once = RetryPolicy {
            maximum_attempts: 1,
            backoff_coefficient: 0.1,
            ..ok
        };
        assert!(retry(Some(&mut once.clone())).is_ok());
    }
}
