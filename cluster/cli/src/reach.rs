//! Errors of connections, worded so that the next step is plain: which host, what happened, what to do.

use std::{error::Error, fmt, io};

/// A server that could not be talked to.
#[derive(Debug)]
pub struct Unreachable {
    address: String,
    cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// No process listens there.
    Refused,
    /// The host's name means nothing.
    Unresolved,
    /// No answer came in time.
    TimedOut,
    /// TLS was spoken to a plaintext port.
    NotTls,
    /// The server's certificate does not come from a CA that is trusted here.
    Untrusted,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate cannot be used for another reason.
    BadCertificate(String),
    /// The server refused the certificate shown to it, or that none was shown.
    Refusal(String),
    /// The connection ended without an answer; whether TLS and a client certificate were used tells why.
    Ended { tls: bool, certificate: bool },
}

impl Unreachable {
    /// The meaning of a transport error.
    pub(crate) fn new(
        address: &str,
        tls: bool,
        certificate: bool,
        error: &(dyn Error + 'static),
    ) -> Self {
        let ended = Cause::Ended { tls, certificate };
        Self {
            address: address.to_owned(),
            cause: chain(error).find_map(cause_of).unwrap_or(ended),
        }
    }

    /// Whether an error of a call came from the transport, and not from the server.
    pub(crate) fn is_transport(status: &tonic::Status) -> bool {
        status.source().is_some()
    }
}

/// The error and what caused it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

fn cause_of(error: &(dyn Error + 'static)) -> Option<Cause> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return of_tls(tls);
    }
    let io = error.downcast_ref::<io::Error>()?;
    if let Some(tls) = io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return of_tls(tls);
    }
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(Cause::Refused),
        io::ErrorKind::TimedOut => Some(Cause::TimedOut),
        // What the resolver says has no kind of its own.
        _ if io.to_string().contains("lookup address") => Some(Cause::Unresolved),
        _ => None,
    }
}

fn of_tls(error: &rustls::Error) -> Option<Cause> {
    use rustls::{CertificateError, Error};
    Some(match error {
        Error::InvalidMessage(_) => Cause::NotTls,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Cause::Untrusted,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Cause::WrongName,
        Error::InvalidCertificate(other) => Cause::BadCertificate(other.to_string()),
        Error::AlertReceived(alert) => Cause::Refusal(format!("{alert:?}")),
        _ => return None,
    })
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.address;
        match &self.cause {
            Cause::Refused => write!(
                f,
                "nothing listens on {at}: start the server, or name another one with --address"
            ),
            Cause::Unresolved => write!(
                f,
                "the host of {at} is unknown: --address takes HOST:PORT, such as 127.0.0.1:7233"
            ),
            Cause::TimedOut => write!(
                f,
                "{at} does not answer: check the address and what lies between, a firewall mostly"
            ),
            Cause::NotTls => write!(
                f,
                "{at} does not speak TLS: leave out the --tls options, or name the port that does"
            ),
            Cause::Untrusted => write!(
                f,
                "the certificate of {at} does not come from a CA in --tls-ca-path: name the file that issued it"
            ),
            Cause::WrongName => write!(
                f,
                "the certificate of {at} is for another name: give one that it holds with --tls-server-name"
            ),
            Cause::BadCertificate(why) => write!(
                f,
                "the certificate of {at} cannot be used ({why}): it has to be replaced there"
            ),
            Cause::Refusal(alert) => write!(
                f,
                "{at} refuses the certificate of this command ({alert}): --tls-cert-path and --tls-key-path need a \
                 valid one from a CA that the server trusts; its log says what is wrong"
            ),
            Cause::Ended { tls: false, .. } => write!(
                f,
                "{at} ended the connection without an answer, as a port with TLS does: give --tls-ca-path, and \
                 --tls-cert-path with --tls-key-path where the server asks for a certificate"
            ),
            Cause::Ended {
                certificate: false, ..
            } => write!(
                f,
                "{at} ended the connection without an answer, as a server does that asks for a client certificate: give \
                 --tls-cert-path and --tls-key-path"
            ),
            Cause::Ended { .. } => write!(
                f,
                "{at} ended the connection without an answer, as a server does that refuses the client's certificate: \
                 has the one in --tls-cert-path expired, and does it come from a CA that the server trusts? Its log says"
            ),
        }
    }
}

impl Error for Unreachable {}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};

    use super::*;

    fn told(error: impl Error + 'static, tls: bool) -> String {
        Unreachable::new("db.example:7233", tls, false, &error).to_string()
    }

    fn tls(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn a_server_out_of_reach_is_told_with_host_cause_and_remedy() {
        let cases = [
            (
                io::Error::from(io::ErrorKind::ConnectionRefused),
                "nothing listens on",
            ),
            (io::Error::from(io::ErrorKind::TimedOut), "does not answer"),
            (
                tls(rustls::Error::InvalidMessage(
                    InvalidMessage::InvalidContentType,
                )),
                "does not speak TLS: leave out the --tls options",
            ),
            (
                tls(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer,
                )),
                "does not come from a CA in --tls-ca-path",
            ),
            (
                tls(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName,
                )),
                "--tls-server-name",
            ),
            (
                tls(rustls::Error::AlertReceived(
                    AlertDescription::CertificateExpired,
                )),
                "(CertificateExpired): --tls-cert-path",
            ),
            (
                io::Error::from(io::ErrorKind::BrokenPipe),
                "as a server does that asks for a client certificate",
            ),
        ];
        for (error, expected) in cases {
            let told = told(error, true);
            assert!(told.contains("db.example:7233"), "{told}");
            assert!(told.contains(expected), "{told}");
        }
        let plain = told(io::Error::from(io::ErrorKind::BrokenPipe), false);
        assert!(
            plain.contains("as a port with TLS does: give --tls-ca-path"),
            "{plain}"
        );
    }
}
