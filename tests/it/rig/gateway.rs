//! A real S3 server: versitygw over a directory, in which a bucket is a directory and an object a
//! file. `tests/run.sh` builds it and names it in `SPYHOP_TEST_S3`.

use super::{Spyhop, pass_without, wait_for};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running server with one bucket, `whales`.
pub struct Gateway {
    directory: TempDir,
    child: Child,
    port: u16,
}

impl Gateway {
    pub const KEY: &str = "whale";
    pub const SECRET: &str = "secret-of-the-sea";

    /// Starts it; `None`, with a message, if it is not installed.
    pub fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("SPYHOP_TEST_S3") else {
            pass_without("a lake in a bucket, for SPYHOP_TEST_S3 is not set");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("s3").tempdir().unwrap();
        fs::create_dir_all(directory.path().join("buckets/whales")).unwrap();
        fs::create_dir(directory.path().join("home")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--access", Self::KEY, "--secret", Self::SECRET, "--quiet"])
            .args(["--port", &format!("127.0.0.1:{port}"), "posix"])
            .arg(directory.path().join("buckets"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { directory, child, port };
        wait_for("the S3 server", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(gateway)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The directory that is the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.directory.path().join("buckets/whales")
    }

    /// A home directory without any file of the AWS tools.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// `spyhop lake` of a volume to `s3://whales/PREFIX`, with the keys in the environment.
    pub fn lake(&self, data: &Path, prefix: &str) -> Spyhop {
        self.anonymous(data, &format!("s3://whales/{prefix}"))
            .env("AWS_ENDPOINT_URL", &self.url())
            .env("AWS_ACCESS_KEY_ID", Self::KEY)
            .env("AWS_SECRET_ACCESS_KEY", Self::SECRET)
    }

    /// `spyhop lake` of a volume to a place, with nothing in the environment.
    pub fn anonymous(&self, data: &Path, to: &str) -> Spyhop {
        let command = Spyhop::new("lake").path("--data", data).args(&["--to", to]);
        ["AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"]
            .into_iter()
            .fold(command, |command, name| command.env(name, ""))
            .env("HOME", self.home().to_str().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
