//! TLS groups, checked so that none of them can mean plaintext by an omission.

use std::{collections::BTreeMap, path::Path};

use cluster_membership::Role;

use super::{
    ConfigError, RoleAddress, TlsConfig,
    file::{self, TlsClient, TlsGroup, TlsServer, Unused},
    node::duration,
};

/// The entry that stands for all remote clusters.
pub(crate) const ANY: &str = "*";

pub(super) fn tls(
    tls: Option<file::Tls>,
    roles: &BTreeMap<Role, RoleAddress>,
) -> Result<TlsConfig, ConfigError> {
    let tls = tls.unwrap_or_default();
    if let Some(group) = &tls.internode {
        internode(group)?;
    }
    if let Some(group) = &tls.frontend {
        server("global.tls.frontend.server", &group.server)?;
        client("global.tls.frontend.client", &group.client)?;
        no_overrides("global.tls.frontend", group)?;
        listens("global.tls.frontend", group)?;
    }
    let peer_port = roles.get(&Role::Frontend).and_then(|r| r.peer);
    match (&tls.peer, peer_port) {
        (Some(group), Some(_)) => {
            server("global.tls.peer.server", &group.server)?;
            client("global.tls.peer.client", &group.client)?;
            no_overrides("global.tls.peer", group)?;
            listens("global.tls.peer", group)?;
        }
        (Some(_), None) => {
            return Err(ConfigError::value(
                "services.frontend.rpc.peerPort",
                "is missing: global.tls.peer is for that port, which other clusters use",
            ));
        }
        (None, _) => {}
    }
    if let Some(at) = peer_port
        && !at.ip().is_loopback()
        && !tls
            .peer
            .as_ref()
            .is_some_and(|g| g.server.require_client_auth)
    {
        return Err(ConfigError::value(
            "global.tls.peer.server.requireClientAuth",
            format!(
                "has to be true: the port for other clusters, {at}, can be reached by other machines, and who calls there has to prove who it is"
            ),
        ));
    }
    for (host, group) in &tls.remote_clusters {
        remote(host, group)?;
    }
    Ok(TlsConfig {
        refresh: duration(
            "global.tls.refreshInterval",
            tls.refresh_interval.as_deref(),
        )?,
        internode: tls.internode,
        frontend: tls.frontend,
        peer: tls.peer,
        remotes: tls.remote_clusters,
    })
}

/// Certificates given as text would stay in memory and in messages; they are read from files.
pub(super) fn refuse_inline(key: &str, data: &[(&str, Unused)]) -> Result<(), ConfigError> {
    match data.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(ConfigError::value(
            format!("{key}.{name}"),
            "is not supported; write it to a file and name that",
        )),
        None => Ok(()),
    }
}

fn given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn pair(key: &str, certificate: &Path, private: &Path) -> Result<(), ConfigError> {
    match given(certificate) == given(private) {
        true => Ok(()),
        false => Err(ConfigError::value(key, "certFile and keyFile go together")),
    }
}

fn server(key: &str, server: &TlsServer) -> Result<(), ConfigError> {
    refuse_inline(
        key,
        &[
            ("certData", server.cert_data),
            ("keyData", server.key_data),
            ("clientCaData", server.client_ca_data),
        ],
    )?;
    pair(key, &server.cert_file, &server.key_file)?;
    if server.require_client_auth && server.client_ca_files.is_empty() {
        return Err(ConfigError::value(
            format!("{key}.clientCaFiles"),
            "has to name the CAs of client certificates, since requireClientAuth is set",
        ));
    }
    let asks = server.require_client_auth || !server.client_ca_files.is_empty();
    if asks && !given(&server.cert_file) {
        return Err(ConfigError::value(
            format!("{key}.certFile"),
            "is missing: client certificates can only be asked for where TLS is served",
        ));
    }
    if !server.client_ca_files.is_empty() && !server.require_client_auth {
        return Err(ConfigError::value(
            format!("{key}.requireClientAuth"),
            "has to be true where clientCaFiles are named; without it nobody would be asked for a certificate",
        ));
    }
    Ok(())
}

fn client(key: &str, client: &TlsClient) -> Result<(), ConfigError> {
    refuse_inline(
        key,
        &[
            ("rootCaData", client.root_ca_data),
            ("certData", client.cert_data),
            ("keyData", client.key_data),
        ],
    )?;
    pair(key, &client.cert_file, &client.key_file)?;
    if client.disable_host_verification {
        return Err(ConfigError::value(
            format!("{key}.disableHostVerification"),
            "is not supported; name what the certificate says in serverName",
        ));
    }
    let wants_tls = client.force_tls || given(&client.cert_file) || !client.server_name.is_empty();
    if wants_tls && client.root_ca_files.is_empty() {
        return Err(ConfigError::value(
            format!("{key}.rootCaFiles"),
            "has to name the CAs that the other side's certificate comes from; without them the connection would be plaintext",
        ));
    }
    Ok(())
}

/// A group for a listener has a certificate to listen with.
fn listens(key: &str, group: &TlsGroup) -> Result<(), ConfigError> {
    match given(&group.server.cert_file) {
        true => Ok(()),
        false => Err(ConfigError::value(
            format!("{key}.server.certFile"),
            "is missing; without it the port would be plaintext. Remove the group if that is meant",
        )),
    }
}

fn no_overrides(key: &str, group: &TlsGroup) -> Result<(), ConfigError> {
    match group.host_overrides.is_empty() {
        true => Ok(()),
        false => Err(ConfigError::value(
            format!("{key}.hostOverrides"),
            "is not supported; one certificate can name several hosts",
        )),
    }
}

/// Both directions of the same connections: they have TLS or not together.
fn internode(group: &TlsGroup) -> Result<(), ConfigError> {
    server("global.tls.internode.server", &group.server)?;
    client("global.tls.internode.client", &group.client)?;
    no_overrides("global.tls.internode", group)?;
    listens("global.tls.internode", group)?;
    if group.client.root_ca_files.is_empty() {
        return Err(ConfigError::value(
            "global.tls.internode.client.rootCaFiles",
            "has to name the CAs of global.tls.internode.server, since the services call one another with TLS",
        ));
    }
    Ok(())
}

fn remote(host: &str, group: &TlsGroup) -> Result<(), ConfigError> {
    let key = format!("global.tls.remoteClusters.{host}");
    let has_port = host.parse::<std::net::IpAddr>().is_err() && host.contains(':');
    if host.is_empty() || has_port {
        return Err(ConfigError::value(
            key,
            "has to be the host of the other cluster's address, without a port, or `*` for all",
        ));
    }
    client(&format!("{key}.client"), &group.client)?;
    pair(
        &format!("{key}.server"),
        &group.server.cert_file,
        &group.server.key_file,
    )?;
    no_overrides(&key, group)?;
    if group.client.root_ca_files.is_empty() {
        return Err(ConfigError::value(
            format!("{key}.client.rootCaFiles"),
            "has to name the CAs that the other cluster's certificate comes from; without them the connection would be plaintext. Remove the entry if that is meant",
        ));
    }
    Ok(())
}
