//! How a namespace is stored: a message of our own around the public API's messages, so that a field the
//! API gains is kept without a change here.

use bytes::Bytes;
use prost::Message;
use proto_ids::{ClusterName, FailoverVersion, Timestamp};
use proto_messages::{
    temporal::api::namespace::v1::{BadBinaries, NamespaceConfig, NamespaceInfo},
    time,
};
use schema_store::namespace::NamespaceRecord;

use crate::namespace::{Archival, Namespace};

/// A row that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the stored namespace {name}")]
pub struct RecordError {
    name: String,
    #[source]
    source: prost::DecodeError,
}

#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(message, optional, tag = "1")]
    info: Option<NamespaceInfo>,
    #[prost(message, optional, tag = "2")]
    config: Option<NamespaceConfig>,
    #[prost(bool, tag = "3")]
    is_global: bool,
    #[prost(string, tag = "4")]
    active_cluster: String,
    #[prost(string, repeated, tag = "5")]
    clusters: Vec<String>,
    #[prost(int64, tag = "6")]
    failover_version: i64,
    #[prost(int64, tag = "7")]
    config_version: i64,
    #[prost(int64, tag = "8")]
    failover_notification_version: i64,
    #[prost(bool, tag = "9")]
    handover: bool,
    #[prost(message, repeated, tag = "10")]
    failover_history: Vec<Failover>,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "11")]
    handover_until: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Failover {
    #[prost(message, optional, tag = "1")]
    time: Option<prost_types::Timestamp>,
    #[prost(int64, tag = "2")]
    version: i64,
}

impl Namespace {
    /// The namespace's public description, without capabilities and limits.
    pub fn info(&self) -> NamespaceInfo {
        NamespaceInfo {
            name: self.name.to_string(),
            state: self.state,
            description: self.description.clone(),
            owner_email: self.owner_email.clone(),
            data: self.data.clone(),
            id: self.id.to_string(),
            ..Default::default()
        }
    }

    /// The namespace's public settings.
    pub fn config(&self) -> NamespaceConfig {
        NamespaceConfig {
            workflow_execution_retention_ttl: Some(time::duration_to_proto(self.retention)),
            bad_binaries: Some(BadBinaries {
                binaries: self.bad_binaries.clone(),
            }),
            history_archival_state: self.archival.history_state,
            history_archival_uri: self.archival.history_uri.clone(),
            visibility_archival_state: self.archival.visibility_state,
            visibility_archival_uri: self.archival.visibility_uri.clone(),
            custom_search_attribute_aliases: self.custom_search_attribute_aliases.clone(),
        }
    }

    /// Takes over the description.
    pub(crate) fn set_info(&mut self, info: NamespaceInfo) {
        self.id = info.id.into();
        self.name = info.name.into();
        self.state = info.state;
        self.description = info.description;
        self.owner_email = info.owner_email;
        self.data = info.data;
    }

    /// Takes over the settings.
    pub(crate) fn set_config(&mut self, config: NamespaceConfig) {
        self.retention =
            time::duration_from_proto(config.workflow_execution_retention_ttl.as_ref());
        self.bad_binaries = config.bad_binaries.unwrap_or_default().binaries;
        self.archival = Archival {
            history_state: config.history_archival_state,
            history_uri: config.history_archival_uri,
            visibility_state: config.visibility_archival_state,
            visibility_uri: config.visibility_archival_uri,
        };
        self.custom_search_attribute_aliases = config.custom_search_attribute_aliases;
    }

    /// The row to store.
    pub fn to_record(&self) -> NamespaceRecord {
        let row = Row {
            info: Some(self.info()),
            config: Some(self.config()),
            is_global: self.is_global,
            active_cluster: self.active_cluster.to_string(),
            clusters: self.clusters.iter().map(ToString::to_string).collect(),
            failover_version: self.failover_version.get(),
            config_version: self.config_version,
            failover_notification_version: self.failover_notification_version,
            handover: self.handover,
            handover_until: self.handover_until.nanos(),
            failover_history: self
                .failover_history
                .iter()
                .map(|(at, version)| Failover {
                    time: Some(time::to_proto(*at)),
                    version: version.get(),
                })
                .collect(),
        };
        NamespaceRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            data: Bytes::from(row.encode_to_vec()),
            notification_version: self.notification_version,
        }
    }

    /// The namespace of a stored row. Id, name and row version are the row's own.
    pub fn from_record(record: &NamespaceRecord) -> Result<Self, RecordError> {
        let row = Row::decode(record.data.clone()).map_err(|source| RecordError {
            name: record.name.to_string(),
            source,
        })?;
        let mut namespace = Self {
            is_global: row.is_global,
            active_cluster: row.active_cluster.into(),
            clusters: row.clusters.into_iter().map(ClusterName::from).collect(),
            failover_version: FailoverVersion::new(row.failover_version),
            config_version: row.config_version,
            failover_notification_version: row.failover_notification_version,
            notification_version: record.notification_version,
            handover: row.handover,
            handover_until: Timestamp::from_nanos(row.handover_until),
            failover_history: row
                .failover_history
                .iter()
                .map(|f| {
                    let at = f.time.as_ref().map(time::from_proto).unwrap_or_default();
                    (at, FailoverVersion::new(f.version))
                })
                .collect(),
            ..Self::default()
        };
        namespace.set_info(row.info.unwrap_or_default());
        namespace.set_config(row.config.unwrap_or_default());
        namespace.id = record.id.clone();
        namespace.name = record.name.clone();
        Ok(namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_keeps_everything() {
        let namespace = Namespace {
            id: "3f".into(),
            name: "orders".into(),
            state: 1,
            description: "d".into(),
            owner_email: "o".into(),
            data: [("k".to_owned(), "v".to_owned())].into(),
            retention: Duration::from_secs(86_400),
            archival: Archival {
                history_state: 2,
                history_uri: "file:///a".into(),
                ..Default::default()
            },
            bad_binaries: [("sum".to_owned(), Default::default())].into(),
            custom_search_attribute_aliases: [("Keyword01".to_owned(), "Region".to_owned())].into(),
            is_global: true,
            active_cluster: "west".into(),
            clusters: vec!["west".into(), "east".into()],
            failover_version: FailoverVersion::new(102),
            config_version: 3,
            failover_notification_version: 7,
            notification_version: 9,
            handover: true,
            handover_until: Timestamp::from_millis(5),
            failover_history: vec![(Timestamp::from_millis(1_234), FailoverVersion::new(102))],
        };
        let read = Namespace::from_record(&namespace.to_record()).unwrap();
        assert_eq!(read, namespace);
    }
}
