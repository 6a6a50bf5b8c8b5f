//! The server's life: an address, connections, threads, an end.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{self, Runtime},
    select,
    sync::{Semaphore, watch},
    time::{interval, sleep, timeout},
};

use crate::{
    ApiKey, Error,
    http::House,
    job::Job,
    patient::Patient,
    words::{self, Served, Weights, Words},
    worker::Worker,
};

/// Threads that wait for connections.
const WAITING_THREADS: usize = 2;
/// Threads that read requests.
const READING_THREADS: usize = 4;
/// The most connections at once; more wait to be accepted.
const CONNECTIONS: u32 = 1024;
/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// What the system keeps of an answer that its client does not read.
const SEND_BYTES: u32 = 256 << 10;
/// What a connection keeps, of what it reads and of what it writes.
const BUFFER_BYTES: usize = 64 << 10;
/// How often to look whether the end was asked for.
const LOOK: Duration = Duration::from_millis(20);

/// Where to listen, and to whom.
#[derive(Clone)]
pub struct Settings {
    /// The address; port 0 is any free one.
    pub address: SocketAddr,
    /// The key that requests must send.
    pub key: Option<ApiKey>,
    /// Whether other machines may ask without a key.
    pub is_open: bool,
    /// What is enough.
    pub limits: Limits,
}

/// What is enough.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sequences that are computed at once.
    pub sequences: usize,
    /// Requests that are in the house at once, computed or waiting; others are turned away.
    pub requests: usize,
    /// The bytes of a request's body.
    pub body_bytes: usize,
    /// The time for a request's head.
    pub head: Duration,
    /// The time for a request's body.
    pub body: Duration,
    /// The time for an answer, from the whole request to its end.
    pub answer: Duration,
    /// The time that a client may take before it reads on.
    pub write: Duration,
    /// The time for answers to end after the end was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sequences: 16,
            requests: 16 + 64,
            body_bytes: 1 << 20,
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            answer: Duration::from_mins(10),
            write: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// How a server ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Connections whose answers were cut off.
    pub cut_off: usize,
}

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    words: Arc<Words>,
    weights: Weights,
}

impl Server {
    /// Listens; requests wait until [`Self::run`].
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on, or that others can reach without a key; names that
    /// are not different; limits of nothing.
    pub fn start(served: Served, settings: Settings) -> Result<Self, Error> {
        let Settings { address, limits, .. } = settings;
        if !address.ip().is_loopback() && settings.key.is_none() && !settings.is_open {
            return Err(Error::Open { address });
        }
        for (name, limit) in [
            ("sequences", limits.sequences),
            ("requests", limits.requests),
            ("body", limits.body_bytes),
        ] {
            if limit == 0 {
                return Err(Error::Nothing { name });
            }
        }
        let (words, weights) = words::split(served)?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WAITING_THREADS)
            .max_blocking_threads(READING_THREADS)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let listener = {
            let _inside = runtime.enter();
            listen(address).map_err(|source| Error::Listen { address, source })?
        };
        let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        Ok(Self { runtime, listener, address, settings, words: Arc::new(words), weights })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` says true; then those that are in the house, for a while.
    ///
    /// # Errors
    ///
    /// The computing thread cannot be started, or ended by itself.
    pub fn run(self, stop: &(dyn Fn() -> bool + Sync)) -> Result<Ended, Error> {
        let Self { runtime, listener, settings, words, weights, .. } = self;
        let limits = settings.limits;
        let (sender, jobs) = mpsc::channel::<Vec<Job>>();
        let house = Arc::new(House::new(Arc::clone(&words), sender, limits, settings.key));
        let computing = thread::Builder::new()
            .name("compute".into())
            .spawn(move || Worker::new(&words, weights, jobs, limits.sequences).run())
            .map_err(Error::Threads)?;
        let is_over = || stop() || computing.is_finished();
        let cut_off = runtime.block_on(serve(listener, Arc::clone(&house), limits, &is_over));
        let has_failed = computing.is_finished();
        // Whatever still runs is dropped with its events, which ends the computing thread too.
        drop(house);
        runtime.shutdown_timeout(Duration::from_secs(1));
        let joined = computing.join();
        if has_failed || joined.is_err() {
            return Err(Error::Worker);
        }
        Ok(Ended { cut_off })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again need not wait for the connections of the last one to fade.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the end is asked for, and says how many connections were cut off.
async fn serve(
    listener: TcpListener,
    house: Arc<House>,
    limits: Limits,
    is_over: &(dyn Fn() -> bool + Sync),
) -> usize {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (closing, is_closing) = watch::channel(false);
    let mut look = interval(LOOK);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        select! {
            (accepted, place) = accept => match (accepted, place) {
                (Ok((stream, _)), Ok(place)) => {
                    let (house, is_closing) = (Arc::clone(&house), is_closing.clone());
                    tokio::spawn(async move {
                        connection(stream, house, limits, is_closing).await;
                        drop(place);
                    });
                }
                // No files left, or a client that has gone already: others may have more luck.
                _ => sleep(LOOK).await,
            },
            _ = look.tick() => if is_over() {
                break;
            },
        }
    }
    drop(listener);
    house.close();
    // Everybody may have gone already.
    let _ = closing.send(true);
    let _ = timeout(limits.grace, places.acquire_many(CONNECTIONS)).await;
    CONNECTIONS as usize - places.available_permits()
}

/// Answers the requests of a connection, one after the other.
async fn connection(
    stream: TcpStream,
    house: Arc<House>,
    limits: Limits,
    mut is_closing: watch::Receiver<bool>,
) {
    // Tokens are small, and are to arrive at once; where that cannot be had it only looks slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let house = Arc::clone(&house);
        async move { Ok::<_, Infallible>(house.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.write)), service);
    let mut connection = pin!(connection);
    let closing = async {
        // An error means that nobody can say so any more, which is an end too.
        let _ = is_closing.wait_for(|is_closing| *is_closing).await;
    };
    // How a connection ends is its client's concern.
    select! {
        _ = connection.as_mut() => {}
        () = closing => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
