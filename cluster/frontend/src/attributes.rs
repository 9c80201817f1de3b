//! The search attributes that can be filtered on, as clients are told.

use std::collections::HashMap;

use proto_messages::attributes;

/// Names and types.
pub(crate) fn system() -> HashMap<String, i32> {
    attributes::known()
        .map(|(name, kind)| (name.to_owned(), kind as i32))
        .collect()
}
