//! A proxy between the service and PostgreSQL, or between a client and the service. It counts round trips, can be cut,
//! and can fall silent.

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

/// Counts round trips. One trip is everything that the client sends before the server answers.
pub struct Proxy {
    url: SecretString,
    trips: Arc<AtomicUsize>,
    cut: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    silent: Arc<Silence>,
}

/// The silent connections, by number. Their bytes vanish, and neither side learns of it.
#[derive(Default)]
struct Silence {
    below: AtomicUsize,
    from: AtomicUsize,
}

impl Silence {
    fn covers(&self, number: usize) -> bool {
        number < self.below.load(Ordering::SeqCst) || number >= self.from.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Client,
    Server,
}

impl Proxy {
    /// In front of the server that the URL names.
    pub async fn before(url: &SecretString) -> Self {
        Self::at("127.0.0.1:0", url).await
    }

    /// Listens at this address.
    pub async fn at(address: &str, url: &SecretString) -> Self {
        let mut url = url::Url::parse(url.expose_secret()).expect("a URL");
        let server = (
            url.host_str().expect("a host").to_owned(),
            url.port().expect("a port"),
        );
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        url.set_host(Some(&address.ip().to_string()))
            .expect("a host");
        url.set_port(Some(address.port())).expect("a port");
        let trips = Arc::new(AtomicUsize::new(0));
        let counted = trips.clone();
        let cut = Arc::new(AtomicBool::new(false));
        let cutting = cut.clone();
        let opened = Arc::new(AtomicUsize::new(0));
        let counting = opened.clone();
        let silent = Arc::new(Silence::default());
        silent.from.store(usize::MAX, Ordering::SeqCst);
        let silence = silent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = counting.fetch_add(1, Ordering::SeqCst);
                let is_silent = {
                    let silence = silence.clone();
                    move || silence.covers(number)
                };
                let server = TcpStream::connect(&server).await.expect("PostgreSQL");
                // The service sends bytes as soon as they are written, and so does the proxy.
                client.set_nodelay(true).expect("an option");
                server.set_nodelay(true).expect("an option");
                let last = Arc::new(Mutex::new(Speaker::Server));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (trips, of_client) = (counted.clone(), last.clone());
                let note = move || {
                    let before =
                        std::mem::replace(&mut *of_client.lock().expect("it"), Speaker::Client);
                    if before == Speaker::Server {
                        trips.fetch_add(1, Ordering::SeqCst);
                    }
                    true
                };
                tokio::spawn(forward(from_client, to_server, note, is_silent.clone()));
                let cutting = cutting.clone();
                let note = move || {
                    *last.lock().expect("it") = Speaker::Server;
                    !cutting.swap(false, Ordering::SeqCst)
                };
                tokio::spawn(forward(from_server, to_client, note, is_silent));
            }
        });
        Proxy {
            url: url.to_string().into(),
            trips,
            cut,
            opened,
            silent,
        }
    }

    /// The URL that leads through the proxy.
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// The number of trips so far, on all connections.
    pub fn trips(&self) -> usize {
        self.trips.load(Ordering::SeqCst)
    }

    /// Drops the server's next answer, and closes its connection.
    pub fn cut_next_answer(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Whether the proxy has yet to drop that answer.
    pub fn will_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Bytes on the present connections vanish from now on, and neither side learns of it. New connections work.
    pub fn swallow(&self) {
        self.silent.below.store(self.opened(), Ordering::SeqCst);
    }

    /// New connections are accepted, but stay silent, until `unmute`.
    pub fn mute(&self) {
        self.silent.from.store(self.opened(), Ordering::SeqCst);
    }

    /// New connections work again. Those that were made while it was mute stay silent.
    pub fn unmute(&self) {
        self.swallow();
        self.silent.from.store(usize::MAX, Ordering::SeqCst);
    }
}

/// Passes the bytes of one side on, and notes them before the other side gets them.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    note: impl Fn() -> bool,
    is_silent: impl Fn() -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if is_silent() {
            continue;
        }
        if !note() || to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    if is_silent() {
        // The other side does not even learn of the end.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}
