//! A client of `spyhop serve`, over a plain socket: what is sent is what the test says.

use super::{PATIENCE, Running, Spyhop};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

/// A running server.
pub struct Server {
    pub running: Running,
    pub address: SocketAddr,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Server {
    /// Serves a volume on a free port of the loopback address.
    pub fn start(data: &Path) -> Self {
        Self::of(Spyhop::new("serve").path("--data", data).args(&["--http", "127.0.0.1:0"]))
    }

    /// Starts a command that serves.
    pub fn of(command: Spyhop) -> Self {
        let mut running = command.spawn();
        let address = address(&running.wait_for(&["serving http://"]));
        Self { running, address }
    }

    /// Asks, with nothing but a `Host`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.ask(path, &[])
    }

    /// Asks with more headers; an empty value leaves the header out.
    #[track_caller]
    pub fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers)
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = BufReader::new(self.begin(method, path, headers));
        let (status, headers) = read_head(&mut stream);
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        Reply { status, headers, body }
    }

    /// Posts a body.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let length = body.len().to_string();
        let headers: Vec<_> =
            headers.iter().copied().chain([("Content-Length", &length[..])]).collect();
        let mut stream = self.begin("POST", path, &headers);
        stream.write_all(body.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let (status, headers) = read_head(&mut stream);
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        Reply { status, headers, body }
    }

    /// Sends a request, and reads nothing.
    pub fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.address.to_string();
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request += &format!("Host: {host}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).unwrap();
        stream
    }

    /// Listens to the events.
    pub fn events(&self, last: Option<&str>) -> Events {
        let headers: Vec<_> = last.into_iter().map(|id| ("Last-Event-ID", id)).collect();
        let mut stream = BufReader::new(self.begin("GET", "/api/v1/events", &headers));
        let (status, _) = read_head(&mut stream);
        assert_eq!(status, 200);
        Events(stream)
    }

    /// The files that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.running.id())).unwrap().count()
    }
}

/// The address in a server's line of log.
pub fn address(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("http://").unwrap();
    rest.trim_end_matches('/').parse().unwrap()
}

fn read_head(stream: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut lines = stream.by_ref().lines().map(Result::unwrap);
    let first = lines.next().expect("the server answers");
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    (status, headers.collect())
}

/// Events as they arrive.
pub struct Events(BufReader<TcpStream>);

/// One event.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub data: Value,
}

impl Events {
    /// The next newly published file.
    #[track_caller]
    pub fn published(&mut self) -> Event {
        self.next("published")
    }

    /// The next event of a kind. Lines without a field are chunks of the transfer, or comments.
    #[track_caller]
    pub fn next(&mut self, wanted: &str) -> Event {
        let (mut kind, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => kind = value.to_owned(),
                Some(("id", value)) => id = value.to_owned(),
                Some(("data", value)) => data += value,
                _ if line == "\n" && kind == wanted => {
                    return Event { id, data: serde_json::from_str(&data).unwrap() };
                }
                _ if line == "\n" => data.clear(),
                _ => {}
            }
        }
    }
}
