mod by_id;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::secret::{DeliveredKey, KeyId};
use crate::source::{KeySource, SourceError, SourceStatus};

/// Runs a key source on two threads of its own, one for new keys and status, one for keys by key_ID, so that a KME that
/// is slow, hangs or lies never blocks the caller. Nothing here waits: ask, be woken, poll.
///
/// Dropping the feeder ends the threads as soon as their call to the source returns; nobody waits for that.
pub struct Feeder {
    new: Sender<Ask>,
    by_id: Sender<Vec<(u64, KeyId)>>,
    replies: Receiver<FeedReply>,
    new_under_way: AtomicBool,
    status_under_way: AtomicBool,
    /// Dropped with the feeder, which ends a thread's pause between retries.
    _alive: Sender<()>,
}

/// What a source answered.
#[derive(Debug)]
pub enum FeedReply {
    /// To [`Feeder::ask_new`].
    New(Result<Vec<DeliveredKey>, SourceError>),
    /// To [`Feeder::ask_by_id`]: place, key_ID and key of some of the items. Several replies may answer one call,
    /// keys at hand first; each item is answered exactly once.
    ById(Vec<(u64, KeyId, Result<DeliveredKey, SourceError>)>),
    /// To [`Feeder::ask_status`].
    Status(Result<SourceStatus, SourceError>),
}

impl Feeder {
    /// Makes two instances of the source and starts their threads. `wake` is called, on those threads, after each reply.
    ///
    /// # Errors
    /// What `make` fails with, or that the system gives no thread.
    pub fn start(
        make: impl Fn() -> Result<Box<dyn KeySource>, SourceError>,
        wake: impl Fn() + Send + Sync + Clone + 'static,
    ) -> Result<Self, SourceError> {
        let (new, new_asks) = bounded(2);
        let (by_id, by_id_asks) = bounded(QUEUED_BATCHES);
        let (reply, replies) = bounded(QUEUED_REPLIES);
        let (alive, ended) = bounded(0);
        let outbox = Outbox { reply, wake: Arc::new(wake) };
        let (source, out) = (make()?, outbox.clone());
        spawn("keyfeed-new", move || serve_new(source, &new_asks, &out))?;
        let source = make()?;
        spawn("keyfeed-by-id", move || by_id::serve(source, &by_id_asks, &outbox, &ended))?;
        let (new_under_way, status_under_way) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Feeder { new, by_id, replies, new_under_way, status_under_way, _alive: alive })
    }

    /// Asks for `number` fresh keys. False: the reply to the last call is not yet polled, and nothing was asked.
    pub fn ask_new(&self, number: usize) -> bool {
        ask_once(&self.new_under_way, &self.new, Ask::New(number))
    }

    /// Asks the source how it is. False: the reply to the last call is not yet polled, and nothing was asked.
    pub fn ask_status(&self) -> bool {
        ask_once(&self.status_under_way, &self.new, Ask::Status)
    }

    /// Asks for the keys of these places and key_IDs. False: the queue is full, and nothing was asked.
    pub fn ask_by_id(&self, items: Vec<(u64, KeyId)>) -> bool {
        items.is_empty() || self.by_id.try_send(items).is_ok()
    }

    /// The next reply, if one is there.
    pub fn poll(&self) -> Option<FeedReply> {
        let reply = self.replies.try_recv().ok()?;
        match reply {
            FeedReply::New(_) => self.new_under_way.store(false, Ordering::Release),
            FeedReply::Status(_) => self.status_under_way.store(false, Ordering::Release),
            FeedReply::ById(_) => {}
        }
        Some(reply)
    }
}

/// Batches of key_IDs that wait for the source.
const QUEUED_BATCHES: usize = 64;
/// Replies that wait for the caller; a thread that finds no room waits.
const QUEUED_REPLIES: usize = 16;

enum Ask {
    New(usize),
    Status,
}

/// Where the threads put replies.
#[derive(Clone)]
struct Outbox {
    reply: Sender<FeedReply>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Outbox {
    /// False when the feeder is gone.
    fn put(&self, reply: FeedReply) -> bool {
        let taken = self.reply.send(reply).is_ok();
        if taken {
            (self.wake)();
        }
        taken
    }
}

fn serve_new(mut source: Box<dyn KeySource>, asks: &Receiver<Ask>, out: &Outbox) {
    for ask in asks {
        let reply = match ask {
            Ask::New(number) => FeedReply::New(source.new_keys(number)),
            Ask::Status => FeedReply::Status(source.status()),
        };
        if !out.put(reply) {
            return;
        }
    }
}

fn ask_once(under_way: &AtomicBool, queue: &Sender<Ask>, ask: Ask) -> bool {
    if under_way.swap(true, Ordering::AcqRel) {
        return false;
    }
    let asked = queue.try_send(ask).is_ok();
    under_way.store(asked, Ordering::Release);
    asked
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SourceError> {
    let no_thread = |e: io::Error| SourceError::Setting {
        name: "source",
        reason: format!("no thread for it: {e}; raise the limit of threads"),
    };
    // The handle is dropped: a thread inside a request to a KME that hangs must not hold up its owner.
    thread::Builder::new().name(name.into()).spawn(run).map(drop).map_err(no_thread)
}

#[cfg(test)]
mod tests;
