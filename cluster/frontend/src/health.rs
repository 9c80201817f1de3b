//! Whether the frontend may serve. The wiring says so once membership is up, and takes it back before
//! the listeners close; until then every call is refused, and the health service follows the same handle.

use cluster_rpc::status;
use tokio::sync::watch;
use tonic::Status;

/// A handle on readiness. Clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<bool>);

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// The names under which the health service tells readiness.
    pub const SERVICES: [&'static str; 3] = [
        "temporal.api.workflowservice.v1.WorkflowService",
        "temporal.api.operatorservice.v1.OperatorService",
        "temporal.server.api.adminservice.v1.AdminService",
    ];

    /// Says whether calls may be served from now on.
    pub fn set(&self, ready: bool) {
        self.0
            .send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// Whether calls may be served.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Readiness as it changes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Returns when calls may not be served, as when the process stops.
    pub(crate) async fn lost(&self) {
        // The sender is this very handle: waiting cannot fail.
        let _ = self.watch().wait_for(|ready| !*ready).await;
    }

    pub(crate) fn check(&self) -> Result<(), Status> {
        match self.is_ready() {
            true => Ok(()),
            false => Err(status::unavailable("Frontend is not healthy yet")),
        }
    }
}
