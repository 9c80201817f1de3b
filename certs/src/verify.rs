//! The identity in a peer's certificate. That the certificate is genuine was verified in the
//! handshake; what its holder may do is settled elsewhere.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// The holder of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The whole subject, such as `CN=east, O=Example`.
    pub subject: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// Names it may be called by.
    pub dns_names: Vec<String>,
    /// Addresses it may be called at.
    pub addresses: Vec<IpAddr>,
    /// URIs, such as SPIFFE ids.
    pub uris: Vec<String>,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Last valid moment, in seconds since the Unix epoch.
    pub not_after: i64,
}

/// The certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's certificate cannot be read: {0}")]
pub struct Unreadable(String);

impl Peer {
    /// The holder of a certificate, usually the first of what the peer showed.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let unreadable = |e: &dyn std::fmt::Display| Unreadable(e.to_string());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| unreadable(&e))?;
        let common_name = parsed.subject().iter_common_name().next();
        let mut peer = Self {
            subject: parsed.subject().to_string(),
            common_name: common_name.and_then(|n| n.as_str().ok()).map(str::to_owned),
            serial: parsed.raw_serial_as_string(),
            not_after: parsed.validity().not_after.timestamp(),
            ..Self::default()
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| unreadable(&e))?;
        for name in names.iter().flat_map(|n| &n.value.general_names) {
            match name {
                GeneralName::DNSName(name) => peer.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => peer.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => peer.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(peer)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
