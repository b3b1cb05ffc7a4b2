//! A wire between the service and PostgreSQL, or between a client and the service: it counts round trips, can be
//! cut, and can fall silent.

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
    opened: Arc<AtomicUsize>,
    silent: Arc<Silence>,
}

/// Which connections are silent: their bytes vanish, and nobody is told. They are numbered as they come.
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

    /// At an address of its own.
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
                // As the service does: a burst is sent as soon as it is written.
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

    /// How many connections there have been.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// What is said on the connections of now vanishes from here on, and nobody is told; new ones work.
    pub fn swallow(&self) {
        self.silent.below.store(self.opened(), Ordering::SeqCst);
    }

    /// New connections are taken, and nothing is ever said on them; until `unmute`.
    pub fn mute(&self) {
        self.silent.from.store(self.opened(), Ordering::SeqCst);
    }

    /// New connections work again; those of meanwhile stay silent.
    pub fn unmute(&self) {
        self.swallow();
        self.silent.from.store(usize::MAX, Ordering::SeqCst);
    }
}

/// Passes on what one side says, and notes it before the other side can hear it, as long as it may.
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
        // Not even the end is told.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}
