//! A minimal JSON-RPC client over a Unix socket: one request, one line back. It shares no code with
//! spyhop's own.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// One connection. Calls from several threads take turns.
#[derive(Debug)]
pub struct Client(Mutex<(BufReader<UnixStream>, u64)>);

impl Client {
    /// Connects, if something listens.
    pub fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Some(Self(Mutex::new((BufReader::with_capacity(1 << 20, stream), 0))))
    }

    /// The result of a call, or the error object as the node sent it.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let (reader, id) = &mut *self.0.lock().unwrap();
        *id += 1;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let lost = |error: std::io::Error| json!({"message": format!("connection lost: {error}")});
        reader.get_mut().write_all(request.to_string().as_bytes()).map_err(lost)?;
        let mut line = String::new();
        reader.read_line(&mut line).map_err(lost)?;
        let mut reply: Value = serde_json::from_str(&line)
            .map_err(|error| json!({"message": format!("{error}: {line}")}))?;
        assert_eq!(reply["id"], json!(id), "{method} answered out of turn");
        match reply.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(reply["result"].take()),
        }
    }

    /// The result of a call that must succeed.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        match self.try_call(method, params) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }
}
