//! Messages to bytes and back, compiled here. `prost::Message` is generic over the buffer, so that every crate that
//! reads or writes a message compiles the code of that message, and of all messages in it, again.

use bytes::{Bytes, BytesMut};
use prost::{DecodeError, Message};

/// A message that is read from and written to one kind of buffer.
pub trait Wire: Message + Default + 'static {
    /// Reads it. Fields of type `bytes` are slices of the buffer, which lives as long as they do.
    fn from_wire(bytes: Bytes) -> Result<Self, DecodeError>;

    /// Writes it.
    fn to_wire(&self) -> Bytes;
}

pub(crate) fn encode<M: Message>(message: &M) -> Bytes {
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// Implements [`Wire`] for a message. Whatever a method takes or answers has it from the generator.
macro_rules! wire {
    ($message:ty) => {
        impl crate::Wire for $message {
            #[inline(never)]
            fn from_wire(bytes: ::bytes::Bytes) -> Result<Self, ::prost::DecodeError> {
                ::prost::Message::decode(bytes)
            }

            #[inline(never)]
            fn to_wire(&self) -> ::bytes::Bytes {
                crate::wire::encode(self)
            }
        }
    };
}

wire!(crate::temporal::api::common::v1::Memo);
wire!(crate::temporal::api::common::v1::SearchAttributes);
wire!(crate::temporal::api::history::v1::History);
wire!(crate::temporal::api::history::v1::HistoryEvent);
wire!(crate::temporal::server::api::persistence::v1::ReplicationTaskInfo);
wire!(crate::temporal::server::api::replication::v1::ReplicationTask);
wire!(crate::meridian::replication::v1::DeadLetter);
wire!(crate::meridian::replication::v1::EncodedReplicationResponse);
wire!(crate::meridian::replication::v1::EncodedReplicationTask);
