//! What the weather does to a request before it is read.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::answer::Reply;
use super::api::Core;
use super::weather::What;

/// Lets a request through, late if need be. Otherwise what it gets: an answer, or `None`, the end of its connection.
pub(super) async fn pass(core: &Core) -> Result<(), Option<Reply>> {
    // The guard of the site must not be held while waiting.
    let has = |what| core.site(Instant::now()).weather.has(what);
    let delay = core.site(Instant::now()).weather.value(What::Delay);
    if let Some(seconds) = delay {
        sleep(Duration::from_secs_f64(seconds)).await;
    }
    let hangs_until = Instant::now() + LONGEST_HANG;
    while has(What::Hang) {
        sleep(HANG_STEP).await;
        // A request that hung is never answered, or else it would count as slow.
        if !has(What::Hang) || Instant::now() >= hangs_until {
            return Err(None);
        }
    }
    if has(What::Down) {
        return Err(None);
    }
    if has(What::Error503) {
        return Err(Some(Reply::error(503, "the KME is out of order")));
    }
    if has(What::Error400) {
        return Err(Some(Reply::error(400, "the KME takes no request now")));
    }
    Ok(())
}

const HANG_STEP: Duration = Duration::from_millis(50);
/// Longer than any client waits, and short enough to give the connection back.
const LONGEST_HANG: Duration = Duration::from_secs(120);
