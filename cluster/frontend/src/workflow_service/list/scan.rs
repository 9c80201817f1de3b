//! Filters on attributes that stores do not index: those that every server knows and that stand among a run's
//! search attributes. The store is asked for every run that may be wanted, and each is looked at here.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto_messages::temporal::api::common::v1::SearchAttributes;
use schema_store::visibility::{
    Position, VisibilityCount, VisibilityPage, VisibilityRecord,
    query::{Column, Query, Value},
};
use tonic::Status;

use super::decode;
use crate::{edge::Call, frontend::Host, refusal};

/// Rows that are asked for at a time.
const ROWS: usize = 1_000;
/// Rows that one list looks at. What it has found by then is its page, and the next one goes on from there.
const ROWS_MAX: usize = 20_000;

/// A page, shorter than asked for when many rows were looked at in vain.
pub(super) async fn list(
    host: &Host,
    call: &Call,
    (query, superset): (&Query, &Query),
    size: usize,
    mut after: Option<Bytes>,
) -> Result<VisibilityPage, Status> {
    let mut found = Vec::new();
    let mut seen = 0;
    loop {
        let page = rows(host, call, superset, after).await?;
        let last = page.records.len();
        seen += last;
        for (at, record) in page.records.into_iter().enumerate() {
            if !is_wanted(query, &record) {
                continue;
            }
            let position = Position::of(&record);
            found.push(record);
            if found.len() == size {
                let more = at + 1 < last || page.next.is_some();
                return Ok(VisibilityPage {
                    records: found,
                    next: more.then(|| position.encode()),
                });
            }
        }
        if page.next.is_none() || seen >= ROWS_MAX {
            return Ok(VisibilityPage {
                records: found,
                next: page.next,
            });
        }
        after = page.next;
    }
}

/// Counts by looking at every row.
pub(super) async fn count(
    host: &Host,
    call: &Call,
    query: &Query,
    superset: &Query,
) -> Result<VisibilityCount, Status> {
    let mut by_status = BTreeMap::new();
    let mut after = None;
    // A list cannot be grouped.
    let superset = Query {
        filter: superset.filter.clone(),
        group_by_status: false,
    };
    loop {
        let page = rows(host, call, &superset, after).await?;
        for record in page.records.iter().filter(|r| is_wanted(query, r)) {
            *by_status.entry(record.status).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(VisibilityCount {
                total: by_status.values().sum(),
                by_status,
            });
        }
    }
}

async fn rows(
    host: &Host,
    call: &Call,
    superset: &Query,
    after: Option<Bytes>,
) -> Result<VisibilityPage, Status> {
    host.visibility
        .visibility_list(&call.namespace.id, superset, ROWS, after)
        .await
        .map_err(refusal::of_store)
}

fn is_wanted(query: &Query, record: &VisibilityRecord) -> bool {
    let attributes = decode::<SearchAttributes>(record.search_attributes.clone());
    let attributes = attributes.unwrap_or_default();
    query.matches_with(record, &|name| values(&attributes, name))
}

/// The attribute's values as filters compare them; none when it is not set, or holds what is no value of it.
fn values(attributes: &SearchAttributes, name: &'static str) -> Vec<Value> {
    let Some(payload) = attributes.indexed_fields.get(name) else {
        return Vec::new();
    };
    let read = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Column::Attribute(name).read(text),
        serde_json::Value::Bool(truth) => Some(Value::Int(i64::from(*truth))),
        serde_json::Value::Number(number) => number.as_i64().map(Value::Int),
        _ => None,
    };
    match serde_json::from_slice(&payload.data) {
        Ok(serde_json::Value::Array(list)) => list.iter().filter_map(read).collect(),
        Ok(value) => read(&value).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proto_messages::{Wire, attributes, temporal::api::common::v1::Payload};

    use super::*;

    fn record(fields: &[(&str, &str)]) -> VisibilityRecord {
        let payload = |json: &str| Payload {
            data: json.to_owned().into(),
            ..Default::default()
        };
        let fields = fields.iter().map(|(n, json)| ((*n).into(), payload(json)));
        let attributes = SearchAttributes {
            indexed_fields: fields.collect(),
        };
        VisibilityRecord {
            workflow_id: "order-7".into(),
            search_attributes: attributes.to_wire(),
            ..Default::default()
        }
    }

    #[test]
    fn every_attribute_that_clients_are_told_of_can_be_filtered_on() {
        for (name, _) in attributes::known() {
            let query = Query::parse(&format!("`{name}` IS NULL;"));
            assert!(query.is_ok(), "{name}");
        }
    }

    #[test]
    fn attributes_that_are_no_columns_are_looked_at() {
        let patched = record(&[
            ("TemporalChangeVersion", r#"["tax-1","fee-2"]"#),
            ("BatcherUser", r#""ann""#),
            ("TemporalSchedulePaused", "true"),
            ("TemporalScheduledStartTime", r#""2020-09-13T12:26:40Z""#),
        ]);
        let plain = record(&[]);
        let wanted = |filter: &str| {
            let query = Query::parse(filter).expect(filter);
            let superset = query.superset().expect(filter);
            let of = |record: &VisibilityRecord| {
                let is = is_wanted(&query, record);
                assert!(!is || superset.matches(record), "{filter}");
                is
            };
            (of(&patched), of(&plain))
        };
        assert_eq!(wanted("TemporalChangeVersion = 'fee-2'"), (true, false));
        assert_eq!(wanted("TemporalChangeVersion != 'fee-2'"), (false, true));
        assert_eq!(wanted("TemporalChangeVersion NOT IN ('x')"), (true, true));
        assert_eq!(wanted("BatcherUser != 'bob'"), (true, false));
        assert_eq!(wanted("TemporalChangeVersion IS NULL"), (false, true));
        assert_eq!(wanted("NOT TemporalChangeVersion IS NULL"), (true, false));
        assert_eq!(wanted("NOT TemporalChangeVersion = 'x'"), (true, true));
        assert_eq!(
            wanted("WorkflowId = 'x' OR BatcherUser STARTS_WITH 'a'"),
            (true, false)
        );
        assert_eq!(wanted("TemporalSchedulePaused = true"), (true, false));
        assert_eq!(
            wanted("TemporalScheduledStartTime > '2020-01-01T00:00:00Z'"),
            (true, false)
        );
        assert_eq!(
            wanted("BuildIds IN ('a', 'b') OR WorkflowId = 'order-7'"),
            (true, true)
        );
        assert!(
            Query::parse("WorkflowId = 'order-7'")
                .unwrap()
                .superset()
                .is_none()
        );
    }
}
