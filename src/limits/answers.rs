//! The memory that answers take until their clients have read them.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use super::{client::network, rate::count_refusal};
use crate::{auth::token::Claims, problem::Problem};

/// The size of a piece of an answer. The server holds a piece or two beside it; over HTTP/1, 400 KiB for each connection.
pub const PIECE: usize = 16 * 1024;

/// An answer that is handed over piece by piece, as the client reads it.
pub struct Unread {
    bytes: Bytes,
    _held: Held,
}

impl Unread {
    /// The bytes, held until they are read.
    pub fn new(bytes: Bytes, held: Held) -> Self {
        Unread { bytes, _held: held }
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(size)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// The memory that all unread answers may take. Each caller may take a quarter of the memory that is still free: a single
/// caller has 51 MiB, a hundred greedy callers have 2.5 MiB each, and as much is left for the next one. An answer that is
/// not longer than a piece is not counted, so tokens are always answered.
const ANSWERS: usize = 256 * 1024 * 1024;
const CALLERS: usize = 16 * 1024;

/// Answers that are being sent, in bytes. A client reads as slowly as it likes.
pub struct Answers {
    hasher: RandomState,
    callers: Box<[AtomicUsize]>,
    all: AtomicUsize,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            hasher: RandomState::new(),
            callers: (0..CALLERS).map(|_| AtomicUsize::default()).collect(),
            all: AtomicUsize::default(),
        }
    }
}

impl Answers {
    /// The place where a caller's answers are counted. Callers with the same place share its memory. Nobody can choose a
    /// place.
    pub fn caller(&self, claims: Option<&Claims>, address: IpAddr) -> usize {
        let hash = match claims {
            Some(claims) => self.hasher.hash_one(claims.sub),
            None => self.hasher.hash_one(network(address)),
        };
        hash as usize % CALLERS
    }

    /// Counts the bytes of an answer until the returned value is dropped, or refuses the answer. Few bytes are not counted.
    pub fn hold(self: &Arc<Self>, caller: usize, bytes: usize) -> Result<Option<Held>, Problem> {
        if bytes <= PIECE {
            return Ok(None);
        }
        let own = self.callers[caller].fetch_add(bytes, Ordering::Relaxed) + bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        let held = Held {
            answers: self.clone(),
            caller,
            bytes,
        };
        if own > ANSWERS.saturating_sub(before) / 4 {
            count_refusal("answers");
            return Err(Problem::unavailable(
                "overloaded",
                "You have too many unread answers. Read them, or try again in a moment.",
            ));
        }
        Ok(Some(held))
    }
}

/// The counted bytes of an answer, for as long as it is held.
pub struct Held {
    answers: Arc<Answers>,
    caller: usize,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.callers[self.caller].fetch_sub(self.bytes, Ordering::Relaxed);
        self.answers.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
