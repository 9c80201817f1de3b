use bytes::Bytes;
use proto_ids::Timestamp;

use super::*;
use crate::visibility::VisibilityRecord;

fn record() -> VisibilityRecord {
    VisibilityRecord {
        namespace_id: "ns".into(),
        workflow_id: "order-7".into(),
        run_id: "r".into(),
        workflow_type: "Order".to_owned(),
        task_queue: "it's".to_owned(),
        status: 2,
        start_time: Timestamp::from_millis(1_600_000_000_000),
        execution_time: Timestamp::from_millis(1_600_000_000_000),
        close_time: Timestamp::from_millis(1_600_000_090_000),
        history_length: 11,
        root_workflow_id: "order-7".to_owned(),
        memo: Bytes::new(),
        ..VisibilityRecord::default()
    }
}

#[test]
fn conditions_hold_or_not() {
    let yes = [
        "",
        "WorkflowId = 'order-7'",
        "WorkflowId = \"order-7\" and `WorkflowType` != 'Other'",
        "TaskQueue = 'it''s' AND TaskQueue = 'it\\'s'",
        "ExecutionStatus = 'Completed' AND ExecutionStatus = 2 AND ExecutionStatus = '2'",
        "ExecutionStatus IN ('Running', 'WORKFLOW_EXECUTION_STATUS_COMPLETED')",
        "StartTime = '2020-09-13T12:26:40Z' AND StartTime < '2020-09-13T14:26:40.000000001+02:00'",
        "StartTime BETWEEN 1600000000000000000 AND '1600000000000000000'",
        "CloseTime > '2020-09-13T12:26:40Z'",
        "ExecutionDuration = '90s' AND ExecutionDuration = '1m30s' AND ExecutionDuration = '00:01:30'",
        "ExecutionDuration = 90000000000 AND ExecutionDuration <= '1.5m'",
        "WorkflowId STARTS_WITH 'order-' AND WorkflowId NOT STARTS_WITH 'Order'",
        "ParentWorkflowId IS NULL AND CloseTime IS NOT NULL AND TemporalNamespaceDivision IS NULL",
        "NOT (WorkflowId = 'x' OR HistoryLength NOT BETWEEN 11 AND 12)",
        "WorkflowId = 'x' AND WorkflowId = 'y' OR WorkflowId = 'order-7'",
        "TemporalWorkflowId = 'order-7' AND ScheduleId = 'order-7'",
        "WorkflowId = 'order-7' GROUP BY ExecutionStatus",
        "HistoryLength <> 12 and HistoryLength > -1",
        "HistoryLength > \"5\" AND HistoryLength BETWEEN '5' AND '50';",
        "ExecutionDuration >= \"1ms\" AND ExecutionDuration < '01:00:00'",
        "`HistoryLength` = 11 AND BuildIds IS NULL AND TemporalChangeVersion IS NULL ;",
        ";",
    ];
    let no = [
        "WorkflowId NOT IN ('order-7', 'x')",
        "ParentWorkflowId != 'x'",
        "NOT ParentWorkflowId = 'x'",
        "WorkflowId < 'order-7'",
        "WorkflowId = 'ORDER-7'",
        "ExecutionStatus = 'Paused'",
    ];
    for (texts, wanted) in [(&yes[..], true), (&no[..], false)] {
        for text in texts {
            let query = Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(query.matches(&record()), wanted, "{text}");
        }
    }
}

#[test]
fn errors_tell_what_and_where() {
    let cases = [
        (
            "WorkflowId = 'a' AND Color = 'b'",
            "invalid query: invalid expression: column name 'Color' is not a valid search attribute (position 22)",
        ),
        (
            "WorkflowId = ",
            "invalid query: malformed SQL query: syntax error at position 14",
        ),
        (
            "WorkflowId = 'a",
            "invalid query: malformed SQL query: syntax error at position 14 near ''a'",
        ),
        (
            "WorkflowId == 'a'",
            "invalid query: malformed SQL query: syntax error at position 13 near '='",
        ),
        (
            "CloseTime > StartTime",
            "invalid query: malformed SQL query: syntax error at position 13 near 'StartTime'",
        ),
        (
            "ExecutionStatus = 'Done'",
            "invalid query: invalid value for search attribute ExecutionStatus of type Keyword: 'Done': not a status \
             (position 19)",
        ),
        (
            "StartTime > '2020-13-01T00:00:00Z'",
            "invalid query: invalid value for search attribute StartTime of type Datetime: '2020-13-01T00:00:00Z': \
             expected an RFC 3339 time or Unix nanoseconds (position 13)",
        ),
        (
            "HistoryLength STARTS_WITH 'x'",
            "invalid query: invalid expression: operator 'STARTS_WITH' not supported for Int type search attribute \
             'HistoryLength'",
        ),
        (
            "ORDER BY StartTime",
            "invalid query: operation is not supported: 'ORDER BY' clause",
        ),
        (
            "GROUP BY WorkflowType",
            "invalid query: operation is not supported: 'GROUP BY' clause is only supported for ExecutionStatus \
             search attribute",
        ),
        (
            "WorkflowId = 'a')",
            "invalid query: malformed SQL query: syntax error at position 17 near ')'",
        ),
        (
            "WorkflowId = 'a'; WorkflowId = 'b'",
            "invalid query: malformed SQL query: syntax error at position 19 near 'WorkflowId'",
        ),
        (
            "WorkflowId = 'a\0'",
            "invalid query: query contains a NUL character (position 16)",
        ),
        (
            "BuildIds > 'a'",
            "invalid query: operation is not supported: operator '>' not supported for KeywordList type search \
             attribute 'BuildIds'",
        ),
        (
            "BuildIds BETWEEN 'a' AND 'b'",
            "invalid query: invalid expression: cannot do range condition on search attribute 'BuildIds' of type \
             KeywordList",
        ),
        (
            "TemporalSchedulePaused = 7",
            "invalid query: invalid value for search attribute TemporalSchedulePaused of type Bool: '7': expected true \
             or false (position 26)",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(
            Query::parse(text).expect_err(text).to_string(),
            wanted,
            "{text}"
        );
    }
}

#[test]
fn size_is_limited() {
    let deep = format!("{}WorkflowId = 'a'{}", "(".repeat(70), ")".repeat(70));
    assert!(Query::parse(&deep).is_err());
    let condition = "WorkflowId = 'a'";
    assert!(Query::parse(&vec![condition; 256].join(" OR ")).is_ok());
    assert!(Query::parse(&vec![condition; 257].join(" OR ")).is_err());
}

/// Filters come from outside: whatever they are, the answer is a query or an error.
#[test]
fn broken_text_never_panics() {
    let whole = "NOT (WorkflowId = 'it''s \\' é' OR `StartTime` BETWEEN '2020-09-13T12:26:40.5+02:00' AND -1.5e3) \
                 AND ExecutionDuration NOT IN ('1h2µs', \"00:01:30\", 9) GROUP BY ExecutionStatus";
    let boundaries: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for from in &boundaries {
        for until in boundaries.iter().filter(|until| *until >= from) {
            let _ = Query::parse(&whole[*from..*until]);
            let _ = Query::parse(&format!("{}{}", &whole[..*from], &whole[*until..]));
        }
    }
}
