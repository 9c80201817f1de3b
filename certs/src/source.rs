//! Where a listener's or a client's certificates are.

use std::path::PathBuf;

/// Files in PEM form. They may be replaced while the server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The authorities that peers must be certified by; every certificate in every file counts. A
    /// client needs one, a listener only to ask its clients for certificates.
    pub trust: Vec<PathBuf>,
    /// Our identity. A listener needs it, a client only where it is asked for a certificate.
    pub identity: Option<Identity>,
    /// Whether a listener asks its clients for certificates.
    pub client_auth: ClientAuth,
    /// The protocol.
    pub protocols: Protocols,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether a listener asks its clients for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not.
    #[default]
    None,
    /// It does, and refuses a client without one that it trusts.
    Required,
}

/// The protocol over the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 only.
    #[default]
    Grpc,
    /// HTTP/2 or HTTP/1.1.
    Web,
}

impl Protocols {
    pub(crate) fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Grpc => vec![b"h2".to_vec()],
            Self::Web => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

impl Source {
    /// Mutual TLS with one set of files for both directions.
    pub fn mutual(trust: PathBuf, certificate: PathBuf, key: PathBuf) -> Self {
        Self {
            trust: vec![trust],
            identity: Some(Identity { certificate, key }),
            client_auth: ClientAuth::Required,
            protocols: Protocols::Grpc,
        }
    }
}
