//! Limits and namespace configuration as one value per namespace, rebuilt only when a setting or the
//! namespace changed.

use std::{sync::Arc, time::Duration};

use cluster_core::Limits;
use cluster_runtime::{AnyKey, Key, Settings};
use hashbrown::HashMap;
use namespaces::Namespace;
use parking_lot::Mutex;
use proto_ids::NamespaceId;
use tokio::sync::watch;

macro_rules! keys {
    ($($key:ident: $t:ty = $name:literal, $default:expr, $doc:literal;)*) => {
        $(static $key: Key<$t> = Key::new($name, $default, $doc);)*

        /// The live settings that shards obey.
        pub static SETTINGS: &[&dyn AnyKey] = &[$(&$key),*];
    };
}

keys! {
    COUNT_ERROR: i64 = "limit.historyCount.error", 51_200, "Events at which a run is terminated.";
    COUNT_SUGGEST: i64 = "limit.historyCount.suggestContinueAsNew", 4_096, "Events at which continue-as-new is suggested.";
    SIZE_ERROR: i64 = "limit.historySize.error", 50 << 20, "History bytes at which a run is terminated.";
    SIZE_SUGGEST: i64 = "limit.historySize.suggestContinueAsNew", 4 << 20, "History bytes at which continue-as-new is suggested.";
    PENDING: usize = "limit.numPendingActivities.error", 2_000, "Pending activities, children, signals and cancels of one run.";
    SIGNALS: i64 = "history.maximumSignalsPerExecution", 10_000, "Signals one run may receive.";
    BUFFERED: usize = "history.maximumBufferedEventsBatch", 100, "Buffered events of one run.";
    BLOB: usize = "limit.blobSize.error", 2 << 20, "Bytes of one payload-carrying field.";
    MEMO: usize = "limit.memoSize.error", 2 << 20, "Bytes of a memo.";
    ATTRIBUTES: usize = "frontend.searchAttributesNumberOfKeysLimit", 100, "Search attributes of one run.";
    ATTRIBUTE_SIZE: usize = "frontend.searchAttributesSizeOfValueLimit", 2 << 10, "Bytes of one search attribute's value.";
    ATTRIBUTES_SIZE: usize = "frontend.searchAttributesTotalSizeLimit", 40 << 10, "Bytes of all search attributes of one run.";
    ID_LENGTH: usize = "limit.maxIDLength", 1_000, "Characters of an id.";
    TASK_TIMEOUT: Duration = "history.defaultWorkflowTaskTimeout", Duration::from_secs(10), "Workflow task timeout when none is asked for.";
    TASK_HEARTBEAT: Duration = "history.workflowTaskHeartbeatTimeout", Duration::from_secs(1_800), "How long workflow tasks may only keep themselves alive.";
    TASK_RETRY_MAX: Duration = "history.workflowTaskRetryMaxInterval", Duration::from_secs(600), "Longest pause before a failed workflow task is tried again.";
    RESET_POINTS: usize = "history.historyMaxAutoResetPoints", 20, "Reset points kept per run.";
    MIN_INTERVAL: Duration = "history.workflowIdReuseMinimalInterval", Duration::from_secs(1), "Shortest time between runs that keep continuing as new.";
    EAGER: bool = "system.enableActivityEagerExecution", true, "Whether activities may be handed back with the completion that scheduled them.";
}

/// Limits by namespace.
pub(crate) struct NamespaceLimits {
    settings: Settings,
    version: watch::Receiver<u64>,
    known: Mutex<HashMap<NamespaceId, Known>>,
}

struct Known {
    namespace: Arc<Namespace>,
    settings: u64,
    limits: Arc<Limits>,
}

impl NamespaceLimits {
    pub(crate) fn new(settings: Settings) -> Self {
        let version = settings.watch();
        Self {
            settings,
            version,
            known: Mutex::default(),
        }
    }

    pub(crate) fn of(&self, namespace: &Arc<Namespace>) -> Arc<Limits> {
        let settings = *self.version.borrow();
        let mut known = self.known.lock();
        if let Some(found) = known.get(&namespace.id)
            && found.settings == settings
            && Arc::ptr_eq(&found.namespace, namespace)
        {
            return found.limits.clone();
        }
        let limits = Arc::new(self.build(namespace));
        let made = Known {
            namespace: namespace.clone(),
            settings,
            limits: limits.clone(),
        };
        known.insert(namespace.id.clone(), made);
        limits
    }

    fn build(&self, namespace: &Namespace) -> Limits {
        let name = namespace.name.as_str();
        let s = &self.settings;
        Limits {
            namespace: name.to_owned(),
            retention: namespace.retention,
            default_workflow_task_timeout: s.get_for_namespace(&TASK_TIMEOUT, name),
            history_count_error: s.get_for_namespace(&COUNT_ERROR, name),
            history_count_suggest_continue_as_new: s.get_for_namespace(&COUNT_SUGGEST, name),
            history_size_error: s.get_for_namespace(&SIZE_ERROR, name),
            history_size_suggest_continue_as_new: s.get_for_namespace(&SIZE_SUGGEST, name),
            pending_limit: s.get_for_namespace(&PENDING, name),
            signals_limit: s.get_for_namespace(&SIGNALS, name),
            buffered_events_limit: s.get_for_namespace(&BUFFERED, name),
            blob_size_error: s.get_for_namespace(&BLOB, name),
            memo_size_error: s.get_for_namespace(&MEMO, name),
            search_attributes_limit: s.get_for_namespace(&ATTRIBUTES, name),
            search_attribute_size_error: s.get_for_namespace(&ATTRIBUTE_SIZE, name),
            search_attributes_size_error: s.get_for_namespace(&ATTRIBUTES_SIZE, name),
            id_length: s.get_for_namespace(&ID_LENGTH, name),
            workflow_task_heartbeat_timeout: s.get_for_namespace(&TASK_HEARTBEAT, name),
            workflow_task_retry_max_interval: s.get_for_namespace(&TASK_RETRY_MAX, name),
            reset_points_limit: s.get_for_namespace(&RESET_POINTS, name),
            continue_as_new_min_interval: s.get_for_namespace(&MIN_INTERVAL, name),
            eager_activities: s.get_for_namespace(&EAGER, name),
            replicated: namespace.is_replicated(),
            ..Limits::default()
        }
    }
}
