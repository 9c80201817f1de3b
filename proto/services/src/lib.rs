//! gRPC traits, servers and clients for the public API, the services a peer cluster calls, and this project's
//! internal history and matching services. An RPC that is not implemented answers UNIMPLEMENTED.
#![allow(clippy::all, missing_docs)]

mod call;

include!(concat!(env!("OUT_DIR"), "/services.rs"));

/// Opens a replication stream as its receiver reads it: tasks stay encoded, and each is decoded by itself.
pub async fn stream_encoded_replication_messages(
    channel: tonic::transport::Channel,
    bytes_max: usize,
    request: tonic::Request<
        impl futures_core::Stream<
            Item = proto_messages::temporal::server::api::adminservice::v1::StreamWorkflowReplicationMessagesRequest,
        > + Send
        + 'static,
    >,
) -> Result<
    tonic::Response<
        tonic::Streaming<proto_messages::meridian::replication::v1::EncodedReplicationResponse>,
    >,
    tonic::Status,
> {
    let path =
        "/temporal.server.api.adminservice.v1.AdminService/StreamWorkflowReplicationMessages";
    let mut caller = call::client::Caller::new(channel).max_decoding_message_size(bytes_max);
    caller.streaming(path, request).await
}
