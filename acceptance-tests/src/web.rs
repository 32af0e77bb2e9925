//! A file server on loopback, with range requests and faults on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// What goes wrong with the next requests for a file.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection breaks after so many bytes of the body, for so many requests.
    Cut {
        /// Bytes sent before the break.
        after: usize,
        /// Requests that suffer it.
        times: u32,
    },
    /// An answer with this status and no body, for so many requests.
    Status {
        /// For instance 503.
        code: u16,
        /// Requests that get it.
        times: u32,
    },
    /// Every piece of 64 KiB waits this long.
    Slow(Duration),
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, with its slash.
    pub path: String,
    /// The first byte asked for, when it was a range.
    pub from: Option<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    files: HashMap<String, Vec<u8>>,
    faults: HashMap<String, Fault>,
    requests: Vec<Request>,
}

/// The server. Dropping it closes its port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// A server without files, on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a loopback port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (state, end) = (Arc::clone(&shared), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let state = Arc::clone(&state);
                // A client that goes away is a client's business.
                std::thread::spawn(move || stream.map(|stream| answer(stream, &state)));
            }
        });
        Ok(Server { address, shared, stopped })
    }

    /// Publishes a file and returns its URL.
    pub fn publish(&self, path: &str, content: Vec<u8>) -> String {
        lock(&self.shared).files.insert(path.to_owned(), content);
        format!("http://{}{path}", self.address)
    }

    /// Lets requests for a path go wrong from now on.
    pub fn fault(&self, path: &str, fault: Fault) {
        lock(&self.shared).faults.insert(path.to_owned(), fault);
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request per connection: the client has to connect again, as behind many a proxy.
fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let Some((method, request)) = read_request(&stream)? else { return Ok(()) };
    let (file, fault) = {
        let mut shared = lock(shared);
        let file = shared.files.get(&request.path).cloned();
        let fault = take_fault(&mut shared, &request.path);
        shared.requests.push(request.clone());
        (file, fault)
    };
    if let Some(Fault::Status { code, .. }) = fault {
        return head(&mut stream, code, 0, None);
    }
    let Some(file) = file else { return head(&mut stream, 404, 0, None) };
    let from = request.from.unwrap_or(0);
    if from >= file.len() && from > 0 {
        return head(&mut stream, 416, 0, Some(format!("bytes */{}", file.len())));
    }
    let body = &file[from..];
    let range = request.from.map(|from| format!("bytes {from}-{}/{}", file.len() - 1, file.len()));
    head(&mut stream, if range.is_some() { 206 } else { 200 }, body.len(), range)?;
    if method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut { after, .. }) => stream.write_all(&body[..after.min(body.len())]),
        Some(Fault::Slow(pause)) => body.chunks(64 * 1024).try_for_each(|piece| {
            std::thread::sleep(pause);
            stream.write_all(piece)
        }),
        _ => stream.write_all(body),
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<(String, Request)>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let mut request = Request { path: words.next().unwrap_or_default().to_owned(), from: None };
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            request.from = range.split('-').next().and_then(|first| first.parse().ok());
        }
    }
    Ok(Some((method, request)))
}

fn take_fault(shared: &mut Shared, path: &str) -> Option<Fault> {
    let fault = shared.faults.get_mut(path)?;
    let now = *fault;
    match fault {
        Fault::Cut { times, .. } | Fault::Status { times, .. } => {
            if *times == 0 {
                return None;
            }
            *times -= 1;
        }
        Fault::Slow(_) => {}
    }
    Some(now)
}

fn head(stream: &mut TcpStream, code: u16, length: usize, range: Option<String>) -> std::io::Result<()> {
    let range = range.map(|range| format!("Content-Range: {range}\r\n")).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {code} status\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\nETag: \"1\"\r\n{range}Connection: close\r\n\r\n"
    )
}
