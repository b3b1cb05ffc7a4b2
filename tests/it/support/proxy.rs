//! A wire between the service and PostgreSQL, or between a client and the service: it counts round trips, and can
//! be cut.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
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
    cut: Arc<AtomicBool>,
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
        let cut = Arc::new(AtomicBool::new(false));
        let cutting = cut.clone();
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
                    true
                }));
                let cutting = cutting.clone();
                tokio::spawn(forward(from_server, to_client, move || {
                    *last.lock().expect("it") = Speaker::Server;
                    !cutting.swap(false, Ordering::SeqCst)
                }));
            }
        });
        Proxy {
            url: url.to_string().into(),
            trips,
            cut,
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

    /// The server's next word is lost, and with it the connection.
    pub fn cut_next_answer(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Whether that is still to come.
    pub fn will_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

/// Passes on what one side says, and notes it before the other side can hear it, as long as it may.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, note: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !note() || to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
