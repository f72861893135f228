//! `spyhop serve`

use crate::serve::{self, Settings, token};
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Arguments of `spyhop serve`.
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Where to listen: an address with a port, or a port of 127.0.0.1.
    ///
    /// An address that others than this machine can reach needs `--token-file`. Put a proxy in front
    /// for TLS.
    #[arg(long, value_name = "ADDRESS", env = "SPYHOP_HTTP", value_parser = parse_address)]
    http: SocketAddr,
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// The file with the token that requests must send; made with a random one if there is none.
    #[arg(long, value_name = "FILE", env = "SPYHOP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Another name by which the server may be asked for, as that of a proxy; repeatable.
    #[arg(long, value_name = "NAME", env = "SPYHOP_ALLOW_HOST", value_delimiter = ',')]
    allow_host: Vec<String>,
    /// Let whoever has the token run SQL of their own: one SELECT or EXPLAIN at a time, in a process
    /// that can only read. Needs `--token-file`, on loopback too.
    #[arg(long, env = "SPYHOP_HTTP_SQL", value_parser = BoolishValueParser::new())]
    sql: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Serve) -> Result<()> {
    let Serve { http, data, token_file, allow_host, sql } = arguments;
    serve::run(&Settings {
        address: *http,
        data: data.clone(),
        token: token_file.as_deref().map(token::read_or_create).transpose()?,
        hosts: allow_host.clone(),
        takes_sql: *sql,
    })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix("localhost:").unwrap_or(text).parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| "expected an address and a port, as in 127.0.0.1:8550".to_owned())
}
