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

/// So much of an answer is moved at a time. The server has a piece or two beside it; over HTTP/1, 400 KiB a connection.
pub const PIECE: usize = 16 * 1024;

/// An answer that is handed over piece by piece, as it is read.
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

/// So much may all answers take that wait to be read. Each caller is left a quarter of what is still free: one has
/// 51 MiB, a hundred who are greedy have 2.5 MiB each, and then there is as much for whoever comes next. What is no longer
/// than a piece is not counted; nobody's tokens are longer.
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
    /// Where the answers of whoever sends a request are counted. Who shares it with somebody shares what there is; nobody
    /// can aim at it.
    pub fn caller(&self, claims: Option<&Claims>, address: IpAddr) -> usize {
        let hash = match claims {
            Some(claims) => self.hasher.hash_one(claims.sub),
            None => self.hasher.hash_one(network(address)),
        };
        hash as usize % CALLERS
    }

    /// Counts so many bytes of an answer until what is returned is dropped, or refuses it; nothing, where they are few.
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
                "Too many answers wait to be read: read them, or try again in a moment.",
            ));
        }
        Ok(Some(held))
    }
}

/// What an answer is counted as for as long as it is there.
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
