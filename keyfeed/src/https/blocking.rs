use tokio::runtime::{Builder, Runtime};

use super::{Answer, Client, Endpoint};
use crate::source::SourceError;

/// A [`Client`] for callers without a runtime: each request blocks until its answer or its time limit.
pub(crate) struct Blocking {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    client: Client,
}

impl Blocking {
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, SourceError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|e| SourceError::Setting {
                name: "url",
                reason: format!("no I/O for the client: {e}; raise the limit of open files"),
            })?;
        Ok(Blocking { runtime: Some(runtime), client: Client::new(endpoint) })
    }

    /// See [`Client::request`].
    pub(crate) fn request(&mut self, path: &str, json: Option<Vec<u8>>) -> Result<Answer, SourceError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(self.client.request(path, json)),
            None => Err(SourceError::Setting { name: "url", reason: "the client is being dropped".into() }),
        }
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        // A name lookup that hangs runs on a thread of the runtime's: do not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
