//! The connections between a replica and PostgreSQL, which can be cut, delayed, refused and silenced.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// A proxy on a port of its own.
pub struct Link {
    pub port: u16,
    server: u16,
    wire: Arc<watch::Sender<Wire>>,
    listening: Option<JoinHandle<()>>,
}

/// The state of the link. Connections have numbers, in the order in which they were opened.
#[derive(Clone, Copy, Default)]
struct Wire {
    opened: usize,
    /// Connections with a lower number are reset.
    cut_below: usize,
    /// On connections with a lower number, everything that is sent vanishes without an error.
    dead_below: usize,
    /// Only the server's answers vanish, not the requests.
    only_answers: bool,
    delay: Duration,
}

impl Link {
    pub async fn before(server: u16) -> Self {
        let port = super::world::free_port();
        let mut link = Link {
            port,
            server,
            wire: Arc::new(watch::Sender::new(Wire::default())),
            listening: None,
        };
        link.accept().await;
        link
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.cut_below = wire.opened);
    }

    /// Everything that is sent takes this much longer.
    pub fn delay(&self, delay: Duration) {
        self.wire.send_modify(|wire| wire.delay = delay);
    }

    /// From now on, everything sent on the open connections vanishes. New connections work.
    pub fn swallow(&self, only_answers: bool) {
        self.wire.send_modify(|wire| {
            wire.dead_below = wire.opened;
            wire.only_answers = only_answers;
        });
    }

    /// New connections are silent, too, until the next `swallow`.
    pub fn swallow_all(&self) {
        self.wire.send_modify(|wire| {
            wire.dead_below = usize::MAX;
            wire.only_answers = false;
        });
    }

    /// Refuses new connections, and resets open ones.
    pub async fn refuse(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
        self.cut();
    }

    /// Listens (again).
    pub async fn accept(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        let listener = listener.expect("the port of the link");
        let (server, wire) = (self.server, self.wire.clone());
        self.listening = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut number = 0;
                wire.send_modify(|wire| {
                    number = wire.opened;
                    wire.opened += 1;
                });
                tokio::spawn(connect(client, server, number, wire.subscribe()));
            }
        }));
    }
}

async fn connect(client: TcpStream, server: u16, number: usize, wire: watch::Receiver<Wire>) {
    // Dropping the connection resets it, as if there were no server.
    let _ = client.set_zero_linger();
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = wire.clone();
    tokio::select! {
        _ = cut.wait_for(|wire| number < wire.cut_below) => {}
        () = carry(from_client, to_server, number, false, wire.clone()) => {}
        () = carry(from_server, to_client, number, true, wire) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    is_answer: bool,
    wire: watch::Receiver<Wire>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await;
        let now = *wire.borrow();
        let is_swallowed = number < now.dead_below && (is_answer || !now.only_answers);
        match read {
            Ok(count @ 1..) if !is_swallowed => {
                tokio::time::sleep(now.delay).await;
                if to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
            Ok(1..) => {}
            // The end of the server's connection is an answer of the server, too, so it may have to vanish.
            _ if is_swallowed && is_answer => std::future::pending().await,
            _ => return,
        }
    }
}
