//! Reaching a frontend.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use proto_messages::temporal::api::workflowservice::v1::GetSystemInfoRequest;
use proto_services::{
    meridian::replication::v1::replication_extension_service_client::ReplicationExtensionServiceClient,
    temporal::{
        api::{
            operatorservice::v1::operator_service_client::OperatorServiceClient,
            workflowservice::v1::workflow_service_client::WorkflowServiceClient,
        },
        server::api::adminservice::v1::admin_service_client::AdminServiceClient,
    },
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::reach::Unreachable;

/// Which server, and how it is talked to. The environment variables are those of the `temporal` CLI.
#[derive(Clone, Debug, Args)]
pub struct ConnectArgs {
    /// The frontend, host:port.
    #[arg(long, env = "TEMPORAL_ADDRESS", default_value = "127.0.0.1:7233")]
    pub address: String,
    /// CAs the server's certificate must come from (PEM); turns TLS on.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_CA_CERT_PATH")]
    pub tls_ca_path: Option<PathBuf>,
    /// Client certificate (PEM); turns TLS on.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_CERT_PATH")]
    pub tls_cert_path: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_KEY_PATH")]
    pub tls_key_path: Option<PathBuf>,
    /// Name expected in the server's certificate.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_NAME")]
    pub tls_server_name: Option<String>,
}

/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// A connection to one frontend.
#[derive(Clone)]
pub(crate) struct Server {
    channel: Channel,
}

impl ConnectArgs {
    /// Connects, and makes sure that the server can be talked to.
    pub(crate) async fn connect(&self) -> anyhow::Result<Server> {
        let tls = self.tls_ca_path.is_some() || self.tls_cert_path.is_some();
        let scheme = if tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .with_context(|| format!("{} is not an address like 127.0.0.1:7233", self.address))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        if tls {
            endpoint = endpoint
                .tls_config(self.tls()?)
                .context("use the TLS files")?;
        }
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            Unreachable::new(&self.address, tls, self.tls_cert_path.is_some(), error)
        };
        let channel = endpoint.connect().await.map_err(|e| unreachable(&e))?;
        let server = Server { channel };
        // A connection that opened may still be refused, by TLS in its last step or by a port that expects TLS, and is
        // then told best here, where the address is known. What the server itself says is for the command.
        let hello = GetSystemInfoRequest {};
        match server.workflow().get_system_info(hello).await {
            Err(status) if Unreachable::is_transport(&status) => Err(unreachable(&status).into()),
            _ => Ok(server),
        }
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("read {}", path.display()))
        };
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &self.tls_ca_path {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        match (&self.tls_cert_path, &self.tls_key_path) {
            (Some(cert), Some(key)) => {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?))
            }
            (None, None) => {}
            _ => anyhow::bail!("--tls-cert-path and --tls-key-path go together"),
        }
        if let Some(name) = &self.tls_server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

impl Server {
    pub(crate) fn workflow(&self) -> WorkflowServiceClient {
        WorkflowServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn operator(&self) -> OperatorServiceClient {
        OperatorServiceClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn replication(&self) -> ReplicationExtensionServiceClient {
        ReplicationExtensionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}
