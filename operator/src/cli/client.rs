//! How clients reach the API server: directly, or through the proxy that the kubeconfig or `HTTPS_PROXY` names. In a pod, kube
//! takes the ServiceAccount, names no proxy, and connects directly.

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;

use super::CliError;

/// The schemes of proxies that kube can connect through.
const PROXY_SCHEMES: [&str; 3] = ["http", "https", "socks5"];

/// How to reach the API server: from the kubeconfig, or in a pod from the ServiceAccount.
pub(super) async fn config() -> Result<Config, CliError> {
    let config = Config::infer().await.map_err(CliError::Config)?;
    bypass_proxy(config, &no_proxy())
}

/// kube reads `HTTPS_PROXY` and `https_proxy` itself; this is the list that belongs to them.
#[expect(
    clippy::disallowed_methods,
    reason = "no flag: kube reads the proxy from the environment, so its exceptions too"
)]
fn no_proxy() -> String {
    ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

/// Takes the proxy out for an API server that `NO_PROXY` names: kube 5.0 compares that list with the host of the proxy. A proxy
/// that kube cannot use is an error here, because kube's own error prints its URL, which may contain a password.
fn bypass_proxy(mut config: Config, no_proxy: &str) -> Result<Config, CliError> {
    let Some(proxy) = &config.proxy_url else { return Ok(config) };
    if !proxy.scheme_str().is_some_and(|scheme| PROXY_SCHEMES.contains(&scheme)) {
        return Err(CliError::Proxy(proxy.host().unwrap_or_default().to_owned()));
    }
    let matcher = Matcher::builder().all(proxy.to_string()).no(no_proxy).build();
    if matcher.intercept(&config.cluster_url).is_none() {
        config.proxy_url = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use kube::{Client, client::ClientBuilder};
    use rstest::rstest;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn through(proxy: &str) -> Config {
        // No resolver knows the name, so that only a proxy can lead there.
        let mut config = Config::new("http://api.example.invalid:6443".parse().unwrap());
        config.proxy_url = Some(proxy.parse().unwrap());
        config
    }

    /// Reads the head of a request.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn requests_go_through_the_tunnel_of_an_http_proxy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://user:pass@{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let connect = head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let request = head(&mut stream).await;
            let body = r#"{"major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            (connect, request)
        });
        let client = Client::try_from(bypass_proxy(through(&proxy), "").unwrap()).unwrap();
        assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.33.0");
        let (connect, request) = served.await.unwrap();
        assert!(connect.starts_with("CONNECT api.example.invalid:6443 HTTP/1.1\r\n"), "{connect}");
        assert!(connect.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{connect}");
        assert!(request.starts_with("GET /version HTTP/1.1\r\n"), "{request}");
        assert!(!request.to_lowercase().contains("proxy-authorization"), "{request}");
    }

    #[rstest]
    #[case::nothing("", true)]
    #[case::another_host("10.0.0.0/8,db.example.invalid", true)]
    #[case::the_host_of_the_proxy("127.0.0.1", true)]
    #[case::the_host("localhost, api.example.invalid", false)]
    #[case::its_domain(".example.invalid", false)]
    #[case::all_hosts("*", false)]
    #[tokio::test]
    async fn no_proxy_is_compared_with_the_api_server(#[case] no_proxy: &str, #[case] used: bool) {
        for proxy in ["http://127.0.0.1:3128", "https://127.0.0.1:3128", "socks5://127.0.0.1:1080"] {
            let config = bypass_proxy(through(proxy), no_proxy).unwrap();
            assert_eq!(config.proxy_url.is_some(), used, "{proxy}");
            assert!(ClientBuilder::try_from(config).is_ok(), "{proxy}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        let error = bypass_proxy(through("ftp://somebody:secret@proxy.example.com:3128"), "").unwrap_err().to_string();
        assert!(error.contains("the proxy proxy.example.com") && !error.contains("secret"), "{error}");
    }
}
