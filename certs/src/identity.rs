//! The content of the files, parsed and checked: what leaves this module can be handshaken with.

use std::{path::Path, sync::Arc, time::SystemTime};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    CertError,
    expiry::{Expiry, rfc3339, unix_seconds},
    source::{ClientAuth, Source},
};

const REISSUE: &str = "issue it again";

/// The files' bytes as they were read, to tell whether they have changed.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) trust: Vec<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Checked material.
pub(crate) struct Material {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Arc<CertifiedKey>>,
    pub(crate) expiries: Vec<Expiry>,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Content {
    pub(crate) async fn read(source: &Source) -> Result<Self, CertError> {
        let read = async |file: &Path| {
            tokio::fs::read(file)
                .await
                .map_err(|e| CertError::read(file, e))
        };
        let mut content = Self::default();
        for file in &source.trust {
            content.trust.push(read(file).await?);
        }
        if let Some(files) = &source.identity {
            content.identity = Some((read(&files.certificate).await?, read(&files.key).await?));
        }
        Ok(content)
    }
}

impl Material {
    /// Checks the content. `now` decides what has expired.
    pub(crate) fn check(
        source: &Source,
        content: &Content,
        now: SystemTime,
    ) -> Result<Self, CertError> {
        let mut expiries = Vec::new();
        let mut roots = RootCertStore::empty();
        for (file, pem) in source.trust.iter().zip(&content.trust) {
            let certificates = parse_certificates(file, pem)?;
            for certificate in &certificates {
                expiries.push(check_validity(file, certificate, now)?);
            }
            add_roots(&mut roots, file, certificates)?;
        }
        let roots = (!roots.is_empty()).then(|| Arc::new(roots));
        let mut identity = None;
        if let (Some(files), Some((chain, key))) = (&source.identity, &content.identity) {
            let chain = parse_certificates(&files.certificate, chain)?;
            for certificate in &chain {
                expiries.push(check_validity(&files.certificate, certificate, now)?);
            }
            let key = parse_key(&files.key, key)?;
            let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| {
                let problem = format!(
                    "the key does not fit the certificate in {}",
                    files.certificate.display()
                );
                CertError::new(
                    &files.key,
                    problem,
                    "replace both files, certificate and key, together",
                )
                .because(e)
            })?;
            identity = Some(Arc::new(pair));
        }
        Ok(Self {
            roots,
            identity,
            expiries,
        })
    }

    /// The TLS configuration of listeners; `None` without an identity.
    pub(crate) fn server(&self, source: &Source) -> Result<Option<ServerConfig>, CertError> {
        let (Some(identity), Some(files)) = (&self.identity, &source.identity) else {
            return Ok(None);
        };
        let unusable = |file: &Path, e: Box<dyn std::error::Error + Send + Sync>| {
            CertError::new(file, "TLS refuses it", REISSUE).because(e)
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&files.certificate, e.into()))?;
        let builder = match (source.client_auth, &self.roots, source.trust.first()) {
            (ClientAuth::None, ..) => builder.with_no_client_auth(),
            (ClientAuth::Required, Some(roots), Some(file)) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
                        .build()
                        .map_err(|e| unusable(file, e.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
            (ClientAuth::Required, ..) => {
                let problem = "clients must show a certificate, but no authority for them is named";
                return Err(CertError::new(
                    &files.certificate,
                    problem,
                    "name a file of trusted authorities",
                ));
            }
        };
        let resolver = Arc::new(SingleCertAndKey::from((**identity).clone()));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = source.protocols.alpn();
        // A resumed session would skip the look at the client's certificate, which may have expired or
        // lost its authority since. Connections live long, so resuming saves next to nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(config))
    }

    /// What a client connects with; `None` without an authority to trust.
    pub(crate) fn client(&self, source: &Source) -> Result<Option<ClientConfig>, CertError> {
        let (Some(roots), Some(file)) = (&self.roots, source.trust.first()) else {
            return Ok(None);
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| CertError::new(file, "TLS refuses it", REISSUE).because(e))?
            .with_root_certificates(roots.clone());
        let mut config = match &self.identity {
            Some(identity) => {
                let resolver = SingleCertAndKey::from((**identity).clone());
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = source.protocols.alpn();
        config.resumption = Resumption::disabled();
        Ok(Some(config))
    }
}

pub(crate) fn parse_certificates(
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let remedy = "it must hold certificates between BEGIN CERTIFICATE and END CERTIFICATE lines";
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| CertError::new(file, "is not PEM", remedy).because(e))?;
    if certificates.is_empty() {
        return Err(CertError::new(file, "holds no certificate", remedy));
    }
    Ok(certificates)
}

pub(crate) fn parse_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertError> {
    let remedy =
        "it must hold a private key without a passphrase, between BEGIN and END PRIVATE KEY lines";
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|e| CertError::new(file, "holds no private key", remedy).because(e))
}

pub(crate) fn add_roots(
    roots: &mut RootCertStore,
    file: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<(), CertError> {
    for certificate in certificates {
        roots.add(certificate).map_err(|e| {
            CertError::new(file, "a certificate in it cannot be an authority", REISSUE).because(e)
        })?;
    }
    Ok(())
}

fn check_validity(
    file: &Path,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Expiry, CertError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| {
        CertError::new(file, "a certificate in it cannot be read", REISSUE).because(e.to_string())
    })?;
    let validity = parsed.validity();
    let now = unix_seconds(now);
    if now > validity.not_after.timestamp() {
        return Err(CertError::new(
            file,
            format!("expired at {}", rfc3339(validity.not_after.timestamp())),
            REISSUE,
        ));
    }
    if now < validity.not_before.timestamp() {
        let problem = format!(
            "is not valid before {}",
            rfc3339(validity.not_before.timestamp())
        );
        return Err(CertError::new(
            file,
            problem,
            "set this machine's clock, or wait",
        ));
    }
    Ok(Expiry {
        file: file.to_owned(),
        subject: parsed.subject().to_string(),
        not_after: validity.not_after.timestamp(),
    })
}
