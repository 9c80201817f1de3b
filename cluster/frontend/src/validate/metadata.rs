//! Metadata that clients attach for people and tools.

use prost::Message;
use proto_messages::temporal::api::{common::v1::Link, sdk::v1::UserMetadata};

use super::{Checked, refuse};
use crate::limits::{self, Limits};

pub(crate) fn user_metadata(metadata: Option<&UserMetadata>, limits: Limits<'_>) -> Checked {
    let Some(metadata) = metadata else {
        return Ok(());
    };
    let too_long = |payload: Option<&_>, key| {
        let size = payload.map_or(0, Message::encoded_len);
        size > limits.get(key)
    };
    let payload = |p: &Option<proto_messages::temporal::api::common::v1::Payload>, key| {
        too_long(p.as_ref(), key)
    };
    if payload(&metadata.summary, &limits::SUMMARY_SIZE) {
        return refuse("UserMetadata.Summary exceeds size limit.");
    }
    if payload(&metadata.details, &limits::DETAILS_SIZE) {
        return refuse("UserMetadata.Details exceeds size limit.");
    }
    Ok(())
}

pub(crate) fn links(links: &[Link], limits: Limits<'_>) -> Checked {
    let most = limits.get(&limits::LINKS);
    if links.len() > most {
        return refuse(format!(
            "cannot attach more than {most} links per request, got {}",
            links.len()
        ));
    }
    let most = limits.get(&limits::LINK_SIZE);
    for link in links {
        let size = link.encoded_len();
        if size > most {
            return refuse(format!("link exceeds allowed size of {most}, got {size}"));
        }
    }
    Ok(())
}
