//! Refuses starts to an overloaded process before they are read: a flood of them must not keep the process busy
//! with decoding what it refuses.

use cluster_rpc::{Gate, status};
use cluster_runtime::{Overload, overload::Class};
use tonic::Status;

const STARTS: [&str; 2] = [
    "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution",
    "/temporal.api.workflowservice.v1.WorkflowService/SignalWithStartWorkflowExecution",
];

/// The gate of the public port.
pub(crate) struct StartGate(pub(crate) Overload);

impl Gate for StartGate {
    fn admit(&self, path: &str) -> Result<(), Status> {
        if !STARTS.contains(&path) {
            return Ok(());
        }
        let admitted = self.0.admit_long(Class::Start);
        admitted.map_err(status::overloaded)
    }
}

#[cfg(test)]
mod tests {
    use proto_messages::temporal::api::workflowservice::v1 as api;

    use super::*;
    use crate::{edge::Rpc, quota::Priority};

    #[test]
    fn the_gate_knows_every_call_that_starts_workflows() {
        let named = [
            (STARTS[0], api::StartWorkflowExecutionRequest::TRAITS),
            (
                STARTS[1],
                api::SignalWithStartWorkflowExecutionRequest::TRAITS,
            ),
        ];
        for (path, traits) in named {
            assert_eq!(traits.priority, Priority::Start, "{path}");
        }
    }
}
