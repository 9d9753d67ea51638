//! The proxy that runs beside the containers of every pod that uses the database.

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::NamedUrl;
use crate::{
    api::v1alpha1::CloudSqlProxy,
    names::{Waiting, reason},
    stack::{Observed, defaults, secret::NamedSecret},
};

/// The release whose flags this operator writes.
const IMAGE: &str = "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.28.0";
/// Where it listens: within the pod alone.
pub(super) const HOST: &str = "127.0.0.1";
/// The key of a Secret, where the spec names none.
const KEY: &str = "key.json";

/// The Auth Proxy of Cloud SQL.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// The image.
    pub image: String,
    /// Its flags, and the instance.
    pub args: Vec<String>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// The Secret and the key with its credentials. `None`: it has those of the pod.
    pub credentials: Option<(String, String)>,
}

impl Proxy {
    /// Whatever decides whether it starts, and what it does.
    pub fn means(&self) -> Vec<String> {
        let (secret, key) = self.credentials.clone().unwrap_or_default();
        let resources = serde_json::to_string(&self.resources).unwrap_or_default();
        [self.image.clone(), secret, key, resources].into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// The port that it listens on is that of the URL. `health`: where the kubelet asks it.
    pub(super) fn resolve(
        spec: &CloudSqlProxy,
        registry: Option<&str>,
        port: &str,
        observed: &Observed,
    ) -> Result<Self, Waiting> {
        let credentials = spec.json_credentials_secret_ref.as_ref();
        let credentials = credentials.map(|of| (of.name.clone(), of.key.as_deref().unwrap_or(KEY).to_owned()));
        if let Some((name, _)) = &credentials {
            NamedSecret::find(observed, name, "database.external.cloudSQLProxy.jsonCredentialsSecretRef")?;
        }
        let health = format!("--http-port={}", super::PROXY_HEALTH_PORT);
        let port = format!("--port={port}");
        // The kubelet asks from outside of the pod: at every address, of IPv4 and of IPv6.
        let mut args = vec!["--structured-logs", &port, "--health-check", "--http-address=", &health];
        let asked = [(spec.private_ip, "--private-ip"), (spec.psc, "--psc"), (spec.auto_iam_authn, "--auto-iam-authn")];
        args.extend(asked.into_iter().filter(|(set, _)| *set == Some(true)).map(|(_, flag)| flag));
        args.push(&spec.instance_connection_name);
        Ok(Self {
            image: defaults::image(registry, spec.image.as_deref().unwrap_or(IMAGE)),
            args: args.into_iter().map(str::to_owned).collect(),
            resources: defaults::resources(spec.resources.as_ref(), "50m", "64Mi"),
            credentials,
        })
    }
}

/// Whether a URL leads to the proxy: the only port of the only host.
pub(super) fn leads_there(named: &NamedUrl) -> bool {
    *named.url.hosts() == [HOST] && named.url.ports().len() == 1
}

/// Of a URL that does not.
pub(super) fn leads_elsewhere(named: &NamedUrl) -> Waiting {
    let message = format!(
        "{} does not lead to the proxy of database.external.cloudSQLProxy: write postgresql://<user>:<password>@{HOST}:5432/<database>",
        named.origin
    );
    Waiting::new(reason::INVALID_VALUE, message)
}

/// The Secret that a proxy names, which only its pods read.
pub(super) fn secret(spec: Option<&CloudSqlProxy>) -> Option<&str> {
    Some(spec?.json_credentials_secret_ref.as_ref()?.name.as_str())
}

/// The key of that Secret, for placeholders.
pub(super) fn key(spec: &CloudSqlProxy) -> &str {
    spec.json_credentials_secret_ref.as_ref().and_then(|of| of.key.as_deref()).unwrap_or(KEY)
}
