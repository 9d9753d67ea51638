//! A client of the API server as kube's builder makes it, but for what a connection holds of what it has read.

use hyper::body::Incoming;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use tower::{BoxError, Service, ServiceExt as _, util::option_layer};

use super::CliError;

/// hyper's own limit is about 400 KiB, and the connection of a watch keeps as much from the list that it began with. A record of
/// TLS has at most 16 KiB.
const READ_AT_MOST: usize = 64 * 1024;

/// The client's stack, to which layers may be added.
pub(super) fn builder(
    config: &Config,
) -> Result<
    ClientBuilder<
        impl Service<http::Request<Body>, Response = http::Response<Incoming>, Error = BoxError, Future: Send + 'static>
        + Send
        + 'static,
    >,
    CliError,
> {
    if let Some(proxy) = &config.proxy_url {
        // Not the whole URL, which may hold a password.
        return Err(CliError::Proxy(proxy.host().unwrap_or_default().to_owned()));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: Client<_, Body> =
        Client::builder(TokioExecutor::new()).http1_max_buf_size(READ_AT_MOST).build(connector);
    Ok(ClientBuilder::new(client.map_err(BoxError::from), config.default_namespace.clone())
        .with_layer(&config.extra_headers_layer()?)
        .with_layer(&option_layer(config.auth_layer()?))
        .with_layer(&config.base_uri_layer()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_refused_without_telling_its_password() {
        let mut config = Config::new("https://10.0.0.1".parse().unwrap());
        config.proxy_url = Some("http://somebody:secret@proxy.example.com:3128".parse().unwrap());
        let error = builder(&config).err().unwrap().to_string();
        assert!(error.contains("the proxy proxy.example.com,") && !error.contains("secret"), "{error}");
    }
}
