//! Sizes of payloads.

use prost::Message;
use tonic::Status;

use super::{Checked, refuse};
use crate::limits::{self, Limits};

/// Whether a payload-carrying field is within its limit.
pub(crate) fn fits<M: Message>(field: Option<&M>, limits: Limits<'_>) -> bool {
    field.is_none_or(|f| f.encoded_len() <= limits.get(&limits::BLOB_SIZE))
}

/// Refuses a payload-carrying field that is too large.
pub(crate) fn blob<M: Message>(field: Option<&M>, limits: Limits<'_>) -> Checked {
    match fits(field, limits) {
        true => Ok(()),
        false => refuse("Blob data size exceeds limit."),
    }
}

/// Refuses a memo that is too large.
pub(crate) fn memo<M: Message>(memo: Option<&M>, limits: Limits<'_>) -> Result<(), Status> {
    if memo.is_some_and(|m| m.encoded_len() > limits.get(&limits::MEMO_SIZE)) {
        return refuse("Memo size exceeds limit.");
    }
    Ok(())
}
