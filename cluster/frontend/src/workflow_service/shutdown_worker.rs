//! ShutdownWorker. Never fails for the worker's sake: it is on its way out.

use proto_messages::{
    meridian::matching::v1 as matching,
    temporal::api::workflowservice::v1::{ShutdownWorkerRequest, ShutdownWorkerResponse},
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
};

impl Serve for ShutdownWorkerRequest {
    async fn serve(self, host: &Host, call: &Call) -> Result<ShutdownWorkerResponse, Status> {
        let request = matching::ShutdownWorkerRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.matching.shutdown_worker(request).await;
        Ok(ShutdownWorkerResponse {})
    }
}
