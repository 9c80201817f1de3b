//! The way of a call through gRPC, once for all methods: messages cross it as bytes, and are encoded and decoded
//! at its ends, where `proto-messages` knows how.

pub(crate) mod client;
pub(crate) mod server;

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use proto_messages::Wire;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Messages that are bytes already.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        // A slice of what was received, not a copy.
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Messages of streams.
struct Streamed<E, D>(PhantomData<fn(E) -> D>);

impl<E, D> Default for Streamed<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Wire, D: Wire> Codec for Streamed<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<E: Wire, D: Wire> Encoder for Streamed<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Raw.encode(item.to_wire(), to)
    }
}

impl<E: Wire, D: Wire> Decoder for Streamed<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let bytes = Raw.decode(from)?;
        bytes.map(D::from_wire).transpose().map_err(unreadable)
    }
}

/// An answer, or a message of a stream, that cannot be read is INTERNAL by the rules of gRPC.
fn unreadable(error: proto_messages::DecodeError) -> Status {
    Status::internal(shortened(error.to_string()))
}

/// A request that cannot be read is its sender's fault: text that is not UTF-8, messages nested deeper than can
/// be carried. grpc-go says INTERNAL, which clients take for a defect of the server and try again. The text
/// names the fields on the way to the fault.
fn unreadable_request(error: proto_messages::DecodeError) -> Status {
    Status::invalid_argument(shortened(format!("request cannot be read: {error}")))
}

/// Bytes of a status's text. A fault in a deep message names every level; headers have to fit clients' limits.
const TEXT_MAX: usize = 1_024;
/// Bytes kept of its end, where the fault itself is named.
const END_MAX: usize = 256;

/// Leaves out the middle of a text that is too long.
fn shortened(text: String) -> String {
    const GAP: &str = " ... ";
    if text.len() <= TEXT_MAX {
        return text;
    }
    let start = text.floor_char_boundary(TEXT_MAX - END_MAX - GAP.len());
    let end = text.ceil_char_boundary(text.len() - END_MAX);
    format!("{}{GAP}{}", &text[..start], &text[end..])
}
