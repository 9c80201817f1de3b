//! Whether client and server go together, by the versions that clients send in headers.

use cluster_rpc::status;
use tonic::{Status, metadata::MetadataMap};

/// The version that clients and tools are told: that of the Temporal server whose behaviour is
/// followed. SDKs and the web UI compare it with the versions they know.
pub const SERVER_VERSION: &str = "1.32.0";

const CLIENT_NAME: &str = "client-name";
const CLIENT_VERSION: &str = "client-version";
const SUPPORTED_SERVERS: &str = "supported-server-versions";

/// The clients whose versions are looked at, and which are served.
pub(crate) const SUPPORTED_CLIENTS: [(&str, &str); 8] = [
    ("temporal-go", "<2.0.0"),
    ("temporal-java", "<2.0.0"),
    ("temporal-php", "<2.0.0"),
    ("temporal-typescript", "<2.0.0"),
    ("temporal-cli", "<2.0.0"),
    ("temporal-server", "<2.0.0"),
    ("temporal-ui", "<3.0.0"),
    ("Nexus-go-sdk", "<2.0.0"),
];

/// Major, minor, patch; what follows a dash or plus is not looked at.
type Version = (u64, u64, u64);

/// Refuses calls of clients that are too new, and those that want another server.
pub(crate) fn check(headers: &MetadataMap) -> Result<(), Status> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let (name, version) = (text(CLIENT_NAME), text(CLIENT_VERSION));
    let supported = SUPPORTED_CLIENTS.iter().find(|(known, _)| *known == name);
    if let Some((_, range)) = supported
        && !version.is_empty()
    {
        let parsed = parse(version).ok_or_else(|| {
            status::invalid_argument(format!("Unable to parse client version: {version}"))
        })?;
        if !is_in(parsed, range).unwrap_or(true) {
            return Err(status::client_version_not_supported(name, version, range));
        }
    }
    let wanted = text(SUPPORTED_SERVERS);
    if wanted.is_empty() {
        return Ok(());
    }
    let ours = parse(SERVER_VERSION).unwrap_or_default();
    match is_in(ours, wanted) {
        Some(true) => Ok(()),
        Some(false) => Err(status::server_version_not_supported(SERVER_VERSION, wanted)),
        None => Err(status::invalid_argument(format!(
            "Unable to parse supported server versions: {wanted}"
        ))),
    }
}

fn parse(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches('v');
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|p| p.parse::<u64>());
    let major = parts.next()?.ok()?;
    let minor = parts.next().unwrap_or(Ok(0)).ok()?;
    let patch = parts.next().unwrap_or(Ok(0)).ok()?;
    parts.next().is_none().then_some((major, minor, patch))
}

/// Whether the version is in a range such as `>=1.0.0 <2.0.0 || =3.1.0`; `None` when it cannot be read.
fn is_in(version: Version, range: &str) -> Option<bool> {
    let mut found = false;
    for alternative in range.split("||") {
        let mut holds = true;
        let alternative = alternative.replace(',', " ");
        for comparator in alternative.split_whitespace() {
            let digits = comparator.find(|c: char| c.is_ascii_digit() || c == 'v')?;
            let (operator, bound) = comparator.split_at(digits);
            let bound = parse(bound)?;
            holds &= match operator {
                "" | "=" | "==" => version == bound,
                "<" => version < bound,
                "<=" => version <= bound,
                ">" => version > bound,
                ">=" => version >= bound,
                "!=" => version != bound,
                _ => return None,
            };
        }
        found |= holds;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn verdict(headers: &[(&'static str, &str)]) -> Result<(), Code> {
        let mut map = MetadataMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        check(&map).map_err(|s| s.code())
    }

    #[test]
    fn clients_and_servers_go_together() {
        assert_eq!(verdict(&[]), Ok(()));
        let go = |version| [(CLIENT_NAME, "temporal-go"), (CLIENT_VERSION, version)];
        assert_eq!(verdict(&go("1.38.0")), Ok(()));
        assert_eq!(verdict(&go("1.38.0-rc.1")), Ok(()));
        assert_eq!(verdict(&go("2.0.0")), Err(Code::FailedPrecondition));
        assert_eq!(verdict(&go("new")), Err(Code::InvalidArgument));
        assert_eq!(
            verdict(&[(CLIENT_NAME, "mine"), (CLIENT_VERSION, "new")]),
            Ok(())
        );
        assert_eq!(verdict(&[(SUPPORTED_SERVERS, ">=1.0.0 <2.0.0")]), Ok(()));
        assert_eq!(verdict(&[(SUPPORTED_SERVERS, ">2.0.0 || >=1.5.0")]), Ok(()));
        assert_eq!(
            verdict(&[(SUPPORTED_SERVERS, ">2.0.0")]),
            Err(Code::FailedPrecondition)
        );
        assert_eq!(
            verdict(&[(SUPPORTED_SERVERS, "~1")]),
            Err(Code::InvalidArgument)
        );
    }
}
