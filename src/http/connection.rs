//! Connections: their maximum number, and the time after which an idle one ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::Bytes;
use poem::{
    Addr,
    http::uri::Scheme,
    listener::{Acceptor, TcpAcceptor},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::malformed::{Lines, refusal};
use crate::{
    config::TrustedProxies,
    limits::shares::{Held, Shares},
};

/// The pause after a failure to accept a connection, such as a lack of file descriptors.
const RESPITE: Duration = Duration::from_millis(100);

/// Accepts connections up to the maximum. A connection ends by itself if nothing is sent on it for too long.
pub struct Attended {
    acceptor: TcpAcceptor,
    patience: Duration,
    shares: Arc<Shares>,
    proxies: TrustedProxies,
}

impl Attended {
    /// Shares the maximum number of connections. One client may have a fifth of them, and a trusted proxy as many as it
    /// needs. `patience` bounds two waits on each connection: from the last byte that the service sent to the client's
    /// next byte, and from that byte to the next byte that the service sends.
    pub fn new(
        acceptor: TcpAcceptor,
        patience: Duration,
        shares: Arc<Shares>,
        proxies: TrustedProxies,
    ) -> Self {
        Attended {
            acceptor,
            patience,
            shares,
            proxies,
        }
    }

    /// A share of the connections, or nothing for a client that has its share already. That client gets a 503.
    fn hold(&self, stream: &TcpStream, remote: &RemoteAddr) -> Option<Held> {
        let caller = match remote {
            RemoteAddr(Addr::SocketAddr(address)) => {
                let address = address.ip().to_canonical();
                let is_client = !self.proxies.contain(&address);
                is_client.then(|| self.shares.caller(None, address))
            }
            _ => None,
        };
        match self.shares.hold(caller, 1) {
            Ok(held) => held,
            Err(problem) => {
                // The answer fits into the empty buffer. If it does not, the rest is dropped.
                let _ = stream.try_write(&refusal(&problem));
                None
            }
        }
    }
}

impl Acceptor for Attended {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.acceptor.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        loop {
            match self.acceptor.accept().await {
                Ok((stream, local, remote, scheme)) => {
                    let Some(held) = self.hold(&stream, &remote) else {
                        continue;
                    };
                    // Answers of PostgREST come in pieces. Each piece is sent at once.
                    stream.set_nodelay(true)?;
                    let connection = Connection::new(stream, self.patience, held);
                    return Ok((connection, local, remote, scheme));
                }
                Err(error) => {
                    // The HTTP server asks for the next connection at once, so there is a pause first.
                    tracing::warn!("connections cannot be accepted: {error}");
                    sleep(RESPITE).await;
                    return Err(error);
                }
            }
        }
    }
}

/// A connection that ends if nothing is sent on it for too long. Only the first byte of a request extends the time: a
/// client may send its request byte by byte, or never read the answer.
pub struct Connection {
    stream: TcpStream,
    patience: Duration,
    deadline: Instant,
    /// Wakes the connection at the deadline or before it. It is not set again for each byte.
    alarm: Pin<Box<Sleep>>,
    /// Whether the client has sent a byte since the service last sent one.
    asked: bool,
    lines: Lines,
    /// The bytes that replace the HTTP library's refusal: how many of them are left, and how many they replace.
    refusal: Option<(Bytes, usize)>,
    _held: Held,
}

impl Connection {
    fn new(stream: TcpStream, patience: Duration, held: Held) -> Self {
        Connection {
            stream,
            patience,
            deadline: Instant::now() + patience,
            alarm: Box::pin(sleep(patience)),
            asked: false,
            lines: Lines::default(),
            refusal: None,
            _held: held,
        }
    }

    fn prolong(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// Returns an error once the deadline has passed. Until then it is pending.
    fn poll_deadline<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            if Instant::now() >= self.deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(self.deadline);
        }
    }

    /// Returns the outcome of sending. While nothing can be sent, the deadline applies.
    fn sent(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => return self.poll_deadline(context),
            Poll::Ready(Ok(1..)) => {
                self.asked = false;
                self.prolong();
            }
            Poll::Ready(_) => {}
        }
        outcome
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // This comes before reading, because bytes that keep coming must not hide that the deadline has passed.
        if let Poll::Ready(late) = self.poll_deadline(context) {
            return Poll::Ready(late);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && !self.asked {
            self.asked = true;
            self.prolong();
        }
        if let Some(bytes) = buffer.filled_mut().get_mut(before..) {
            self.lines.spoil_bare_ends(bytes);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none()
            && let Some(problem) = self.lines.library_refusal(bytes)
        {
            self.refusal = Some((refusal(&problem), bytes.len()));
        }
        let Some((mut left, stands_for)) = self.refusal.take() else {
            let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
            return self.sent(outcome, context);
        };
        loop {
            let outcome = Pin::new(&mut self.stream).poll_write(context, &left);
            match self.sent(outcome, context) {
                Poll::Ready(Ok(sent)) if sent > 0 && sent < left.len() => drop(left.split_to(sent)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(stands_for)),
                Poll::Pending => {
                    self.refusal = Some((left, stands_for));
                    return Poll::Pending;
                }
                failed => return failed,
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
