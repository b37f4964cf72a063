//! Single requests to loopback ports without TLS: the operator's health and metrics, etcd's gateway. HTTP/1.0 on
//! purpose: the reply then ends where the connection does, and no chunks need to be put together.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::error::{Context as _, Error, Result};

const DEADLINE: Duration = Duration::from_secs(10);

/// A reply: status code and body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// GET.
pub async fn get(address: SocketAddr, path: &str) -> Result<Reply> {
    request(address, format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

/// POST of a JSON body.
pub async fn post(address: SocketAddr, path: &str, body: &serde_json::Value) -> Result<Reply> {
    let body = body.to_string();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    request(address, format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
}

async fn request(address: SocketAddr, text: String) -> Result<Reply> {
    let what = text.lines().next().unwrap_or_default().to_owned();
    // A stopped process still accepts connections; only a deadline tells.
    let reply =
        timeout(DEADLINE, exchange(address, text)).await.map_err(|_| std::io::ErrorKind::TimedOut.into());
    let reply = reply.and_then(|inner| inner).context(format!("{what} at {address}"))?;
    parse(&reply).ok_or_else(|| Error::Unexpected(format!("{what} at {address}: no HTTP reply: {reply}")))
}

async fn exchange(address: SocketAddr, text: String) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn parse(reply: &str) -> Option<Reply> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, body: body.to_owned() })
}
