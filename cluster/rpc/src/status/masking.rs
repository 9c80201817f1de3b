//! What of a status may leave the cluster.

use std::hash::{DefaultHasher, Hash, Hasher};

use tonic::{Code, Status};

use super::is_shard_ownership_lost;

/// Texts longer than this are cut.
const TEXT_BYTES_MAX: usize = 4_000;

/// Whether texts that may tell of the server's inside reach clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masking {
    /// Replaced by a hash that is also in the log.
    #[default]
    Masked,
    /// As they are.
    Open,
}

/// The status as a client of the public API gets it: internal texts masked (and logged), long ones cut,
/// loss of a shard or of data shown as UNAVAILABLE. Other details and headers stay.
pub fn for_clients(status: Status, masking: Masking) -> Status {
    let code = match status.code() {
        Code::DataLoss => Code::Unavailable,
        Code::Aborted if is_shard_ownership_lost(&status) => Code::Unavailable,
        code => code,
    };
    let is_inside = matches!(code, Code::Internal | Code::Unknown);
    let text = if is_inside && masking == Masking::Masked {
        let mut hasher = DefaultHasher::new();
        status.message().hash(&mut hasher);
        let hash = format!("{:08x}", hasher.finish() as u32);
        tracing::error!(hash, code = ?code, error = status.message(), "call failed inside the server");
        return Status::new(code, format!("something went wrong, please retry ({hash})"));
    } else {
        cut(status.message())
    };
    if code == status.code() && text.len() == status.message().len() {
        return status;
    }
    let details = if code == status.code() {
        status.details().to_vec()
    } else {
        Vec::new()
    };
    Status::with_details_and_metadata(code, text, details.into(), status.metadata().clone())
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
