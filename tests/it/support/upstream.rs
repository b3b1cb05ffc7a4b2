//! A server in PostgREST's place. It hears every byte that is delegated, and answers as it is told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Request line and headers.
    pub head: String,
    /// The body, without its chunks.
    pub body: Vec<u8>,
}

/// Handles a request on its connection. Returns the connection if it stays open.
pub type Act = Arc<
    dyn Fn(Heard, TcpStream) -> std::pin::Pin<Box<dyn Future<Output = Option<TcpStream>> + Send>>
        + Send
        + Sync,
>;

/// A server in PostgREST's place. It ends with its test.
pub struct Upstream {
    pub url: url::Url,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<AtomicUsize>,
}

impl Heard {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

impl Upstream {
    /// Answers every request with these bytes.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::acting(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                stream.write_all(&answer).await.ok()?;
                Some(stream)
            }
        })
        .await
    }

    /// Handles every request with this function.
    pub async fn acting<F>(act: impl Fn(Heard, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<TcpStream>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let act: Act = Arc::new(move |heard, stream| Box::pin(act(heard, stream)));
        let (into, count) = (heard.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, act.clone(), into.clone()));
            }
        });
        let url = url::Url::parse(&format!("http://{address}/root/")).expect("a URL");
        Upstream {
            url,
            heard,
            connections,
        }
    }

    /// The requests that the server has heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("a list").clone()
    }

    /// The one request that the server has heard since the last call.
    #[track_caller]
    pub fn only(&self) -> Heard {
        let mut heard = self.heard.lock().expect("a list");
        assert_eq!(heard.len(), 1, "{heard:#?}");
        heard.remove(0)
    }

    /// How many connections have been made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, act: Act, into: Arc<Mutex<Vec<Heard>>>) -> Option<()> {
    loop {
        let heard = read(&mut stream).await?;
        into.lock().expect("a list").push(heard.clone());
        stream = act(heard, stream).await?;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Heard> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut heard = Heard {
        head: String::from_utf8(head).expect("a head of ASCII"),
        body: Vec::new(),
    };
    if let Some(length) = heard.all("content-length").first() {
        heard.body = vec![0; length.parse().expect("a length")];
        stream.read_exact(&mut heard.body).await.ok()?;
    } else if !heard.all("transfer-encoding").is_empty() {
        while let Some(chunk) = chunk(stream).await? {
            heard.body.extend(chunk);
        }
    }
    Some(heard)
}

/// The next chunk of a body, or nothing at its end.
pub async fn chunk(stream: &mut TcpStream) -> Option<Option<Vec<u8>>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    let size = std::str::from_utf8(line.trim_ascii()).expect("a size");
    let size = usize::from_str_radix(size, 16).expect("a size");
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await.ok()?;
    chunk.truncate(size);
    Some((size > 0).then_some(chunk))
}
