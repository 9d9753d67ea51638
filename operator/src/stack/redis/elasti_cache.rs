//! Redis on Amazon ElastiCache: from what its object says to an address.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Redis, RedisAccess};
use crate::{
    api::v1alpha1::{CacheEngine, ElastiCacheRedis, Environment},
    contract::{ClusterMode, Provider},
    names::{Component, ObjectName, Waiting},
    stack::{
        CredentialKeys, Credentials, Endpoint, ManagedService, Observed, ProbeTarget, Probing, References,
        credentials::{self, PASSWORD, Sought},
        managed::{Disruptive, aws_name, host_and_port, major, same_major},
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
        secret::NamedSecret,
    },
};

/// How many characters AWS allows.
const LONGEST_NAME: usize = 40;

/// Of a cache only its parameters can be otherwise: the field cannot change.
const CLUSTER_MODE: ClusterMode = ClusterMode {
    declared: None,
    field: "redis.elastiCache.clusterMode",
    is_not: "let redis.elastiCache.parameterGroup name a group with cluster-enabled yes, or leave it out",
    is: "let redis.elastiCache.parameterGroup name a group with cluster-enabled no, or make a cache with clusterMode: true",
};

/// Redis on Amazon ElastiCache.
#[derive(Clone, Debug)]
pub struct ElastiCache {
    /// The block of the spec.
    pub block: ElastiCacheRedis,
    /// The name in AWS.
    pub identifier: String,
    /// The engine that is applied, as AWS has it.
    pub engine: String,
    /// The version that is applied.
    pub version: String,
    /// The nodes. `None`: it is serverless.
    pub nodes: Option<Nodes>,
    /// How many days snapshots are kept.
    pub snapshot_retention_days: i32,
    /// The generated password. `None`: see [`crate::stack::Stack::unresolved`], or it is serverless.
    pub credentials: Option<Credentials>,
    /// A change that nobody confirmed.
    pub held: Option<Waiting>,
    access: Option<RedisAccess>,
    probing: Probing,
}

/// The nodes of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The type that is applied.
    pub kind: String,
    /// Shards.
    pub shards: i32,
    /// The replicas of each.
    pub replicas: i32,
    /// Cluster mode.
    pub cluster: bool,
}

impl Mode for ElastiCache {
    fn provider(&self) -> Option<&'static Provider> {
        Provider::named("ElastiCache")
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &RedisAccess| Endpoint::Redis {
            url: access.url.clone(),
            ca: None,
            cluster_mode: ClusterMode { declared: access.cluster_mode, ..CLUSTER_MODE },
        };
        self.access.iter().map(|access| (Component::Redis.into(), endpoint(access))).collect()
    }
}

impl ModeAccess for ElastiCache {
    type Access = RedisAccess;

    fn access(&self) -> Option<&RedisAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for ElastiCacheRedis {
    fn references(&self, _: &str, found: &mut References) {
        if let Some(login) = self.serverless.as_ref().and_then(|of| of.login_secret_ref.as_ref()) {
            found.secret(&login.name, ["username", "password"]);
        }
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        let value = values.value();
        if let Some(login) = self.serverless.as_ref().and_then(|of| of.login_secret_ref.as_ref()) {
            values.secret(&login.name, "username", "rorun");
            values.secret(&login.name, "password", value);
        }
        let stack = values.stack().to_owned();
        let there = ManagedService {
            ready: true,
            endpoint: Some(("cache.example.com".to_owned(), 6379)),
            class: self.node_type.clone(),
            version: Some(version(self)),
            ..ManagedService::default()
        };
        values.managed(ObjectName::of(&stack, Component::Redis).into(), there);
    }

    /// A serverless cache has no password of its own.
    fn generates(&self, _: Component) -> Option<CredentialKeys> {
        self.serverless.is_none().then_some(PASSWORD)
    }
}

impl Resolve for ElastiCacheRedis {
    type Service = Redis;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Redis {
        let observed = context.observed;
        let object = ObjectName::of(context.name, Component::Redis).to_string();
        let there = observed.managed.get(&object);
        let production = context.spec.environment == Environment::Production;
        let (kind, kind_held) = self.kind(there).held(observed, |one, other| one == other);
        let (engine, version, engine_held) = self.engine(there, observed);
        let cluster = self.cluster_mode == Some(true);
        let nodes = self.node_type.as_ref().map(|_| Nodes {
            kind,
            shards: self.shards.unwrap_or(1),
            replicas: self.replicas.unwrap_or(i32::from(production)),
            cluster,
        });
        let login = ok_or_unresolved(self.login(context), Component::Redis, unresolved);
        let address = host_and_port(there.and_then(|there| there.endpoint.as_ref()));
        let cluster_mode = if nodes.is_some() { self.cluster_mode } else { Some(true) };
        let access = login.as_ref().zip(address).map(|(login, address)| access(login, address, cluster_mode));
        Redis::ElastiCache(Box::new(ElastiCache {
            identifier: self.identifier.clone().unwrap_or_else(|| aws_name(context, LONGEST_NAME)),
            engine,
            version,
            nodes,
            snapshot_retention_days: self.snapshot_retention_days.unwrap_or(if production { 7 } else { 0 }),
            credentials: login.and_then(|login| login.generated),
            held: kind_held.or(engine_held),
            access,
            probing: Probing::default(),
            block: self.clone(),
        }))
    }
}

/// How clients log in.
struct Login {
    username: String,
    password: String,
    generated: Option<Credentials>,
}

impl ElastiCacheRedis {
    /// The engine and its version, which belong together: with the engine the version is confirmed, and held.
    fn engine(&self, there: Option<&ManagedService>, observed: &Observed) -> (String, String, Option<Waiting>) {
        let wanted = version(self);
        let name = self.engine.unwrap_or_default();
        let other = there.and_then(|there| there.engine.as_deref()).filter(|engine| *engine != in_aws(name));
        let Some(other) = other else {
            let (version, held) = version_change(there, &wanted).held(observed, same_major);
            return (in_aws(name).to_owned(), version, held);
        };
        let names = [CacheEngine::Valkey, CacheEngine::Redis];
        let known = names.into_iter().find(|name| in_aws(*name) == other).map_or(other, |name| name.as_str());
        let change = Disruptive {
            field: "redis.elastiCache.engine",
            wanted: name.as_str(),
            there: Some(known),
            effect: "connections break while the engine is replaced, which nothing takes back",
        };
        match change.held(observed, |_, _| false) {
            (_, None) => (in_aws(name).to_owned(), wanted, None),
            (_, held) => (other.to_owned(), there.and_then(|there| there.version.clone()).unwrap_or(wanted), held),
        }
    }

    fn kind<'a>(&'a self, there: Option<&'a ManagedService>) -> Disruptive<'a> {
        Disruptive {
            field: "redis.elastiCache.nodeType",
            wanted: self.node_type.as_deref().unwrap_or_default(),
            there: there.and_then(|there| there.class.as_deref()).filter(|_| self.node_type.is_some()),
            effect: "connections break while nodes are replaced",
        }
    }

    fn login(&self, context: &Context<'_>) -> Result<Login, Waiting> {
        let Some(serverless) = &self.serverless else {
            let holder = format!(
                "replicationgroup.elasticache.services.k8s.aws/{}",
                ObjectName::of(context.name, Component::Redis)
            );
            let keys = PASSWORD;
            let sought = Sought { stack: context.name, component: Component::Redis, keys, holder, managed: true };
            let generated = credentials::resolve(&sought, context.observed)?;
            // A token is of no user.
            let password = generated.text("password").to_owned();
            return Ok(Login { username: String::new(), password, generated: Some(generated) });
        };
        let Some(reference) = &serverless.login_secret_ref else {
            return Ok(Login { username: String::new(), password: String::new(), generated: None });
        };
        let field = "redis.elastiCache.serverless.loginSecretRef";
        let secret = NamedSecret::find(context.observed, &reference.name, field)?;
        let (username, password) = (secret.required("username")?, secret.required("password")?);
        Ok(Login { username, password, generated: None })
    }
}

fn version_change<'a>(there: Option<&'a ManagedService>, wanted: &'a str) -> Disruptive<'a> {
    Disruptive {
        field: "redis.elastiCache.version",
        wanted,
        there: there.and_then(|there| there.version.as_deref()),
        effect: "connections break while the engine is replaced, which nothing takes back",
    }
}

/// The engine as AWS has it.
fn in_aws(engine: CacheEngine) -> &'static str {
    match engine {
        CacheEngine::Valkey => "valkey",
        CacheEngine::Redis => "redis",
    }
}

/// Of a serverless cache the major version alone.
fn version(block: &ElastiCacheRedis) -> String {
    let version = block.version.as_deref().unwrap_or(match block.engine.unwrap_or_default() {
        CacheEngine::Valkey => "8.0",
        CacheEngine::Redis => "7.1",
    });
    if block.serverless.is_some() { major(version).to_owned() } else { version.to_owned() }
}

fn access(login: &Login, (host, port): (&str, i32), cluster_mode: Option<bool>) -> RedisAccess {
    let encode = |part: &str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
    let user = match (login.username.as_str(), login.password.as_str()) {
        ("", "") => String::new(),
        (username, password) => format!("{}:{}@", encode(username), encode(password)),
    };
    // Cluster mode has no other database than 0.
    let database = if cluster_mode == Some(true) { "" } else { "/0" };
    RedisAccess {
        url: format!("rediss://{user}{host}:{port}{database}"),
        host: host.to_owned(),
        port: u16::try_from(port).unwrap_or(6379),
        username: None,
        password: login.password.clone(),
        ca: None,
        cluster_mode,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        names::{annotation, reason},
        stack::{CredentialState, SecretData, Stack, validate},
    };

    fn cache(block: &Value, observed: &Observed) -> (Stack, ElastiCache) {
        let spec = json!({"environment": "Development", "api": {"image": "a"}, "redis": {"elastiCache": block}});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"}, "spec": spec});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let stack = validate(&cr, observed);
        let Redis::ElastiCache(cache) = &stack.redis else { panic!("{:?}", stack.redis) };
        let cache = (**cache).clone();
        (stack, cache)
    }

    fn there(engine: &str, version: &str, confirmed: Option<&str>) -> Observed {
        let service = ManagedService {
            ready: true,
            endpoint: Some(("cache.example.com".to_owned(), 6379)),
            class: Some("cache.t4g.small".to_owned()),
            engine: Some(engine.to_owned()),
            version: Some(version.to_owned()),
            ..ManagedService::default()
        };
        let confirmed = confirmed.map(|value| (annotation::CONFIRM_CHANGE.to_owned(), value.to_owned()));
        Observed {
            managed: [("shop-redis".to_owned(), service)].into(),
            annotations: confirmed.into_iter().collect(),
            ..Observed::default()
        }
    }

    #[rstest]
    #[case::held("redis", "7.1", None, ("redis", "7.1"), Some("engine is Valkey, and the service keeps Redis"))]
    #[case::of_the_version("redis", "7.1", Some("8.0"), ("redis", "7.1"), Some("confirm-change=Valkey"))]
    #[case::confirmed("redis", "7.1", Some("Valkey"), ("valkey", "8.0"), None)]
    #[case::as_it_is("valkey", "8.0", None, ("valkey", "8.0"), None)]
    #[case::another_version("valkey", "7.2", None, ("valkey", "7.2"), Some("version is 8.0, and the service keeps 7.2"))]
    fn an_engine_is_held_together_with_its_version(
        #[case] engine: &str,
        #[case] version: &str,
        #[case] confirmed: Option<&str>,
        #[case] applied: (&str, &str),
        #[case] told: Option<&str>,
    ) {
        let (_, cache) = cache(&json!({"nodeType": "cache.t4g.small"}), &there(engine, version, confirmed));
        assert_eq!((cache.engine.as_str(), cache.version.as_str()), applied);
        assert_eq!(cache.held.as_ref().map(|held| held.reason), told.map(|_| reason::CONFIRMATION_REQUIRED));
        let message = cache.held.map(|held| held.message).unwrap_or_default();
        assert!(message.contains(told.unwrap_or_default()), "{message}");
    }

    #[rstest]
    #[case::left_out(json!({}), None)]
    #[case::none(json!({"clusterMode": false}), Some(false))]
    #[case::declared(json!({"clusterMode": true}), Some(true))]
    fn the_cluster_mode_is_compared_as_it_is_declared(#[case] mut block: Value, #[case] declared: Option<bool>) {
        block["nodeType"] = json!("cache.t4g.small");
        let mut observed = there("valkey", "8.0", None);
        let password: SecretData = [("password".to_owned(), b"secret".to_vec())].into();
        observed.credentials = [(Component::Redis, CredentialState::Present(password))].into();
        let (stack, cache) = cache(&block, &observed);
        assert_eq!(stack.unresolved.get(&Component::Redis), None);
        let endpoints = cache.endpoints(None);
        let [(_, Endpoint::Redis { cluster_mode, .. })] = endpoints.as_slice() else { panic!("{endpoints:?}") };
        assert_eq!((cluster_mode.declared, cluster_mode.field), (declared, "redis.elastiCache.clusterMode"));
    }
}
