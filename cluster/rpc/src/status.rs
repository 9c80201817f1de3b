//! The one place where gRPC statuses with details are made and read. SDKs act on the code and on the
//! *first* detail only; both, and the texts that SDKs and tools compare, come from the closed list of
//! constructors here. `grpc-status-details-bin` holds a `google.rpc.Status`.

use bytes::Bytes;
use prost::{Message, Name};
use prost_types::Any;
use proto_messages::google::rpc;
use tonic::{Code, Status};

mod masking;
mod peers;
mod refusals;

pub use masking::{Masking, for_clients};
pub use peers::{
    current_branch_changed, is_shard_ownership_lost, is_sticky_worker_unavailable,
    retry_replication, shard_ownership_lost, sticky_worker_unavailable,
};
pub use refusals::*;

const TYPE_PREFIX: &str = "type.googleapis.com/";

/// A status whose first and only detail is `detail`.
pub fn with_detail<T: Message + Name>(code: Code, text: impl Into<String>, detail: &T) -> Status {
    with_details(code, text, vec![any(detail)])
}

/// A status with these details, in this order.
pub fn with_details(code: Code, text: impl Into<String>, details: Vec<Any>) -> Status {
    let message = text.into();
    let wire = rpc::Status {
        code: code as i32,
        message: message.clone(),
        details,
    };
    Status::with_details(code, message, Bytes::from(wire.encode_to_vec()))
}

/// The message packed with its type's name.
pub fn any<T: Message + Name>(message: &T) -> Any {
    Any {
        type_url: format!("{TYPE_PREFIX}{}", T::full_name()),
        value: message.encode_to_vec(),
    }
}

/// The message, when the packed one is of this type.
pub fn unpack<T: Message + Name + Default>(any: &Any) -> Option<T> {
    let name = any.type_url.rsplit('/').next()?;
    if name != T::full_name() {
        return None;
    }
    T::decode(any.value.as_slice()).ok()
}

/// The status' first detail of this type.
pub fn decode_detail<T: Message + Name + Default>(status: &Status) -> Option<T> {
    details(status).iter().find_map(unpack)
}

/// All details of the status; none when there are none or they cannot be read.
pub fn details(status: &Status) -> Vec<Any> {
    if status.details().is_empty() {
        return Vec::new();
    }
    rpc::Status::decode(status.details())
        .map(|s| s.details)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
