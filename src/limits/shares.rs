//! Resources that all clients share: the memory of unread answers, the memory of bodies, and connections.
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "any bits of a hash will do, and an index is taken modulo the length"
)]

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

use super::client::network;
use crate::{auth::token::Claims, problem::Problem, telemetry::count_shed};

/// The size of a piece of an answer in bytes. The server holds a piece or two beside it; over HTTP/1, 400 KiB for each
/// connection.
pub const PIECE: usize = 16 * 1024;

/// An answer that is handed over piece by piece, as the client reads it.
pub struct Unread {
    bytes: Bytes,
    _held: Option<Held>,
}

impl Unread {
    /// The bytes of an answer, and the share that they hold until they are read. Few bytes need no share.
    pub fn new(bytes: Bytes, held: Option<Held>) -> Self {
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

/// The number of counters for clients. Two clients with the same counter share its part. Nobody can choose a counter.
const CALLERS: usize = 16 * 1024;

const CONNECTIONS: &str = "connections";

/// A limited resource. Each client may hold a quarter of the part that is still free. Of 256 MiB a single client can
/// hold 51 MiB. A hundred greedy clients can hold 2.5 MiB each, and the next client can still hold as much.
pub struct Shares {
    name: &'static str,
    /// The whole amount.
    most: usize,
    /// Amounts up to this one are not counted.
    free: usize,
    /// The refusal for a client that has used its part.
    refusal: &'static str,
    hasher: RandomState,
    callers: Box<[AtomicUsize]>,
    all: AtomicUsize,
}

impl Shares {
    /// The bytes of answers that are being sent, because a client may read slowly. An answer with tokens is smaller
    /// than a piece, so it is never refused.
    pub fn of_answers() -> Arc<Self> {
        let refusal = "You have too many unread answers. Read them, or try again in a moment.";
        Self::new("answers", 256 * 1024 * 1024, PIECE, refusal)
    }

    /// The bytes of bodies that are being read, because a client may send slowly.
    pub fn of_bodies() -> Arc<Self> {
        let refusal = "You have too many unfinished bodies. Send them to their end, or try again in a moment.";
        Self::new("bodies", 64 * 1024 * 1024, PIECE, refusal)
    }

    /// The open connections of clients.
    pub fn of_connections(most: usize) -> Arc<Self> {
        let refusal = "You have too many open connections. Close some, or try again in a moment.";
        Self::new(CONNECTIONS, most, 0, refusal)
    }

    fn new(name: &'static str, most: usize, free: usize, refusal: &'static str) -> Arc<Self> {
        Arc::new(Shares {
            name,
            most,
            free,
            refusal,
            hasher: RandomState::new(),
            callers: (0..CALLERS).map(|_| AtomicUsize::default()).collect(),
            all: AtomicUsize::default(),
        })
    }

    /// Sets the gauges of the amount that is held.
    pub fn observe(&self) {
        let (held, most) = (self.all.load(Ordering::Relaxed) as f64, self.most as f64);
        if self.name == CONNECTIONS {
            metrics::gauge!("http_connections").set(held);
            metrics::gauge!("http_connections_max").set(most);
        } else {
            metrics::gauge!("http_held_bytes", "of" => self.name).set(held);
            metrics::gauge!("http_held_max_bytes", "of" => self.name).set(most);
        }
    }

    /// The client that a request counts for: its user, or its network if there is no user.
    pub fn caller(&self, claims: Option<&Claims>, address: IpAddr) -> usize {
        let hash = match claims {
            Some(claims) => self.hasher.hash_one(claims.sub),
            None => self.hasher.hash_one(network(address)),
        };
        hash as usize % CALLERS
    }

    /// Counts an amount until the returned value is dropped, or refuses it. Small amounts are not counted. `caller` is
    /// none for a client that speaks for many, such as a proxy. Then only the sum of all clients is bounded.
    pub fn hold(
        self: &Arc<Self>,
        caller: Option<usize>,
        count: usize,
    ) -> Result<Option<Held>, Problem> {
        if count <= self.free {
            return Ok(None);
        }
        let before = self.all.fetch_add(count, Ordering::Relaxed);
        let left = self.most.saturating_sub(before);
        let fits = match caller {
            Some(caller) => {
                let own = self.callers[caller].fetch_add(count, Ordering::Relaxed) + count;
                own <= left / 4
            }
            None => count <= left,
        };
        let held = Held {
            shares: self.clone(),
            caller,
            count,
        };
        if !fits {
            count_shed(self.name);
            return Err(Problem::unavailable("overloaded", self.refusal));
        }
        Ok(Some(held))
    }
}

/// A counted share, for as long as it is held.
pub struct Held {
    shares: Arc<Shares>,
    caller: Option<usize>,
    count: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(caller) = self.caller {
            self.shares.callers[caller].fetch_sub(self.count, Ordering::Relaxed);
        }
        self.shares.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}
