//! Visibility: versions, order, pages, every operator on every kind of column.

use super::{at, blob};
use crate::{
    Store,
    error::StoreError,
    visibility::{VisibilityRecord, VisibilityWrite, query::Query},
};

/// A run that started at `start` and, unless that is 0, closed at `close` (in milliseconds).
fn record(run: &str, start: i64, close: i64) -> VisibilityRecord {
    VisibilityRecord {
        namespace_id: "ns".into(),
        workflow_id: format!("workflow-{run}").into(),
        run_id: run.into(),
        version: 1,
        workflow_type: "Order".to_owned(),
        task_queue: "queue".to_owned(),
        status: if close == 0 { 1 } else { 2 },
        start_time: at(start),
        execution_time: at(start),
        close_time: at(close),
        history_length: if close == 0 { 0 } else { 11 },
        history_size: if close == 0 { 0 } else { 1200 },
        state_transition_count: if close == 0 { 0 } else { 5 },
        parent_workflow_id: String::new(),
        parent_run_id: String::new(),
        root_workflow_id: format!("workflow-{run}"),
        root_run_id: run.to_owned(),
        memo: blob("memo"),
        search_attributes: blob("attributes"),
    }
}

async fn write(store: &Store, records: &[VisibilityRecord]) {
    let writes = records
        .iter()
        .map(|record| VisibilityWrite::Put(Box::new(record.clone())));
    store
        .visibility
        .visibility_write(writes.collect())
        .await
        .expect("write");
}

async fn runs(store: &Store, query: &str) -> String {
    let parsed = Query::parse(query).expect(query);
    let page = store
        .visibility
        .visibility_list(&"ns".into(), &parsed, 100, None)
        .await
        .expect(query);
    assert!(page.next.is_none(), "{query}");
    let runs: Vec<&str> = page
        .records
        .iter()
        .map(|record| record.run_id.as_str())
        .collect();
    let count = store
        .visibility
        .visibility_count(&"ns".into(), &parsed)
        .await
        .expect(query);
    assert_eq!(count.total, runs.len() as i64, "{query}");
    runs.join("")
}

pub(super) async fn newer_versions_win(store: Store) {
    let open = record("a", 10, 0);
    let mut closed = record("a", 10, 20);
    closed.version = 3;
    closed.parent_workflow_id = "parent".to_owned();
    write(&store, std::slice::from_ref(&closed)).await;
    write(&store, &[open]).await;
    let get = async || {
        store
            .visibility
            .visibility_get(&"ns".into(), &"a".into())
            .await
            .expect("get")
    };
    assert_eq!(
        get().await,
        Some(closed.clone()),
        "an older write changes nothing"
    );
    let mut same = closed.clone();
    same.status = 5;
    write(&store, std::slice::from_ref(&same)).await;
    assert_eq!(get().await, Some(closed));
    same.version = 4;
    write(&store, &[same.clone(), record("b", 1, 0)]).await;
    assert_eq!(get().await, Some(same));
    let other = store
        .visibility
        .visibility_get(&"other".into(), &"a".into())
        .await
        .expect("get");
    assert_eq!(other, None);
    let delete = VisibilityWrite::Delete {
        namespace_id: "ns".into(),
        run_id: "a".into(),
    };
    let put = VisibilityWrite::Put(Box::new(record("c", 1, 0)));
    store
        .visibility
        .visibility_write(vec![delete, put])
        .await
        .expect("write");
    assert_eq!(get().await, None);
    assert_eq!(runs(&store, "").await, "bc");
}

pub(super) async fn pages_follow_the_order(store: Store) {
    let mut all = vec![
        record("d", 10, 50),
        record("a", 30, 0),
        record("f", 10, 40),
        record("c", 20, 0),
        record("b", 30, 0),
        record("e", 9, 50),
        record("g", 10, 40),
    ];
    write(&store, &all).await;
    let mut elsewhere = record("z", 1, 0);
    elsewhere.namespace_id = "other".into();
    write(&store, &[elsewhere]).await;
    all.sort_by(|a, b| a.run_id.cmp(&b.run_id));
    for page_size in [1, 2, 3, 7, 8] {
        let mut seen = Vec::new();
        let mut next = None;
        loop {
            let page = store
                .visibility
                .visibility_list(&"ns".into(), &Query::default(), page_size, next)
                .await;
            let page = page.expect("list");
            assert!(page.records.len() <= page_size);
            seen.extend(page.records);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "pages of {page_size}");
    }
    for token in [
        &b""[..],
        b"x",
        b"\x01short",
        b"\x02aaaaaaaabbbbbbbbrun",
        b"\x01aaaaaaaabbbbbbbb\xff\xfe",
    ] {
        let token = Some(bytes::Bytes::from_static(token));
        let outcome = store
            .visibility
            .visibility_list(&"ns".into(), &Query::default(), 2, token)
            .await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid(_))),
            "{outcome:?}"
        );
    }
}

pub(super) async fn every_operator(store: Store) {
    let mut child = record("c", 30, 40);
    child.parent_workflow_id = "workflow-a".to_owned();
    child.parent_run_id = "a".to_owned();
    child.root_workflow_id = "workflow-a".to_owned();
    child.workflow_type = "order%_\\".to_owned();
    child.status = 3;
    child.history_length = 20;
    // The order of lists: a (open), then c (closed later), then b.
    write(&store, &[record("a", 10, 0), record("b", 20, 30), child]).await;
    let cases = [
        ("", "acb"),
        ("WorkflowId = 'workflow-a'", "a"),
        ("WorkflowId != 'workflow-a'", "cb"),
        ("WorkflowId < 'workflow-b'", "a"),
        ("WorkflowId <= 'workflow-b'", "ab"),
        ("WorkflowId > 'workflow-b'", "c"),
        ("WorkflowId >= 'workflow-b'", "cb"),
        ("WorkflowId IN ('workflow-a', 'workflow-c', 'x')", "ac"),
        ("WorkflowId NOT IN ('workflow-a', 'x')", "cb"),
        ("WorkflowId BETWEEN 'workflow-a' AND 'workflow-b'", "ab"),
        ("WorkflowId STARTS_WITH 'workflow-'", "acb"),
        ("WorkflowId NOT STARTS_WITH 'workflow-a'", "cb"),
        ("WorkflowType STARTS_WITH 'order%_'", "c"),
        ("WorkflowType STARTS_WITH 'Order'", "ab"),
        ("WorkflowType STARTS_WITH '%'", ""),
        ("RunId = 'b' AND TaskQueue = 'queue'", "b"),
        ("ExecutionStatus = 'Running'", "a"),
        ("ExecutionStatus != 'Running'", "cb"),
        ("ExecutionStatus IN ('Completed', 3)", "cb"),
        ("StartTime = 10000000", "a"),
        ("StartTime > '1970-01-01T00:00:00.01Z'", "cb"),
        (
            "StartTime BETWEEN '1970-01-01T00:00:00.01Z' AND '1970-01-01T00:00:00.02Z'",
            "ab",
        ),
        ("ExecutionTime <= 20000000", "ab"),
        ("CloseTime IS NULL", "a"),
        ("CloseTime IS NOT NULL", "cb"),
        ("CloseTime > 0", "cb"),
        ("NOT CloseTime > 30000000", "b"),
        ("CloseTime != 30000000", "c"),
        ("ExecutionDuration = '10ms'", "cb"),
        ("ExecutionDuration > 10000000", ""),
        ("ExecutionDuration IS NULL", "a"),
        ("HistoryLength >= 11", "cb"),
        ("HistoryLength NOT BETWEEN 11 AND 12", "c"),
        ("HistorySizeBytes = 1200 AND StateTransitionCount < 6", "cb"),
        ("StateTransitionCount IS NULL", "a"),
        ("ParentWorkflowId = 'workflow-a' AND ParentRunId = 'a'", "c"),
        ("ParentWorkflowId IS NULL", "ab"),
        ("ParentWorkflowId != 'x'", "c"),
        ("ParentWorkflowId NOT IN ('x')", "c"),
        ("RootWorkflowId = 'workflow-a'", "ac"),
        ("RootRunId = 'c'", "c"),
        ("TemporalNamespaceDivision IS NULL", "acb"),
        ("TemporalNamespaceDivision = 'x'", ""),
        (
            "WorkflowId = 'workflow-a' OR WorkflowId = 'workflow-b' AND RunId = 'x'",
            "a",
        ),
        (
            "(WorkflowId = 'workflow-a' OR WorkflowId = 'workflow-b') AND RunId = 'b'",
            "b",
        ),
        ("NOT (RunId = 'a' OR RunId = 'b')", "c"),
        ("ParentWorkflowId = 'x' OR RunId = 'a'", "a"),
    ];
    let many = (0..255)
        .map(|n| format!("WorkflowId = 'x{n}'"))
        .collect::<Vec<_>>()
        .join(" OR ");
    assert_eq!(
        runs(&store, &format!("{many} OR RunId = 'b'")).await,
        "b",
        "as many conditions as may be"
    );
    let deep = format!("{}RunId = 'b'{}", "NOT (".repeat(30), ")".repeat(30));
    assert_eq!(runs(&store, &deep).await, "b", "deep nesting");
    let values = (0..4000)
        .map(|n| format!("'x{n}'"))
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(
        runs(&store, &format!("RunId NOT IN ({values})")).await,
        "acb",
        "many values"
    );
    for (query, wanted) in cases {
        assert_eq!(runs(&store, query).await, wanted, "{query}");
    }
}

pub(super) async fn counts(store: Store) {
    let mut failed = record("d", 1, 2);
    failed.status = 3;
    write(
        &store,
        &[
            record("a", 1, 0),
            record("b", 1, 2),
            record("c", 1, 3),
            failed,
        ],
    )
    .await;
    let count = async |query: &str| {
        let parsed = Query::parse(query).expect(query);
        store
            .visibility
            .visibility_count(&"ns".into(), &parsed)
            .await
            .expect(query)
    };
    let all = count("").await;
    assert_eq!((all.total, all.by_status.len()), (4, 0));
    let grouped = count("GROUP BY ExecutionStatus").await;
    assert_eq!(grouped.total, 4);
    assert_eq!(
        grouped.by_status.into_iter().collect::<Vec<_>>(),
        vec![(1, 1), (2, 2), (3, 1)]
    );
    let some = count("ExecutionStatus != 'Completed' GROUP BY ExecutionStatus").await;
    assert_eq!(
        some.by_status.into_iter().collect::<Vec<_>>(),
        vec![(1, 1), (3, 1)]
    );
    let groups = Query::parse("GROUP BY ExecutionStatus").expect("parse");
    let listed = store
        .visibility
        .visibility_list(&"ns".into(), &groups, 10, None)
        .await;
    assert!(
        matches!(listed, Err(StoreError::Invalid(_))),
        "a list has no groups"
    );
    let none = store
        .visibility
        .visibility_count(&"other".into(), &Query::default())
        .await
        .expect("count");
    assert_eq!(none.total, 0);
}
