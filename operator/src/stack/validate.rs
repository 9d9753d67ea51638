//! From the resource and what was observed to a stack that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bucket, Connection, Corrected, Database, Endpoint, Observed, ProbeTarget, Redis, Stack, api_url, backup,
    connection::Parts, credentials, defaults, external, external::BucketAccess, ingress, probing::probing,
    service_host, services, volume, workload,
};
use crate::{
    api::v1alpha1::{
        BucketServer, EmbeddedBucket, EmbeddedDatabase, EmbeddedRedis, Environment, RorunStack, RorunStackSpec,
    },
    names::{Component, Waiting},
};

pub(super) type Unresolved = BTreeMap<Component, Waiting>;

/// Resolves defaults, Secrets and credentials. It cannot fail: what is missing is in [`Stack::unresolved`].
pub fn validate(cr: &RorunStack, observed: &Observed) -> Stack {
    let spec = &cr.spec;
    let name = cr.metadata.name.clone().unwrap_or_default();
    let namespace = cr.metadata.namespace.clone().unwrap_or_default();
    let registry = spec.image.as_ref().and_then(|image| image.registry.as_deref());
    let mut unresolved = Unresolved::new();
    let resolve = |of: &_, component| workload::resolve(of, component, spec.environment, registry);
    let mut stack = Stack {
        uid: cr.metadata.uid.clone().unwrap_or_default(),
        environment: spec.environment,
        suspend: spec.suspend.unwrap_or(false),
        api: resolve(&spec.api, Component::Api),
        ocr: spec.ocr.as_ref().map(|ocr| resolve(ocr, Component::Ocr)),
        admin: spec.admin.as_ref().map(|admin| resolve(admin, Component::Admin)),
        database: database(spec, &name, observed, &mut unresolved),
        redis: redis(spec, &name, observed, &mut unresolved),
        bucket: bucket(spec, (&name, &namespace), observed, &mut unresolved),
        connection: None,
        ingress: ingress::resolve(spec, observed, &mut unresolved),
        backup: None,
        pull_secrets: spec
            .image
            .iter()
            .flat_map(|image| &image.pull_secrets)
            .map(|secret| secret.name.clone())
            .collect(),
        pull_policy: spec.image.as_ref().and_then(|image| image.pull_policy).unwrap_or_default(),
        agent_image: observed.agent_image.clone(),
        probing: BTreeMap::new(),
        probes: BTreeMap::new(),
        last_backup: None,
        corrected: observed.corrected.iter().map(|(of, text)| (*of, Corrected::parse(text))).collect(),
        kept: BTreeSet::new(),
        warnings: warnings(spec),
        unresolved: Unresolved::new(),
        name,
        namespace,
    };
    api_url::resolve(spec, &mut stack, &mut unresolved);
    stack.connection = Connection::new(&parts(&stack));
    stack.backup = backup::resolve(spec, &stack, observed, &mut unresolved);
    let connection = stack.connection.take();
    for workload in [Some(&mut stack.api), stack.ocr.as_mut(), stack.admin.as_mut()].into_iter().flatten() {
        if let Err(missing) = workload.hash_config(connection.as_ref(), observed) {
            unresolved.insert(workload.component, missing);
        }
    }
    stack.connection = connection;
    stack.unresolved = unresolved;
    stack.probing = probing(spec, &stack, observed);
    stack
}

impl Stack {
    /// The services to talk to, to find out whether they answer: an external database by each of its URLs. Those that are not
    /// asked are left out. The embedded database and Redis are judged by their pods.
    pub fn endpoints(&self) -> BTreeMap<ProbeTarget, Endpoint> {
        let mut endpoints = BTreeMap::new();
        if let Database::External(Some(access)) = &self.database {
            let urls = [
                (ProbeTarget::from(Component::Database), &access.url),
                (ProbeTarget::DIRECT, &access.direct),
                (ProbeTarget::READ, &access.read),
            ];
            for (index, (target, named)) in urls.iter().enumerate() {
                if urls[..index].iter().any(|(_, other)| other.url == named.url) {
                    continue;
                }
                let (origin, url) = (named.origin.clone(), named.url.to_string());
                endpoints.insert(*target, Endpoint::Postgres { origin, url, ca: access.ca.clone() });
            }
        }
        if let Redis::External(Some(access)) = &self.redis {
            let endpoint = Endpoint::Redis { url: access.url.clone(), ca: access.ca.clone() };
            endpoints.insert(Component::Redis.into(), endpoint);
        }
        let shared = self.backup.as_ref().filter(|backup| !backup.own_destination);
        if let Some(access) = self.bucket.access() {
            let endpoint = Endpoint::Bucket {
                access: access.clone(),
                prefix: shared.map(|backup| backup.prefix.clone()),
                create: matches!(self.bucket, Bucket::Embedded { .. }),
                versioning: self.bucket.versioning(),
            };
            endpoints.insert(Component::Bucket.into(), endpoint);
        }
        if let Some(super::Backup { own_destination: true, destination: Some(access), prefix, .. }) = &self.backup {
            let (access, prefix) = ((**access).clone(), Some(prefix.clone()));
            let endpoint = Endpoint::Bucket { access, prefix, create: false, versioning: false };
            endpoints.insert(Component::Backup.into(), endpoint);
        }
        endpoints.retain(|target, _| self.not_asked(target.component).is_none());
        endpoints
    }
}

fn parts(stack: &Stack) -> Parts<'_> {
    Parts {
        name: &stack.name,
        namespace: &stack.namespace,
        environment: stack.environment,
        api: &stack.api,
        ocr: stack.ocr.as_ref(),
        ingress: stack.ingress.as_ref(),
        database: &stack.database,
        redis: &stack.redis,
        bucket: &stack.bucket,
    }
}

/// The value, or `None` and the reason kept for the component.
pub(super) fn keep<T>(result: Result<T, Waiting>, component: Component, unresolved: &mut Unresolved) -> Option<T> {
    result.map_err(|waiting| unresolved.insert(component, waiting)).ok()
}

pub(super) fn registry(spec: &RorunStackSpec) -> Option<&str> {
    spec.image.as_ref().and_then(|image| image.registry.as_deref())
}

fn database(spec: &RorunStackSpec, name: &str, observed: &Observed, unresolved: &mut Unresolved) -> Database {
    let block = spec.database.clone().unwrap_or_default();
    if let Some(external) = &block.external {
        let access = keep(external::database(external, observed), Component::Database, unresolved);
        return Database::External(access.map(Box::new));
    }
    let embedded = block.embedded.unwrap_or_default();
    Database::Embedded {
        image: postgres_image(&embedded, registry(spec)),
        volume: Box::new(volume::resolve(embedded.storage.as_ref(), Component::Database, observed)),
        resources: defaults::resources(embedded.resources.as_ref(), "100m", "256Mi"),
        credentials: keep(credentials::resolve(name, Component::Database, observed), Component::Database, unresolved),
    }
}

fn postgres_image(embedded: &EmbeddedDatabase, registry: Option<&str>) -> String {
    let version = embedded.version.as_deref().unwrap_or("17");
    defaults::image(registry, &embedded.image.clone().unwrap_or_else(|| format!("postgres:{version}")))
}

fn redis(spec: &RorunStackSpec, name: &str, observed: &Observed, unresolved: &mut Unresolved) -> Redis {
    let block = spec.redis.clone().unwrap_or_default();
    if let Some(external) = &block.external {
        let access = keep(external::redis(external, observed), Component::Redis, unresolved);
        return Redis::External(access.map(Box::new));
    }
    let EmbeddedRedis { image, storage, resources } = block.embedded.unwrap_or_default();
    Redis::Embedded {
        image: defaults::image(registry(spec), image.as_deref().unwrap_or("valkey/valkey:8.1")),
        volume: Box::new(volume::resolve(storage.as_ref(), Component::Redis, observed)),
        resources: defaults::resources(resources.as_ref(), "50m", "64Mi"),
        credentials: keep(credentials::resolve(name, Component::Redis, observed), Component::Redis, unresolved),
    }
}

fn bucket(
    spec: &RorunStackSpec,
    (name, namespace): (&str, &str),
    observed: &Observed,
    unresolved: &mut Unresolved,
) -> Bucket {
    let block = spec.bucket.clone().unwrap_or_default();
    if let Some(external) = &block.external {
        let access = keep(external::bucket(external, "bucket.external", observed), Component::Bucket, unresolved);
        return Bucket::External { access: access.map(Box::new), versioning: block.versioning.unwrap_or(false) };
    }
    let EmbeddedBucket { server, image, storage, resources } = block.embedded.unwrap_or_default();
    let server = server.unwrap_or_default();
    let credentials = keep(credentials::resolve(name, Component::Bucket, observed), Component::Bucket, unresolved);
    let access = credentials.as_ref().map(|credentials| {
        let port = services::bucket_port(server);
        Box::new(BucketAccess {
            endpoint: format!("http://{}:{port}", service_host(name, namespace, Component::Bucket)),
            region: "us-east-1".to_owned(),
            name: format!("{name}-bucket"),
            force_path_style: true,
            access_key_id: credentials.text("accessKeyId").to_owned(),
            secret_access_key: credentials.text("secretAccessKey").to_owned(),
            session_token: None,
            checksums: None,
            ca: None,
        })
    });
    Bucket::Embedded {
        server,
        image: defaults::image(registry(spec), image.as_deref().unwrap_or(bucket_image(server))),
        volume: Box::new(volume::resolve(storage.as_ref(), Component::Bucket, observed)),
        resources: defaults::resources(resources.as_ref(), "50m", "256Mi"),
        credentials,
        access,
        versioning: block.versioning.unwrap_or(true),
    }
}

fn bucket_image(server: BucketServer) -> &'static str {
    match server {
        BucketServer::SeaweedFS => "chrislusf/seaweedfs:4.48",
        BucketServer::MinIO => "minio/minio:RELEASE.2025-09-07T16-13-09Z",
        BucketServer::RustFS => "rustfs/rustfs:1.0.0",
    }
}

fn warnings(spec: &RorunStackSpec) -> Vec<String> {
    if spec.environment == Environment::Production {
        return backup::warning(spec).map(str::to_owned).into_iter().collect();
    }
    if spec.environment != Environment::Staging {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let embedded = [
        ("database", spec.database.as_ref().is_some_and(|database| database.embedded.is_some())),
        ("redis", spec.redis.as_ref().is_some_and(|redis| redis.embedded.is_some())),
        ("bucket", spec.bucket.as_ref().is_some_and(|bucket| bucket.embedded.is_some())),
    ];
    for (field, _) in embedded.into_iter().filter(|(_, embedded)| *embedded) {
        warnings.push(format!("{field}.embedded is a single pod without failover: Production will refuse it"));
    }
    let workloads = [("api", Some(&spec.api)), ("ocr", spec.ocr.as_ref()), ("admin", spec.admin.as_ref())];
    for (field, image) in workloads.into_iter().filter_map(|(field, of)| Some((field, &of?.image))) {
        if defaults::is_floating(image) {
            warnings.push(format!("{field}.image {image} has no fixed tag: Production will refuse it"));
        }
    }
    warnings
}
