//! A gateway between an S3 client and the server: the buckets are below a path, and what was asked is remembered.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where Supabase Storage has its buckets.
pub(crate) const PATH: &str = "/storage/v1/s3";

/// The head of a request, without the path of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// `/bucket/key`
    pub(crate) path: String,
    pub(crate) query: String,
    head: String,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether the query has the parameter.
    pub(crate) fn asks(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }

    /// The right that Amazon's S3 asks for, and whether it is one on the bucket.
    pub(crate) fn right(&self) -> (&'static str, bool) {
        let of_bucket = self.path.trim_matches('/').split('/').nth(1).is_none();
        let right = match (self.method.as_str(), of_bucket) {
            ("GET", true) if self.asks("uploads") => "s3:ListBucketMultipartUploads",
            ("GET", true) if self.asks("versions") => "s3:ListBucketVersions",
            ("GET", true) if self.asks("versioning") => "s3:GetBucketVersioning",
            ("GET", true) if self.asks("object-lock") => "s3:GetBucketObjectLockConfiguration",
            ("GET", true) if self.asks("list-type") => "s3:ListBucket",
            ("HEAD", true) => "s3:ListBucket",
            ("GET" | "HEAD", false) => "s3:GetObject",
            ("PUT" | "POST", false) => "s3:PutObject",
            ("DELETE", false) if self.asks("uploadId") => "s3:AbortMultipartUpload",
            ("DELETE", false) if self.asks("versionId") => "s3:DeleteObjectVersion",
            ("DELETE", false) => "s3:DeleteObject",
            _ => panic!("a call that no right is known for: {self:?}"),
        };
        (right, of_bucket)
    }
}

/// The gateway. It runs while it is held.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The URL of the S3 service behind it.
    pub(crate) endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
    running: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Proxy {
    /// Starts it before a server. The answer to the first `PUT` of a key that ends like `lost` does not arrive.
    pub(crate) async fn start(port: u16, lost: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let endpoint = format!("http://{}{PATH}", listener.local_addr().expect("address"));
        let seen = Arc::new(Mutex::new(Vec::<Request>::new()));
        let all = seen.clone();
        let running = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, port, all.clone(), lost));
            }
        });
        Self { endpoint, seen, running }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("seen").clone()
    }
}

/// One request on a connection: the server is told to close it, so the client opens another for the next.
async fn pass(mut client: TcpStream, port: u16, seen: Arc<Mutex<Vec<Request>>>, lost: Option<&'static str>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head");
    let (line, headers) = head.split_once("\r\n").expect("headers");
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let target = target.strip_prefix(PATH).unwrap_or_else(|| panic!("{line} leaves the path out"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let [method, path, query] = [method, path, query].map(str::to_owned);
    let is_lost = {
        let mut seen = seen.lock().expect("seen");
        let same = |request: &Request| request.method == method && request.path == path;
        let is_lost = method == "PUT" && lost.is_some_and(|end| path.ends_with(end)) && !seen.iter().any(same);
        seen.push(Request { method: method.clone(), path, query, head: head.clone() });
        is_lost
    };
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("server");
    let forwarded = format!("X-Forwarded-Prefix: {PATH}\r\nConnection: close");
    let new = format!("{method} {target} {version}\r\n{forwarded}\r\n{headers}\r\n\r\n");
    server.write_all(new.as_bytes()).await.expect("server");
    server.write_all(&bytes[end + 4..]).await.expect("server");
    if is_lost {
        let length = header_length(headers) - (bytes.len() - end - 4) as u64;
        let mut body = (&mut client).take(length);
        tokio::io::copy(&mut body, &mut server).await.expect("body");
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.expect("answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        return;
    }
    // The client may be gone before the end.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

fn header_length(headers: &str) -> u64 {
    let mut lengths =
        headers.lines().filter_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    lengths.next().expect("a length")
}
