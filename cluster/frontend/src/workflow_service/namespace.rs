//! The namespace RPCs. They are always served here: any cluster may change a namespace, and the others
//! hear of it.

use cluster_rpc::status;
use namespaces::{
    Archival, Namespace,
    rules::{Registration, ReplicationChange, Update},
};
use proto_ids::ClusterName;
use proto_messages::{
    temporal::api::{
        enums::v1::{ArchivalState, NamespaceState, ReplicationState},
        namespace::v1::namespace_info::{Capabilities, Limits as ApiLimits},
        replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig},
        workflowservice::v1::{
            DeprecateNamespaceRequest, DeprecateNamespaceResponse, DescribeNamespaceRequest,
            DescribeNamespaceResponse, ListNamespacesRequest, ListNamespacesResponse,
            RegisterNamespaceRequest, RegisterNamespaceResponse, UpdateNamespaceRequest,
            UpdateNamespaceResponse,
        },
    },
    time,
};
use tonic::Status;

use crate::{frontend::Host, limits, refusal, validate};

/// Namespaces of a page, and the default.
const PAGE: i32 = 100;

pub(super) async fn register(
    host: &Host,
    request: RegisterNamespaceRequest,
) -> Result<RegisterNamespaceResponse, Status> {
    check_name(host, &request.namespace)?;
    no_archival(
        request.history_archival_state,
        request.visibility_archival_state,
    )?;
    let mut retention = request.workflow_execution_retention_period;
    time::cap_duration(retention.as_mut());
    let wanted = Registration {
        name: request.namespace.into(),
        description: request.description,
        owner_email: request.owner_email,
        data: request.data,
        retention: time::duration_from_proto(retention.as_ref()),
        archival: Archival {
            history_state: request.history_archival_state,
            history_uri: request.history_archival_uri,
            visibility_state: request.visibility_archival_state,
            visibility_uri: request.visibility_archival_uri,
        },
        is_global: request.is_global_namespace,
        active_cluster: request.active_cluster_name.into(),
        clusters: names(request.clusters),
    };
    host.manager
        .register(wanted)
        .await
        .map_err(refusal::of_change)?;
    Ok(RegisterNamespaceResponse {})
}

pub(super) async fn describe(
    host: &Host,
    request: DescribeNamespaceRequest,
) -> Result<DescribeNamespaceResponse, Status> {
    let (name, id) = (request.namespace, request.id);
    validate::length("Id", &id, host.limits(&name))?;
    let namespace = match (name.is_empty(), id.is_empty()) {
        (false, false) => {
            return Err(status::invalid_argument(
                "Only one of namespace name or Id should be set on request.",
            ));
        }
        (true, true) => return Err(status::invalid_argument("Namespace not set on request.")),
        (false, true) if request.weak_consistency => host.namespace_named(&name).await?,
        (false, true) => {
            check_name(host, &name)?;
            let found = host.manager.get(&name.into()).await;
            found.map_err(refusal::of_change)?
        }
        (true, false) if request.weak_consistency => {
            let found = host.registry.resolve_id(&id.as_str().into()).await;
            let found = found.map_err(refusal::of_store)?;
            found.ok_or_else(|| status::namespace_not_found(&id))?
        }
        (true, false) => {
            let found = host.manager.get_by_id(&id.into()).await;
            found.map_err(refusal::of_change)?
        }
    };
    Ok(described(host, &namespace))
}

pub(super) async fn list(
    host: &Host,
    request: ListNamespacesRequest,
) -> Result<ListNamespacesResponse, Status> {
    let size = if request.page_size <= 0 {
        PAGE
    } else {
        request.page_size
    };
    let size = usize::try_from(size).unwrap_or(1);
    let token = String::from_utf8(request.next_page_token.to_vec())
        .map_err(|_| status::invalid_argument("Invalid NextPageToken."))?;
    validate::storable("NextPageToken", &token)?;
    let after = (!token.is_empty()).then(|| token.into());
    let page = host
        .manager
        .list(after, size)
        .await
        .map_err(refusal::of_change)?;
    let next = match page.last() {
        Some(last) if page.len() == size => last.name.to_string(),
        _ => String::new(),
    };
    let deleted_too = request.namespace_filter.is_some_and(|f| f.include_deleted);
    let shown = page.iter().filter(|n| deleted_too || !n.is_deleted());
    Ok(ListNamespacesResponse {
        namespaces: shown.map(|n| described(host, n)).collect(),
        next_page_token: next.into(),
    })
}

pub(super) async fn update(
    host: &Host,
    request: UpdateNamespaceRequest,
) -> Result<UpdateNamespaceResponse, Status> {
    check_name(host, &request.namespace)?;
    if let Some(config) = &request.config {
        no_archival(
            config.history_archival_state,
            config.visibility_archival_state,
        )?;
        if !config.custom_search_attribute_aliases.is_empty() {
            return Err(status::invalid_argument(
                "custom_search_attribute_aliases: this server has no custom search attributes",
            ));
        }
    }
    let info = request.update_info.unwrap_or_default();
    let replication = request.replication_config.unwrap_or_default();
    let wanted = Update {
        state: NamespaceState::try_from(info.state)
            .map_err(|_| status::invalid_argument("Invalid namespace state update."))?,
        description: info.description,
        owner_email: info.owner_email,
        data: info.data,
        config: request.config,
        delete_bad_binary: request.delete_bad_binary,
        replication: replication_change(replication)?,
        promote: request.promote_namespace,
    };
    let name = request.namespace.into();
    let namespace = host
        .manager
        .update(&name, wanted)
        .await
        .map_err(refusal::of_change)?;
    let told = described(host, &namespace);
    Ok(UpdateNamespaceResponse {
        namespace_info: told.namespace_info,
        config: told.config,
        replication_config: told.replication_config,
        failover_version: told.failover_version,
        is_global_namespace: told.is_global_namespace,
    })
}

pub(super) async fn deprecate(
    host: &Host,
    request: DeprecateNamespaceRequest,
) -> Result<DeprecateNamespaceResponse, Status> {
    check_name(host, &request.namespace)?;
    let name = request.namespace.into();
    host.manager
        .deprecate(&name)
        .await
        .map_err(refusal::of_change)?;
    Ok(DeprecateNamespaceResponse {})
}

/// The namespace as clients are told about it. Workers act on the capabilities.
pub(crate) fn described(host: &Host, namespace: &Namespace) -> DescribeNamespaceResponse {
    let limits = host.limits(namespace.name.as_str());
    let of = |key| i64::try_from(limits.get(key)).unwrap_or(i64::MAX);
    let mut info = namespace.info();
    info.capabilities = Some(Capabilities {
        eager_workflow_start: true,
        ..Default::default()
    });
    info.limits = Some(ApiLimits {
        blob_size_limit_error: of(&limits::BLOB_SIZE),
        memo_size_limit_error: of(&limits::MEMO_SIZE),
        ..Default::default()
    });
    DescribeNamespaceResponse {
        namespace_info: Some(info),
        config: Some(namespace.config()),
        replication_config: Some(namespace.replication_config()),
        failover_version: namespace.failover_version.get(),
        is_global_namespace: namespace.is_global,
        failover_history: namespace.failover_statuses(),
        ..Default::default()
    }
}

fn replication_change(config: NamespaceReplicationConfig) -> Result<ReplicationChange, Status> {
    let handover = match ReplicationState::try_from(config.state) {
        Ok(ReplicationState::Unspecified) => None,
        Ok(ReplicationState::Normal) => Some(false),
        Ok(ReplicationState::Handover) => Some(true),
        Err(_) => return Err(status::invalid_argument("Invalid replication state.")),
    };
    Ok(ReplicationChange {
        active_cluster: config.active_cluster_name.into(),
        clusters: names(config.clusters),
        handover,
        ..Default::default()
    })
}

fn names(clusters: Vec<ClusterReplicationConfig>) -> Vec<ClusterName> {
    clusters
        .into_iter()
        .map(|c| c.cluster_name.into())
        .collect()
}

/// Refuses archival, which would otherwise be shown as enabled while runs are deleted for good.
fn no_archival(history: i32, visibility: i32) -> Result<(), Status> {
    for (what, state) in [("history", history), ("visibility", visibility)] {
        if state == ArchivalState::Enabled as i32 {
            return Err(status::invalid_argument(format!(
                "{what}_archival_state: this server does not archive"
            )));
        }
    }
    Ok(())
}

fn check_name(host: &Host, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(status::invalid_argument("Namespace not set on request."));
    }
    if name.len() > host.limits(name).get(&limits::ID_LENGTH) {
        return Err(status::invalid_argument("Namespace length exceeds limit."));
    }
    validate::storable("Namespace", name)
}
