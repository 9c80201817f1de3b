//! Certificates of a drill: an authority, a certificate per cluster and one for the drill's own
//! clients, all as PEM files that are replaced while processes use them. A second authority waits for
//! its turn, and a third is one that nobody trusts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use scenarios_load::connect::Tls;

use crate::definition::{self, Untrusted};

/// How long ordinary certificates live.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long those live that a drill lets run out.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// The files of one holder.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) authorities: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// All certificates of a drill.
pub(crate) struct Certificates {
    dir: PathBuf,
    current: Authority,
    next: Authority,
    foreign: Authority,
    clusters: BTreeMap<String, Trust>,
}

/// The files of a cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Trust {
    current: bool,
    next: bool,
    issued_by_next: bool,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        set_life(&mut params, Duration::from_secs(3600), LIFE);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// A certificate and its key for `name` on this machine.
    fn issue(
        &self,
        name: &str,
        back: Duration,
        life: Duration,
    ) -> anyhow::Result<(String, String)> {
        let names = vec![
            name.to_owned(),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        set_life(&mut params, back, life);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

/// Valid from `back` ago for `life`.
fn set_life(params: &mut CertificateParams, back: Duration, life: Duration) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(back);
    params.not_after = epoch + now.saturating_sub(back) + life;
}

impl Certificates {
    /// Makes authorities and writes the files of every cluster and of the drill's clients.
    pub(crate) fn new(dir: &Path, clusters: &[String]) -> anyhow::Result<Self> {
        let mut made = Self {
            dir: dir.to_owned(),
            current: Authority::new("drill authority")?,
            next: Authority::new("drill authority, the next")?,
            foreign: Authority::new("an authority nobody trusts")?,
            clusters: BTreeMap::new(),
        };
        let trust = Trust {
            current: true,
            next: false,
            issued_by_next: false,
        };
        for name in clusters {
            made.clusters.insert(name.clone(), trust);
            made.write(name, trust, LIFE)?;
        }
        made.write_clients()?;
        Ok(made)
    }

    /// The files of a cluster.
    pub(crate) fn files(&self, holder: &str) -> Files {
        let dir = self.dir.join(holder);
        Files {
            authorities: dir.join("authorities.pem"),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }
    }

    /// The TLS configuration of the drill's own clients.
    pub(crate) fn client(&self) -> Tls {
        as_tls(self.files(CLIENTS))
    }

    /// A certificate that must be refused.
    pub(crate) fn untrusted(&self, what: Untrusted) -> anyhow::Result<Tls> {
        let holder = format!("untrusted-{what:?}").to_lowercase();
        let hour = Duration::from_secs(3600);
        let (cert, key) = match what {
            Untrusted::Expired => self.issuer_for_clients().issue(CLIENTS, hour * 2, hour)?,
            Untrusted::Foreign => self.foreign.issue(CLIENTS, hour, LIFE)?,
            Untrusted::Absent => Default::default(),
        };
        let files = self.files(&holder);
        place(&files.authorities, &self.bundle(true, true))?;
        place(&files.key, &key)?;
        place(&files.cert, &cert)?;
        let mut tls = as_tls(files);
        if what == Untrusted::Absent {
            (tls.cert, tls.key) = (None, None);
        }
        Ok(tls)
    }

    /// Replaces a cluster's files, and those of the drill's clients where they would no longer do.
    pub(crate) fn rotate(
        &mut self,
        cluster: &str,
        with: definition::Certificates,
    ) -> anyhow::Result<()> {
        use definition::Certificates as With;
        let mut trust = *self
            .clusters
            .get(cluster)
            .with_context(|| format!("there are no certificates of {cluster:?}"))?;
        let mut life = LIFE;
        match with {
            With::Fresh => {}
            With::TrustNextAuthority => trust.next = true,
            With::NextAuthority => trust.issued_by_next = true,
            With::DropOldAuthority => trust.current = false,
            With::ShortLived => life = SHORT_LIFE,
        }
        self.clusters.insert(cluster.to_owned(), trust);
        if with == With::TrustNextAuthority || with == With::DropOldAuthority {
            let files = self.files(cluster);
            place(&files.authorities, &self.bundle(trust.current, trust.next))?;
        } else {
            self.write(cluster, trust, life)?;
        }
        self.write_clients()
    }

    fn write(&self, cluster: &str, trust: Trust, life: Duration) -> anyhow::Result<()> {
        let issuer = if trust.issued_by_next {
            &self.next
        } else {
            &self.current
        };
        // Clocks of one machine need no tolerance, but certificates made now must be valid now.
        let (cert, key) = issuer.issue(cluster, Duration::from_secs(1), life)?;
        let files = self.files(cluster);
        place(&files.authorities, &self.bundle(trust.current, trust.next))?;
        place(&files.key, &key)?;
        place(&files.cert, &cert)
    }

    /// The clients trust both authorities always, and get their certificate from one that every
    /// cluster trusts.
    fn write_clients(&self) -> anyhow::Result<()> {
        let (cert, key) = self
            .issuer_for_clients()
            .issue(CLIENTS, Duration::from_secs(1), LIFE)?;
        let files = self.files(CLIENTS);
        place(&files.authorities, &self.bundle(true, true))?;
        place(&files.key, &key)?;
        place(&files.cert, &cert)
    }

    fn issuer_for_clients(&self) -> &Authority {
        if self.clusters.values().all(|t| t.next) {
            &self.next
        } else {
            &self.current
        }
    }

    fn bundle(&self, current: bool, next: bool) -> String {
        let mut bundle = String::new();
        if current {
            bundle.push_str(&self.current.pem);
        }
        if next {
            bundle.push_str(&self.next.pem);
        }
        bundle
    }
}

/// The holder that stands for clients, workers and the operator.
const CLIENTS: &str = "clients";

fn as_tls(files: Files) -> Tls {
    Tls {
        ca: Some(files.authorities),
        cert: Some(files.cert),
        key: Some(files.key),
        server_name: Some("localhost".to_owned()),
    }
}

/// Replaces a file as a whole, as careful operators do.
fn place(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().context("find the folder of a certificate")?;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("replace {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_changes_in_the_order_operators_use() {
        let dir = tempfile::tempdir().expect("folder");
        let names = ["west".to_owned(), "east".to_owned()];
        let mut made = Certificates::new(dir.path(), &names).expect("made");
        let read = |made: &Certificates, holder: &str| {
            let files = made.files(holder);
            let text = |p| std::fs::read_to_string(p).expect("file");
            (text(&files.authorities), text(&files.cert))
        };
        let authorities = |text: &str| text.matches("BEGIN CERTIFICATE").count();
        let before = read(&made, "west");
        assert_eq!(authorities(&before.0), 1);
        made.rotate("west", definition::Certificates::Fresh)
            .expect("fresh");
        assert_ne!(read(&made, "west").1, before.1);
        made.rotate("west", definition::Certificates::TrustNextAuthority)
            .expect("trust");
        assert_eq!(authorities(&read(&made, "west").0), 2);
        assert_eq!(authorities(&read(&made, "east").0), 1);
        made.rotate("west", definition::Certificates::DropOldAuthority)
            .expect("drop");
        assert_eq!(read(&made, "west").0, made.next.pem);
        made.untrusted(Untrusted::Expired).expect("expired");
    }
}
