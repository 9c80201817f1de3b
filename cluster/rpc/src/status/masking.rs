//! Masking of statuses that leave the cluster.

use std::hash::{DefaultHasher, Hash, Hasher};

use tonic::{Code, Status};

use super::is_shard_ownership_lost;

/// Texts longer than this are cut, as counted on the wire. Clients end calls whose headers are longer than 8 KiB,
/// and a text stands there twice: as it is, and in the details.
const TEXT_BYTES_MAX: usize = 2_400;

/// Whether texts that may reveal the server's inside reach clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masking {
    /// Replaced by a hash that is also in the log.
    #[default]
    Masked,
    /// Texts stay as they are.
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
        tracing::error!(hash, code = ?code, error = cut(status.message()), "call failed inside the server");
        return Status::new(code, format!("something went wrong, please retry ({hash})"));
    } else {
        cut(status.message())
    };
    if code == status.code() && text.len() == status.message().len() {
        return status;
    }
    let details = super::details(&status);
    let mut shown = match details.is_empty() || code != status.code() {
        true => Status::new(code, text),
        false => super::with_details(code, text, details),
    };
    *shown.metadata_mut() = status.metadata().clone();
    shown
}

/// The part of the text that may be sent. A byte that is not printable ASCII takes three.
fn cut(text: &str) -> &str {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += match c {
            ' '..='~' if c != '%' => 1,
            _ => 3 * c.len_utf8(),
        };
        if bytes > TEXT_BYTES_MAX {
            return &text[..at];
        }
    }
    text
}
