//! The control socket: one JSON line in, one JSON line out. Who may open the socket may command the weather.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Change, What};
use crate::kme::KmeError;
use crate::kme::api::Core;

/// A command to a running KME.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Let a change come now.
    Set(Change),
    /// End one condition, or all.
    Clear(Option<What>),
    /// Only tell how things are.
    Show,
}

/// Sends a command to the KME whose control socket is at `path`. Its answer tells how things are then: one line of JSON.
///
/// # Errors
/// One line with cause and remedy.
pub fn command(path: &Path, command: &Command) -> Result<String, String> {
    let exchange = || -> io::Result<String> {
        let mut socket = StdUnixStream::connect(path)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        let line = serde_json::to_string(command)?;
        socket.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|e| {
        format!("{}: {e}; give the socket that `[kme] control` of a running KME names", path.display())
    })?;
    let value: serde_json::Value = serde_json::from_str(&answer)
        .map_err(|_| format!("{}: the answer is not a KME's; give its control socket", path.display()))?;
    match value["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer.trim_end().to_owned()),
    }
}

/// Opens the control socket, for our own user alone. One left behind by a KME that is gone is replaced.
pub(in crate::kme) fn listen(path: &Path) -> Result<UnixListener, KmeError> {
    let refused = |reason: String| {
        KmeError::Config(format!(
            "[kme] control {}: {reason}; name a free path in a directory of ours",
            path.display()
        ))
    };
    let left_behind = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    if left_behind && StdUnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(|e| refused(e.to_string()))?;
    }
    let listener = UnixListener::bind(path).map_err(|e| refused(e.to_string()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(|e| refused(e.to_string()))?;
    Ok(listener)
}

/// Obeys commands for ever; waits for ever without a socket.
pub(in crate::kme) async fn serve(core: Arc<Core>, listener: Option<UnixListener>) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let answered = timeout(LIMIT, converse(&core, socket)).await;
                if !matches!(answered, Ok(Ok(()))) {
                    warn!("a command on the control socket was not finished");
                }
            }
            Err(error) => {
                warn!(%error, "no command could be taken");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(core: &Core, socket: UnixStream) -> io::Result<()> {
    let (input, mut output) = socket.into_split();
    let mut line = String::new();
    AsyncBufReader::new(input.take(MAX_LINE)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(command) => obey(core, &command),
        Err(error) => json!({ "error": format!("not a command: {error}") }),
    };
    output.write_all(format!("{answer}\n").as_bytes()).await
}

fn obey(core: &Core, command: &Command) -> serde_json::Value {
    let now = Instant::now();
    let mut site = core.site(now);
    match command {
        Command::Set(change) => {
            if let Err(reason) = change.check() {
                return json!({ "error": reason });
            }
            info!(?change, "weather");
            site.change(*change, now);
        }
        Command::Clear(what) => site.clear(*what, now),
        Command::Show => {}
    }
    site.report(now)
}

const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const MAX_LINE: u64 = 4_096;
