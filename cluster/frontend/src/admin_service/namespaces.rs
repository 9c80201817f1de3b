//! Namespaces as peers read them: one by one, and as a queue of changes.

use cluster_rpc::status;
use proto_messages::temporal::server::api::adminservice::v1::{
    GetNamespaceReplicationMessagesRequest, GetNamespaceReplicationMessagesResponse,
    GetNamespaceRequest, GetNamespaceResponse, get_namespace_request::Attributes,
};
use tonic::Status;

use crate::{frontend::Host, refusal};

/// The namespace as stored now.
pub(super) async fn get(
    host: &Host,
    request: GetNamespaceRequest,
) -> Result<GetNamespaceResponse, Status> {
    let found = match request.attributes {
        Some(Attributes::Namespace(name)) if !name.is_empty() => {
            host.manager.get(&name.into()).await
        }
        Some(Attributes::Id(id)) if !id.is_empty() => host.manager.get_by_id(&id.into()).await,
        _ => return Err(status::invalid_argument("Namespace not set on request.")),
    };
    let namespace = found.map_err(refusal::of_change)?;
    Ok(GetNamespaceResponse {
        info: Some(namespace.info()),
        config: Some(namespace.config()),
        replication_config: Some(namespace.replication_config()),
        config_version: namespace.config_version,
        failover_version: namespace.failover_version.get(),
        failover_history: namespace.failover_statuses(),
        is_global_namespace: namespace.is_global,
    })
}

/// Changes of namespaces for a cluster; `store_id` is the cluster id it told, with which a new store is known.
pub(super) async fn messages(
    host: &Host,
    request: GetNamespaceReplicationMessagesRequest,
    store_id: Option<String>,
) -> Result<GetNamespaceReplicationMessagesResponse, Status> {
    if request.cluster_name.is_empty() {
        return Err(status::invalid_argument(
            "ClusterName is not set on request.",
        ));
    }
    let (retrieved, processed) = (
        request.last_retrieved_message_id,
        request.last_processed_message_id,
    );
    let consumer = request.cluster_name.into();
    let pulled = host
        .outbox
        .pull(&consumer, store_id.as_deref(), retrieved, processed);
    let messages = pulled.await;
    Ok(GetNamespaceReplicationMessagesResponse {
        messages: Some(messages.map_err(refusal::of_queue)?),
    })
}
