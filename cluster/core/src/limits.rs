//! Limits of a run, with the texts clients compare.

use proto_messages::temporal::api::{
    enums::v1::SuggestContinueAsNewReason,
    failure::v1::{Failure, ServerFailureInfo, failure::FailureInfo},
};
use smallvec::SmallVec;

use crate::{Limits, MutableState, Refusal};

/// The identity of decisions that the server makes by itself.
pub const SERVER: &str = "history-service";

/// The identity under which a reset ends the run that it replaces.
pub const RESETTER: &str = "history-resetter";

const COUNT: &str = "Workflow history count exceeds limit.";
const SIZE: &str = "Workflow history size exceeds limit.";

impl MutableState {
    /// Refuses to grow a history that is at its limit; the caller terminates the run.
    pub(crate) fn check_room(&self, limits: &Limits) -> Result<(), Refusal> {
        let count = self.execution_info.next_event_id.get() - 1 + self.buffered.len() as i64;
        let text = if count >= limits.history_count_error {
            COUNT
        } else if self.execution_info.history_size >= limits.history_size_error {
            SIZE
        } else {
            return Ok(());
        };
        Err(Refusal::HistoryLimitExceeded(Box::new(server_failure(
            text.to_owned(),
            true,
        ))))
    }

    /// Why the worker should continue the run as new, if it should.
    pub(crate) fn suggests_continue_as_new(&self, limits: &Limits) -> SmallVec<[i32; 4]> {
        let mut reasons = SmallVec::new();
        if self.execution_info.history_size >= limits.history_size_suggest_continue_as_new {
            reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge.into());
        }
        if self.execution_info.next_event_id.get() > limits.history_count_suggest_continue_as_new {
            reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents.into());
        }
        reasons
    }
}

/// A failure the server itself states.
pub(crate) fn server_failure(message: String, non_retryable: bool) -> Failure {
    Failure {
        message,
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo {
            non_retryable,
        })),
        ..Default::default()
    }
}
