//! Notices of keys without effect. Each is named once, at start and by `--check`.

use super::file::{ConfigFile, Unused};

impl ConfigFile {
    /// Lines for the operator.
    pub(super) fn notices(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let unused = self.unused();
        if !unused.is_empty() {
            lines.push(format!(
                "these keys of Temporal have no meaning here and are ignored: {}",
                unused.join(", ")
            ));
        }
        let persistence = &self.persistence;
        let default = persistence.default_store.as_deref().unwrap_or("default");
        if let Some(visibility) = persistence.visibility_store.as_deref()
            && visibility != default
        {
            lines.push(format!(
                "persistence.visibilityStore: visibility is kept with everything else in `{default}`; `{visibility}` is not opened"
            ));
        }
        let current = &self.cluster_metadata.current_cluster_name;
        let current = current.as_deref().unwrap_or("active");
        for other in self.cluster_metadata.cluster_information.keys() {
            if other != current {
                lines.push(format!(
                    "clusterMetadata.clusterInformation.{other}: the entry of another cluster is ignored; connect it with `meridian cluster upsert`"
                ));
            }
        }
        lines
    }

    /// Dotted keys that were given.
    fn unused(&self) -> Vec<String> {
        let (global, persistence) = (&self.global, &self.persistence);
        let mut found = Vec::new();
        let mut add = |prefix: &str, keys: &[(&str, Unused)]| {
            let given = keys.iter().filter(|(_, value)| value.is_some());
            found.extend(given.map(|(name, _)| format!("{prefix}{name}")));
        };
        add(
            "",
            &[
                ("archival", self.archival),
                ("namespaceDefaults", self.namespace_defaults),
                ("publicClient", self.public_client),
                ("otel", self.otel),
                ("log.stdout", self.log.stdout),
                ("log.outputFile", self.log.output_file),
                ("log.development", self.log.development),
                ("dcRedirectionPolicy.toDC", self.dc_redirection_policy.to_dc),
            ],
        );
        add(
            "persistence.",
            &[
                (
                    "secondaryVisibilityStore",
                    persistence.secondary_visibility_store,
                ),
                (
                    "advancedVisibilityStore",
                    persistence.advanced_visibility_store,
                ),
                (
                    "namespaceReplicationQueueStore",
                    persistence.namespace_replication_queue_store,
                ),
            ],
        );
        add(
            "global.",
            &[
                ("pprof", global.pprof),
                ("enableGlobalNamespace", global.enable_global_namespace),
                ("enableRemoteAdmin", global.enable_remote_admin),
            ],
        );
        if let Some(tls) = &global.tls {
            add(
                "global.tls.",
                &[
                    ("systemWorker", tls.system_worker),
                    ("expirationChecks", tls.expiration_checks),
                ],
            );
            for (name, group) in [("frontend", &tls.frontend), ("peer", &tls.peer)] {
                // System workers are no clients here.
                let dials = group
                    .as_ref()
                    .filter(|g| !g.client.root_ca_files.is_empty());
                add(
                    "global.tls.",
                    &[(
                        &format!("{name}.client"),
                        dials.map(|_| serde::de::IgnoredAny),
                    )],
                );
            }
        }
        if let Some(metrics) = &global.metrics {
            add(
                "global.metrics.",
                &[
                    ("statsd", metrics.statsd),
                    ("tags", metrics.tags),
                    ("excludeTags", metrics.exclude_tags),
                    ("prefix", metrics.prefix),
                    (
                        "perUnitHistogramBoundaries",
                        metrics.per_unit_histogram_boundaries,
                    ),
                ],
            );
            if let Some(prometheus) = &metrics.prometheus {
                add(
                    "global.metrics.prometheus.",
                    &[
                        ("timerType", prometheus.timer_type),
                        ("framework", prometheus.framework),
                        ("handlerPath", prometheus.handler_path),
                        ("listenNetwork", prometheus.listen_network),
                        ("loggerRPS", prometheus.logger_rps),
                        ("sanitizeOptions", prometheus.sanitize_options),
                    ],
                );
            }
        }
        for (name, service) in &self.services {
            let rpc = &service.rpc;
            add(
                &format!("services.{name}.rpc."),
                &[
                    ("httpPort", rpc.http_port),
                    (
                        "httpAdditionalForwardedHeaders",
                        rpc.http_additional_forwarded_headers,
                    ),
                    ("keepAliveServerConfig", rpc.keep_alive_server_config),
                    ("clientConnectionConfig", rpc.client_connection_config),
                ],
            );
        }
        for (name, cluster) in &self.cluster_metadata.cluster_information {
            add(
                &format!("clusterMetadata.clusterInformation.{name}."),
                &[
                    ("rpcName", cluster.rpc_name),
                    ("clusterId", cluster.cluster_id),
                    ("tags", cluster.tags),
                ],
            );
        }
        for (name, store) in &persistence.datastores {
            let prefix = format!("persistence.datastores.{name}.");
            add(
                &prefix,
                &[
                    ("cassandra", store.cassandra),
                    ("elasticsearch", store.elasticsearch),
                    ("customDatastore", store.custom_datastore),
                    ("faultInjection", store.fault_injection),
                ],
            );
            if let Some(sql) = &store.sql {
                add(
                    &format!("{prefix}sql."),
                    &[
                        ("maxIdleConns", sql.max_idle_conns),
                        ("maxConnLifetime", sql.max_conn_lifetime),
                        ("taskScanPartitions", sql.task_scan_partitions),
                        ("authPlugin", sql.auth_plugin),
                    ],
                );
            }
        }
        found
    }
}
