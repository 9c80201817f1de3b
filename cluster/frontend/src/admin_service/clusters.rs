//! This cluster as peers see it, and the clusters and processes it knows.

use cluster_membership::{Member, Role};
use cluster_rpc::status;
use proto_messages::temporal::{
    api::version::v1::VersionInfo,
    server::api::{
        adminservice::v1::{
            DescribeClusterRequest, DescribeClusterResponse, ListClusterMembersRequest,
            ListClusterMembersResponse, ListClustersRequest, ListClustersResponse,
        },
        cluster::v1::{ClusterMember, HostInfo, MembershipInfo, RingInfo},
        enums::v1::ClusterMemberRole,
        persistence::v1::ClusterMetadata,
    },
};
use tonic::Status;

use crate::{
    frontend::Host,
    operator_service::clusters as directory,
    versions::SERVER_VERSION,
    workflow_service::{supported_clients, version_info},
};

/// Another cluster, or this one when none is named. A peer reads this before it connects.
pub(super) async fn describe(
    host: &Host,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Status> {
    let current = host.clusters.current();
    let name = request.cluster_name;
    let is_current = name.is_empty() || name == current.name.as_str();
    let cluster = match is_current {
        true => current,
        false => host
            .clusters
            .get(&name.as_str().into())
            .ok_or_else(|| status::not_found(format!("cluster metadata not found for {name}")))?,
    };
    let (membership_info, info): (_, VersionInfo) = match is_current {
        true => (Some(membership(host)), version_info()),
        false => (None, VersionInfo::default()),
    };
    Ok(DescribeClusterResponse {
        supported_clients: supported_clients(),
        server_version: SERVER_VERSION.to_owned(),
        membership_info,
        cluster_id: cluster.cluster_id.clone(),
        cluster_name: cluster.name.to_string(),
        history_shard_count: cluster.shard_count,
        persistence_store: host.about.persistence_store.clone(),
        visibility_store: host.about.visibility_store.clone(),
        version_info: Some(info),
        failover_version_increment: cluster.failover_version_increment,
        initial_failover_version: cluster.initial_failover_version,
        is_global_namespace_enabled: cluster.is_global_namespace_enabled,
        tags: cluster.tags.clone(),
        http_address: cluster.http_address.clone(),
    })
}

pub(super) async fn list(
    host: &Host,
    request: ListClustersRequest,
) -> Result<ListClustersResponse, Status> {
    let page = directory::page(host, request.page_size, &request.next_page_token)?;
    let told = page.clusters.iter().map(|c| ClusterMetadata {
        cluster_name: c.name.to_string(),
        history_shard_count: c.shard_count,
        cluster_id: c.cluster_id.clone(),
        cluster_address: c.address.clone(),
        failover_version_increment: c.failover_version_increment,
        initial_failover_version: c.initial_failover_version,
        is_global_namespace_enabled: c.is_global_namespace_enabled,
        is_connection_enabled: c.connection_enabled,
        use_cluster_id_membership: true,
        tags: c.tags.clone(),
        http_address: c.http_address.clone(),
        is_replication_enabled: c.replication_enabled,
        ..Default::default()
    });
    Ok(ListClustersResponse {
        clusters: told.collect(),
        next_page_token: page.next_page_token,
    })
}

/// The processes in the rings, in one page: there are few.
pub(super) async fn members(
    host: &Host,
    request: ListClusterMembersRequest,
) -> Result<ListClusterMembersResponse, Status> {
    let mut found = Vec::new();
    for role in Role::ALL {
        let number = number_of(role) as i32;
        if request.role != 0 && request.role != number {
            continue;
        }
        let ring = host.membership.ring(role);
        let told = ring.members().filter_map(|m| told(m, role));
        let wanted = |m: &ClusterMember| {
            (request.host_id.is_empty() || request.host_id == m.host_id)
                && (request.rpc_address.is_empty() || request.rpc_address == m.rpc_address)
        };
        found.extend(told.filter(wanted));
    }
    Ok(ListClusterMembersResponse {
        active_members: found,
        ..Default::default()
    })
}

fn told(member: &Member, role: Role) -> Option<ClusterMember> {
    let at = member.rpc(role)?;
    Some(ClusterMember {
        role: number_of(role) as i32,
        host_id: member.id.clone(),
        rpc_address: at.ip().to_string(),
        rpc_port: at.port().into(),
        ..Default::default()
    })
}

fn number_of(role: Role) -> ClusterMemberRole {
    match role {
        Role::Frontend => ClusterMemberRole::Frontend,
        Role::History => ClusterMemberRole::History,
        Role::Matching => ClusterMemberRole::Matching,
        Role::Worker => ClusterMemberRole::Worker,
    }
}

fn membership(host: &Host) -> MembershipInfo {
    let of = |role: Role| -> Vec<HostInfo> {
        let ring = host.membership.ring(role);
        let hosts = ring.members().filter_map(|m| m.rpc(role));
        hosts
            .map(|at| HostInfo {
                identity: at.to_string(),
            })
            .collect()
    };
    let rings: Vec<_> = Role::ALL
        .into_iter()
        .map(|role| {
            let members = of(role);
            RingInfo {
                role: role.to_string(),
                member_count: i32::try_from(members.len()).unwrap_or(i32::MAX),
                members,
            }
        })
        .collect();
    let mut reachable: Vec<_> = rings
        .iter()
        .flat_map(|r| r.members.iter().map(|m| m.identity.clone()))
        .collect();
    reachable.sort();
    reachable.dedup();
    let me = host.membership.me();
    let current = me
        .rpc(Role::Frontend)
        .map_or_else(|| me.id.clone(), |at| at.to_string());
    MembershipInfo {
        current_host: Some(HostInfo { identity: current }),
        reachable_members: reachable,
        rings,
    }
}
