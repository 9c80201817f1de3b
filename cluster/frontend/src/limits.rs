//! The limits that requests are held to, as live settings. Names and defaults are Temporal's.

use std::time::Duration;

use cluster_runtime::{AnyKey, Key, Settings};

pub(crate) static ID_LENGTH: Key<i64> = Key::new(
    "limit.maxIDLength",
    1_000,
    "Bytes of an identifier, inclusive.",
);
pub(crate) static BLOB_SIZE: Key<i64> = Key::new(
    "limit.blobSize.error",
    2 << 20,
    "Bytes of one payload-carrying field of a request.",
);
pub(crate) static MEMO_SIZE: Key<i64> =
    Key::new("limit.memoSize.error", 2 << 20, "Bytes of a memo.");
pub(crate) static SUMMARY_SIZE: Key<i64> = Key::new(
    "limit.userMetadataSummarySize",
    400,
    "Bytes of the summary in user metadata.",
);
pub(crate) static DETAILS_SIZE: Key<i64> = Key::new(
    "limit.userMetadataDetailsSize",
    20_000,
    "Bytes of the details in user metadata.",
);
pub(crate) static LINKS: Key<i64> =
    Key::new("frontend.maxlinksPerRequest", 10, "Links of one request.");
pub(crate) static LINK_SIZE: Key<i64> =
    Key::new("frontend.linkMaxSize", 4_000, "Bytes of one link.");
pub(crate) static ATTRIBUTES: Key<i64> = Key::new(
    "frontend.searchAttributesNumberOfKeysLimit",
    100,
    "Search attributes of one request.",
);
pub(crate) static ATTRIBUTE_SIZE: Key<i64> = Key::new(
    "frontend.searchAttributesSizeOfValueLimit",
    2 << 10,
    "Bytes of one search attribute's value.",
);
pub(crate) static ATTRIBUTES_SIZE: Key<i64> = Key::new(
    "frontend.searchAttributesTotalSizeLimit",
    40 << 10,
    "Bytes of all search attributes of one request.",
);
pub(crate) static VISIBILITY_PAGE: Key<i64> = Key::new(
    "frontend.visibilityMaxPageSize",
    1_000,
    "Rows of a page of a list, and the default.",
);
pub(crate) static HISTORY_PAGE: Key<i64> = Key::new(
    "frontend.historyMaxPageSize",
    256,
    "Event batches of a page of a history, and the default.",
);
pub(crate) static OPEN_ERRORS: Key<bool> = Key::new(
    "frontend.exposeInternalErrors",
    false,
    "Whether texts of internal errors reach clients unmasked.",
);
/// All of them.
pub(crate) static KEYS: &[&dyn AnyKey] = &[
    &ID_LENGTH,
    &BLOB_SIZE,
    &MEMO_SIZE,
    &SUMMARY_SIZE,
    &DETAILS_SIZE,
    &LINKS,
    &LINK_SIZE,
    &ATTRIBUTES,
    &ATTRIBUTE_SIZE,
    &ATTRIBUTES_SIZE,
    &VISIBILITY_PAGE,
    &HISTORY_PAGE,
    &OPEN_ERRORS,
];

pub(crate) static POLL_DEADLINE_MIN: Duration = Duration::from_secs(2);
pub(crate) static POLL_DEADLINE_LOW: Duration = Duration::from_secs(10);

/// The limits of one namespace at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    settings: &'a Settings,
    namespace: &'a str,
}

impl<'a> Limits<'a> {
    pub(crate) fn new(settings: &'a Settings, namespace: &'a str) -> Self {
        Self {
            settings,
            namespace,
        }
    }

    /// The namespace they apply to.
    pub(crate) fn namespace(&self) -> &'a str {
        self.namespace
    }

    pub(crate) fn get(&self, key: &'static Key<i64>) -> usize {
        let value = self.settings.get_for_namespace(key, self.namespace);
        usize::try_from(value).unwrap_or(0)
    }
}
