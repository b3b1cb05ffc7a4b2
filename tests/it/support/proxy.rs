//! A wire between the service and PostgreSQL that counts round trips.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A proxy that counts: one trip is a burst from the client, up to the server's next word.
pub struct Proxy {
    url: SecretString,
    trips: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Client,
    Server,
}

impl Proxy {
    /// In front of the server that the URL names.
    pub async fn before(url: &SecretString) -> Self {
        let mut url = url::Url::parse(url.expose_secret()).expect("a URL");
        let server = (
            url.host_str().expect("a host").to_owned(),
            url.port().expect("a port"),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        url.set_port(Some(port)).expect("a port");
        let trips = Arc::new(AtomicUsize::new(0));
        let counted = trips.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("PostgreSQL");
                // As the service does: a burst is sent as soon as it is written.
                client.set_nodelay(true).expect("an option");
                server.set_nodelay(true).expect("an option");
                let last = Arc::new(Mutex::new(Speaker::Server));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (trips, of_client) = (counted.clone(), last.clone());
                tokio::spawn(forward(from_client, to_server, move || {
                    let before =
                        std::mem::replace(&mut *of_client.lock().expect("it"), Speaker::Client);
                    if before == Speaker::Server {
                        trips.fetch_add(1, Ordering::SeqCst);
                    }
                }));
                tokio::spawn(forward(from_server, to_client, move || {
                    *last.lock().expect("it") = Speaker::Server;
                }));
            }
        });
        Proxy {
            url: url.to_string().into(),
            trips,
        }
    }

    /// The way through it.
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// How many trips so far, on all connections.
    pub fn trips(&self) -> usize {
        self.trips.load(Ordering::SeqCst)
    }
}

/// Passes on what one side says, and notes it before the other side can hear it.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, note: impl Fn()) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        note();
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
