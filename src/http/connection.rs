//! How long a connection may be kept without a word from us: whoever neither asks nor listens gives it back.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use poem::{
    http::uri::Scheme,
    listener::{Acceptor, TcpAcceptor},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// After a failure, such as having no file descriptors left, connections are taken again in so long.
const RESPITE: Duration = Duration::from_millis(100);

/// Accepts connections that end by themselves.
pub struct Attended {
    acceptor: TcpAcceptor,
    patience: Duration,
}

impl Attended {
    /// On each, the first byte of a request must come within `patience` of what was sent last, and something must be
    /// sent within `patience` of that byte.
    pub fn new(acceptor: TcpAcceptor, patience: Duration) -> Self {
        Attended { acceptor, patience }
    }
}

impl Acceptor for Attended {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.acceptor.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        match self.acceptor.accept().await {
            Ok((stream, local, remote, scheme)) => {
                // What is passed on from PostgREST comes in pieces: each is sent at once.
                stream.set_nodelay(true)?;
                let connection = Connection::new(stream, self.patience);
                Ok((connection, local, remote, scheme))
            }
            Err(error) => {
                // The server asks again at once.
                tracing::warn!("connections cannot be accepted: {error}");
                sleep(RESPITE).await;
                Err(error)
            }
        }
    }
}

/// A connection that ends when for too long nothing could be sent on it. What the client sends buys no time: it may
/// send its request byte by byte, or never read the answer.
pub struct Connection {
    stream: TcpStream,
    patience: Duration,
    deadline: Instant,
    /// Rings at the deadline or before: it is not set anew for each byte.
    alarm: Pin<Box<Sleep>>,
    /// Whether something has come since something was sent.
    asked: bool,
}

impl Connection {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Connection {
            stream,
            patience,
            deadline: Instant::now() + patience,
            alarm: Box::pin(sleep(patience)),
            asked: false,
        }
    }

    fn prolong(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// Ready, with an error, when it has taken too long.
    fn poll_deadline<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            if Instant::now() >= self.deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(self.deadline);
        }
    }

    /// What became of sending; while nothing can be sent, time passes.
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
        // Before reading: what keeps coming must not hide that it has taken too long.
        if let Poll::Ready(late) = self.poll_deadline(context) {
            return Poll::Ready(late);
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && !self.asked {
            self.asked = true;
            self.prolong();
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
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
