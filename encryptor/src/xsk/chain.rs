use super::frame::Frame;
use super::statistics::PortCounters;
use super::umem::Umem;

/// Bytes that a received frame needs behind it, for what encryption appends. One that fills its chunk to less is moved.
pub(super) const TAILROOM: usize = 64;

/// Why a received frame is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// A descriptor named a chunk that the kernel did not have, or lay beyond one.
    Invalid,
    /// No jumbo buffer was free.
    NoJumbo,
    /// It is larger than a jumbo buffer.
    TooLong,
}

/// What a received piece is to its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// More pieces follow.
    Inner,
    /// The frame ends with it.
    Last,
}

/// A frame that is being received, piece by piece. It stays here between two looks at the ring, should the kernel have shown
/// only its beginning by then.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// What came so far; `None` between frames.
    begun: Option<Result<Frame, Loss>>,
}

impl Chain {
    /// Takes the next piece. The frame, or why it is lost, when this piece is its last; a loss is told once for each frame.
    pub(super) fn add(
        &mut self,
        piece: Result<Frame, Loss>,
        place: Place,
        umem: &mut Umem,
    ) -> Option<Result<Frame, Loss>> {
        let joined = match (self.begun.take(), piece) {
            (None, Ok(frame)) if place == Place::Last && is_roomy(&frame, umem) => Ok(frame),
            (None, Ok(first)) => match umem.alloc_jumbo() {
                Some(jumbo) => append(jumbo, first, umem),
                None => lose(first, Loss::NoJumbo, umem),
            },
            (None, Err(loss)) => Err(loss),
            (Some(Ok(begun)), Ok(piece)) => append(begun, piece, umem),
            (Some(Ok(begun)), Err(loss)) => lose(begun, loss, umem),
            (Some(Err(loss)), Ok(piece)) => lose(piece, loss, umem),
            (Some(Err(loss)), Err(_)) => Err(loss),
        };
        match place {
            Place::Last => Some(joined),
            Place::Inner => {
                self.begun = Some(joined);
                None
            }
        }
    }

    /// The jumbo buffer of a frame whose end has not come.
    pub(super) fn held(&self) -> Option<&Frame> {
        self.begun.as_ref()?.as_ref().ok()
    }

    /// Gives it up.
    pub(super) fn give_up(&mut self) -> Option<Frame> {
        self.begun.take()?.ok()
    }
}

impl Loss {
    /// The counter of frames lost for this reason.
    pub(super) fn counter(self, counters: &mut PortCounters) -> &mut u64 {
        match self {
            Loss::Invalid => &mut counters.rx_invalid,
            Loss::NoJumbo => &mut counters.rx_no_jumbo,
            Loss::TooLong => &mut counters.rx_too_long,
        }
    }
}

/// Without jumbo buffers no frame can be moved: then it has the room that it has.
fn is_roomy(frame: &Frame, umem: &Umem) -> bool {
    frame.tailroom() >= TAILROOM || umem.jumbos() == 0
}

fn append(mut frame: Frame, piece: Frame, umem: &mut Umem) -> Result<Frame, Loss> {
    let fits = frame.extend_from(piece.data());
    umem.free(piece);
    if fits { Ok(frame) } else { lose(frame, Loss::TooLong, umem) }
}

fn lose(frame: Frame, loss: Loss, umem: &mut Umem) -> Result<Frame, Loss> {
    umem.free(frame);
    Err(loss)
}
