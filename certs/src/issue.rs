//! A certificate authority in a folder, for development, tests and drills: `ca.pem` and `ca.key`, and a
//! certificate with its key for each cluster, signed by it. Issuing again keeps whatever is still good.
//! Files appear whole or not at all, and two processes that issue into the same folder take turns.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
};
use rustls_pki_types::{ServerName, UnixTime};

use crate::{
    CertError,
    expiry::unix_seconds,
    identity::{Content, Material, add_roots, parse_certificates, provider},
    source::{ClientAuth, Identity, Protocols, Source},
};

const DAY: Duration = Duration::from_secs(86_400);
/// Clocks of peers may be this far behind.
const SKEW: Duration = Duration::from_secs(3_600);
const AUTHORITY_DAYS: u32 = 3_650;
const LEAF_DAYS: u32 = 365;
/// A kept certificate is good for at least this long.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// The content of a cluster's certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    cluster: String,
    hosts: Vec<String>,
    valid: Option<(SystemTime, SystemTime)>,
    renew: bool,
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The cluster's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether the cluster's certificate was made now; otherwise the one that was there was kept.
    pub is_new: bool,
}

impl Leaf {
    /// A certificate for a cluster, good for a year, for `localhost`, both loopback addresses and the
    /// cluster's name. The name is also the files' name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            hosts: Vec::new(),
            valid: None,
            renew: false,
        }
    }

    /// Also for these host names and addresses.
    #[must_use]
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts.extend(hosts.into_iter().map(Into::into));
        self
    }

    /// Good from and until these moments, instead of for a year.
    #[must_use]
    pub fn valid(mut self, from: SystemTime, until: SystemTime) -> Self {
        self.valid = Some((from, until));
        self
    }

    /// Made anew even when there is a good one, to rotate it.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        self.renew = true;
        self
    }

    fn names(&self) -> Vec<String> {
        let fixed = ["localhost", "127.0.0.1", "::1", &self.cluster];
        let mut names: Vec<String> = fixed.into_iter().map(str::to_owned).collect();
        names.extend(
            self.hosts
                .iter()
                .filter(|h| !fixed.contains(&h.as_str()))
                .cloned(),
        );
        names
    }
}

impl Issued {
    /// These files for mutual TLS.
    pub fn mutual(&self) -> Source {
        Source::mutual(self.ca.clone(), self.certificate.clone(), self.key.clone())
    }
}

/// Issues the certificate into the folder, which is made when it is not there.
pub fn issue(dir: &Path, leaf: &Leaf) -> Result<Issued, CertError> {
    let is_plain = !leaf.cluster.is_empty()
        && leaf
            .cluster
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !leaf.cluster.starts_with('.')
        && leaf.cluster != "ca";
    if !is_plain {
        let problem = format!(
            "the cluster's name {:?} cannot be a file's name",
            leaf.cluster
        );
        return Err(CertError::new(
            dir,
            problem,
            "use letters, digits, dashes, dots and underscores, but not \"ca\"",
        ));
    }
    fs::create_dir_all(dir).map_err(|e| CertError::write(dir, e))?;
    let _turn = take_turn(dir)?;
    let issuer = authority(dir)?;
    let files = Issued {
        ca: dir.join("ca.pem"),
        certificate: dir.join(format!("{}.pem", leaf.cluster)),
        key: dir.join(format!("{}.key", leaf.cluster)),
        is_new: true,
    };
    if !leaf.renew && leaf.valid.is_none() && is_good(&files, leaf) {
        return Ok(Issued {
            is_new: false,
            ..files
        });
    }
    let refused = |e: rcgen::Error| {
        CertError::new(
            &files.certificate,
            "cannot be issued",
            "correct the names it shall be for",
        )
        .because(e)
    };
    let now = SystemTime::now();
    let (from, until) = leaf.valid.unwrap_or((now - SKEW, now + DAY * LEAF_DAYS));
    let mut params = CertificateParams::new(leaf.names()).map_err(refused)?;
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.cluster.as_str());
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, from, until);
    let key = KeyPair::generate().map_err(refused)?;
    let certificate = params.signed_by(&key, &issuer).map_err(refused)?;
    // A reader between the two writes sees a pair that does not fit, refuses it and looks again.
    write_whole(&files.key, key.serialize_pem().as_bytes(), PRIVATE)?;
    write_whole(&files.certificate, certificate.pem().as_bytes(), PUBLIC)?;
    Ok(files)
}

/// Replaces the folder's authority. Certificates that the old one signed are not good any more and are
/// made anew when next issued.
pub fn renew_authority(dir: &Path) -> Result<(), CertError> {
    fs::create_dir_all(dir).map_err(|e| CertError::write(dir, e))?;
    let _turn = take_turn(dir)?;
    make_authority(dir).map(drop)
}

fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertError> {
    let (file, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
    let read = |file: &Path| fs::read_to_string(file).map_err(|e| CertError::read(file, e));
    match (file.exists(), key_file.exists()) {
        (true, true) => {}
        (false, false) => return make_authority(dir),
        (has_certificate, _) => {
            let missing = if has_certificate { &key_file } else { &file };
            let remedy = "bring it back, or remove both ca.pem and ca.key to get a new authority";
            return Err(CertError::new(
                missing,
                "is missing while its other half is there",
                remedy,
            ));
        }
    }
    let source = Source {
        trust: Vec::new(),
        identity: Some(Identity {
            certificate: file.clone(),
            key: key_file.clone(),
        }),
        client_auth: ClientAuth::None,
        protocols: Protocols::Grpc,
    };
    let (pem, key_pem) = (read(&file)?, read(&key_file)?);
    let content = Content {
        trust: Vec::new(),
        identity: Some((pem.clone().into(), key_pem.clone().into())),
    };
    Material::check(&source, &content, SystemTime::now())?;
    let unusable = |file: &Path, e: rcgen::Error| {
        CertError::new(
            file,
            "cannot be used as an authority",
            "remove ca.pem and ca.key to get a new one",
        )
        .because(e)
    };
    let key = KeyPair::from_pem(&key_pem).map_err(|e| unusable(&key_file, e))?;
    Issuer::from_ca_cert_pem(&pem, key).map_err(|e| unusable(&file, e))
}

fn make_authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertError> {
    let file = dir.join("ca.pem");
    let refused =
        |e: rcgen::Error| CertError::new(&file, "cannot be issued", "report this").because(e);
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    let key = KeyPair::generate().map_err(refused)?;
    // A piece of the public key tells authorities apart, so that a peer never tries the wrong one and
    // then speaks of a bad signature instead of an unknown issuer.
    let mark: String = key
        .public_key_raw()
        .iter()
        .rev()
        .take(6)
        .map(|b| format!("{b:02x}"))
        .collect();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Meridian development CA {mark}"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now - SKEW, now + DAY * AUTHORITY_DAYS);
    let certificate = params.self_signed(&key).map_err(refused)?;
    write_whole(&dir.join("ca.key"), key.serialize_pem().as_bytes(), PRIVATE)?;
    write_whole(&file, certificate.pem().as_bytes(), PUBLIC)?;
    Ok(Issuer::new(params, key))
}

/// Whether the files hold a fitting pair that the authority signed, for all wanted names, and for a
/// while to come.
fn is_good(files: &Issued, leaf: &Leaf) -> bool {
    let source = files.mutual();
    let (Ok(trust), Ok(certificate), Ok(key)) = (
        fs::read(&files.ca),
        fs::read(&files.certificate),
        fs::read(&files.key),
    ) else {
        return false;
    };
    let content = Content {
        trust: vec![trust],
        identity: Some((certificate, key)),
    };
    let soon = SystemTime::now() + RENEW_BEFORE;
    if Material::check(&source, &content, soon).is_err() {
        return false;
    }
    let ([trust], Some((certificate, _))) = (content.trust.as_slice(), &content.identity) else {
        return false;
    };
    let (Ok(authorities), Ok(chain)) = (
        parse_certificates(&files.ca, trust),
        parse_certificates(&files.certificate, certificate),
    ) else {
        return false;
    };
    let mut roots = RootCertStore::empty();
    if add_roots(&mut roots, &files.ca, authorities).is_err() {
        return false;
    }
    let Ok(verifier) =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
    else {
        return false;
    };
    let Some((end, intermediates)) = chain.split_first() else {
        return false;
    };
    leaf.names().into_iter().all(|name| {
        ServerName::try_from(name).is_ok_and(|name| {
            verifier
                .verify_server_cert(end, intermediates, &name, &[], UnixTime::now())
                .is_ok()
        })
    })
}

fn set_validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let moment = |at| {
        let seconds = u64::try_from(unix_seconds(at)).unwrap_or(0);
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = moment(from);
    params.not_after = moment(until);
}

/// Waits for other processes that issue into this folder; the lock is released when the file is dropped.
fn take_turn(dir: &Path) -> Result<fs::File, CertError> {
    let file = dir.join(".lock");
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file);
    lock.and_then(|lock| lock.lock().map(|()| lock))
        .map_err(|e| CertError::write(&file, e))
}

/// Writes beside the file and moves over it.
fn write_whole(file: &Path, content: &[u8], mode: u32) -> Result<(), CertError> {
    let beside = file.with_added_extension("new");
    let write = || -> io::Result<()> {
        // An old attempt may have left one with other rights.
        if let Err(e) = fs::remove_file(&beside)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e);
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&beside, file)
    };
    write().map_err(|e| CertError::write(file, e))
}
