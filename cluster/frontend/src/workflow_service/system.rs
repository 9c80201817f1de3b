//! GetSystemInfo, GetClusterInfo and GetSearchAttributes: what clients ask before anything else. A
//! capability is true only when what it promises is built.

use proto_messages::temporal::api::{
    version::v1::{ReleaseInfo, VersionInfo},
    workflowservice::v1::{
        GetClusterInfoRequest, GetClusterInfoResponse, GetSearchAttributesRequest,
        GetSearchAttributesResponse, GetSystemInfoRequest, GetSystemInfoResponse,
        get_system_info_response::Capabilities,
    },
};
use tonic::Status;

use crate::{
    attributes,
    frontend::Host,
    versions::{SERVER_VERSION, SUPPORTED_CLIENTS},
};

pub(super) async fn get_system_info(
    _host: &Host,
    _request: GetSystemInfoRequest,
) -> Result<GetSystemInfoResponse, Status> {
    let capabilities = Capabilities {
        signal_and_query_header: true,
        internal_error_differentiation: true,
        activity_failure_include_heartbeat: true,
        supports_schedules: false,
        encoded_failure_attributes: true,
        // Workers may say which build they are, but tasks are not routed by it.
        build_id_based_versioning: false,
        upsert_memo: true,
        eager_workflow_start: true,
        sdk_metadata: true,
        count_group_by_execution_status: true,
        nexus: false,
        ..Default::default()
    };
    Ok(GetSystemInfoResponse {
        server_version: SERVER_VERSION.to_owned(),
        capabilities: Some(capabilities),
    })
}

pub(super) async fn get_cluster_info(
    host: &Host,
    _request: GetClusterInfoRequest,
) -> Result<GetClusterInfoResponse, Status> {
    let current = host.clusters.current();
    Ok(GetClusterInfoResponse {
        supported_clients: supported_clients(),
        server_version: SERVER_VERSION.to_owned(),
        cluster_id: current.cluster_id.clone(),
        version_info: Some(version_info()),
        cluster_name: current.name.to_string(),
        history_shard_count: current.shard_count,
        persistence_store: host.about.persistence_store.clone(),
        visibility_store: host.about.visibility_store.clone(),
        initial_failover_version: current.initial_failover_version,
        failover_version_increment: current.failover_version_increment,
    })
}

pub(super) async fn get_search_attributes(
    _host: &Host,
    _request: GetSearchAttributesRequest,
) -> Result<GetSearchAttributesResponse, Status> {
    Ok(GetSearchAttributesResponse {
        keys: attributes::system(),
    })
}

pub(crate) fn supported_clients() -> std::collections::HashMap<String, String> {
    let clients = SUPPORTED_CLIENTS.iter();
    clients
        .map(|(n, r)| ((*n).to_owned(), (*r).to_owned()))
        .collect()
}

pub(crate) fn version_info() -> VersionInfo {
    let release = ReleaseInfo {
        version: SERVER_VERSION.to_owned(),
        notes: format!("Meridian {}", env!("CARGO_PKG_VERSION")),
        ..Default::default()
    };
    VersionInfo {
        current: Some(release),
        ..Default::default()
    }
}
