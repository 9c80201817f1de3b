//! Connecting clusters. The operator's service and the admin service offer the same, one for the stock
//! command line and one for older tools.

use std::sync::Arc;

use bytes::Bytes;
use cluster_rpc::status;
use namespaces::{ClusterInfo, Namespace};
use tonic::Status;

use crate::{frontend::Host, refusal};

/// Clusters of a page, by default.
const PAGE: usize = 100;

/// A remote cluster as an operator wants it.
pub(crate) struct Connection {
    pub(crate) address: String,
    pub(crate) connect: bool,
    pub(crate) replicate: bool,
}

/// A page of the directory.
pub(crate) struct Page {
    pub(crate) clusters: Vec<Arc<ClusterInfo>>,
    pub(crate) next_page_token: Bytes,
}

/// Asks the cluster at the address who it is and puts it into the directory.
pub(crate) async fn connect(host: &Host, wanted: Connection) -> Result<(), Status> {
    if wanted.address.is_empty() {
        return Err(status::invalid_argument(
            "FrontendAddress is not set on request.",
        ));
    }
    let said = host.remotes.describe(&wanted.address).await?;
    let remote = ClusterInfo::described(said, wanted.address, wanted.connect, wanted.replicate);
    host.clusters
        .upsert(remote)
        .await
        .map_err(refusal::of_change)
}

pub(crate) async fn remove(host: &Host, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(status::invalid_argument(
            "ClusterName is not set on request.",
        ));
    }
    // As stored now: a namespace that another host has just spread must be seen.
    host.registry.refresh().await.map_err(refusal::of_store)?;
    let namespaces: Vec<Arc<Namespace>> = host.registry.all();
    let all = namespaces.iter().map(AsRef::as_ref);
    host.clusters
        .remove(&name.into(), all)
        .await
        .map_err(refusal::of_change)
}

/// Clusters by name, after the one that the token names.
pub(crate) fn page(host: &Host, size: i32, token: &Bytes) -> Result<Page, Status> {
    let size = usize::try_from(size)
        .ok()
        .filter(|s| *s > 0)
        .unwrap_or(PAGE);
    let after = std::str::from_utf8(token)
        .map_err(|_| status::invalid_argument("Invalid NextPageToken."))?;
    let all = host.clusters.all();
    let mut rest = all
        .into_iter()
        .filter(|c| c.name.as_str() > after)
        .peekable();
    let clusters: Vec<_> = rest.by_ref().take(size).collect();
    let next_page_token = match (rest.peek(), clusters.last()) {
        (Some(_), Some(last)) => Bytes::copy_from_slice(last.name.as_str().as_bytes()),
        _ => Bytes::new(),
    };
    Ok(Page {
        clusters,
        next_page_token,
    })
}
