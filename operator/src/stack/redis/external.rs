//! Redis on a server that the operator did not make: from a Secret to an address.

use super::{Redis, RedisAccess, url::RedisUrl};
use crate::{
    api::v1alpha1::ExternalRedis,
    contract::{ClusterMode, Provider},
    names::{Component, Waiting},
    stack::{
        Endpoint, Observed, ProbeTarget, Probing, References,
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
        probing::{clear_text, refuses_clear_text},
        secret::{NamedSecret, authority},
    },
};

const CLUSTER_MODE: ClusterMode = ClusterMode {
    declared: None,
    field: "redis.external.clusterMode",
    is_not: "remove clusterMode, or name a node of a cluster",
    is: "set redis.external.clusterMode to true, or name a server without cluster mode",
};

/// Redis on a server that the operator did not make.
#[derive(Clone, Debug)]
pub struct External {
    access: Option<RedisAccess>,
    provider: Option<&'static Provider>,
    probing: Probing,
}

impl Mode for External {
    fn provider(&self) -> Option<&'static Provider> {
        self.provider
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &RedisAccess| Endpoint::Redis {
            url: access.url.clone(),
            ca: access.ca.clone(),
            cluster_mode: ClusterMode { declared: access.cluster_mode, ..CLUSTER_MODE },
        };
        self.access.iter().map(|access| (Component::Redis.into(), endpoint(access))).collect()
    }
}

impl ModeAccess for External {
    type Access = RedisAccess;

    fn access(&self) -> Option<&RedisAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for ExternalRedis {
    fn references(&self, _: &str, found: &mut References) {
        found.secret(&self.secret_ref.name, [self.secret_ref.url_key.as_deref().unwrap_or("REDIS_URL")]);
        found.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        let of = &self.secret_ref;
        let url = format!("rediss://default:{}@redis.example.com:6379/0", values.value());
        values.secret(&of.name, of.url_key.as_deref().unwrap_or("REDIS_URL"), url);
        values.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }
}

impl Resolve for ExternalRedis {
    type Service = Redis;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Redis {
        let access = ok_or_unresolved(access(self, context.observed), Component::Redis, unresolved);
        let refused = refuses_clear_text(context.spec.environment, self.allow_insecure)
            && access.as_ref().is_some_and(|access| access.url.starts_with("redis://"));
        let doubt = refused.then(|| clear_text("redis.external", "the URL starts with redis://", "rediss://"));
        let probing = Probing::new(self.probe_interval.as_deref(), doubt);
        let host = || Provider::of_url(&access.as_ref()?.url);
        let provider = self.provider.map_or_else(host, |named| Provider::named(named.as_str()));
        Redis::External(Box::new(External { access, provider, probing }))
    }
}

fn access(spec: &ExternalRedis, observed: &Observed) -> Result<RedisAccess, Waiting> {
    let secret = NamedSecret::find(observed, &spec.secret_ref.name, "redis.external.secretRef")?;
    let ca = authority(
        spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()),
        "redis.external.tls.caSecretRef",
        observed,
    )?;
    let key = spec.secret_ref.url_key.as_deref().unwrap_or("REDIS_URL");
    let text = secret.required(key)?;
    let url = RedisUrl::parse(&text).map_err(|problem| secret.invalid(key, &problem.to_string()))?;
    if ca.is_some() && !url.tls {
        return Err(
            secret.invalid(key, "starts with redis://, and must start with rediss:// since redis.external.tls is set")
        );
    }
    let cluster_mode = spec.cluster_mode;
    if cluster_mode == Some(true) && url.database != 0 {
        let problem = "names a database, and a cluster has only database 0: leave the path out, since redis.external.clusterMode is true";
        return Err(secret.invalid(key, problem));
    }
    Ok(RedisAccess {
        host: url.host,
        port: url.port,
        username: None,
        password: url.password,
        url: text,
        ca,
        cluster_mode,
    })
}
