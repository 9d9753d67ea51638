//! Random specs that the API server would accept, and random things that may be there or not.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::{select, subsequence},
};
use rorun_operator::{
    api::v1alpha1::RorunStack,
    names::Component,
    stack::{CredentialState, Observed, SecretData, references},
};
use serde_json::{Map, Value, json};

use super::support::{AGENT_IMAGE, Fixture, stack};

/// As many specs as a second allows.
pub fn config() -> ProptestConfig {
    ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() }
}

/// A stack that the API server would accept.
pub fn stacks() -> impl Strategy<Value = RorunStack> {
    fixtures().prop_map(Fixture::build)
}

/// As [`stacks`], to be changed before it is built.
pub fn fixtures() -> impl Strategy<Value = Fixture> {
    let name = "[a-z]([a-z0-9-]{0,38}[a-z0-9])?";
    let environment = select(vec!["Development", "Staging", "Production"]);
    (name, environment).prop_flat_map(|(name, environment)| {
        let production = environment == "Production";
        let top = (
            workload(if production { 2 } else { 0 }),
            option::of(workload(0)),
            option::of(workload(0)),
            data_services(environment),
            (any::<[bool; 4]>(), option::of(select(vec!["nginx", "traefik"])), option::of(Just("web-tls"))),
            if production { backup().prop_map(Some).boxed() } else { option::of(backup()).boxed() },
            option::of(image_source()),
            option::of(monitoring()),
        );
        top.prop_map(move |(api, ocr, admin, services, (hosts, class, tls), backup, image, monitoring)| {
            let cluster = services.get("database").and_then(|database| database.get("cloudNativePG"));
            let archived = cluster.is_some_and(|cluster| cluster.get("pooler").is_some());
            let backup = backup.map(|mut backup| {
                let own = services.get("bucket").and_then(|bucket| bucket.get("external"));
                let destination = backup.pointer("/destination/external");
                let by_role = |bucket: Option<&Value>| bucket.is_some_and(|bucket| bucket.get("cloudRole").is_some());
                // The log is archived by keys, and drills read by keys.
                let point_in_time = (archived && !by_role(destination.or(own))).then(|| json!({"days": 7}));
                if by_role(destination) || by_role(own) {
                    backup["verify"]["credentialsSecretRef"] = json!({"name": "reader"});
                }
                with(backup, "pointInTime", point_in_time)
            });
            let mut fixture = stack(&name).set("environment", json!(environment)).set("api", api);
            fixture = fixture.set("ingress", ingress(ocr.as_ref(), admin.as_ref(), hosts, class, tls));
            let blocks =
                [("ocr", ocr), ("admin", admin), ("backup", backup), ("image", image), ("monitoring", monitoring)];
            for (field, value) in blocks {
                fixture = match value {
                    Some(value) => fixture.set(field, value),
                    None => fixture,
                };
            }
            services.iter().fold(fixture, |fixture, (field, value)| fixture.set(field, value.clone()))
        })
    })
}

/// A stack whose data services AWS runs, through its controllers.
pub fn on_aws() -> impl Strategy<Value = RorunStack> {
    let rds = (option::of(0..3), option::of(select(vec!["Libpq", "Prisma"]))).prop_map(|(replicas, style)| {
        let block =
            json!({"instanceClass": "db.t4g.medium", "storage": {"size": "50Gi"}, "caSecretRef": {"name": "rds-ca"}});
        with(with(block, "readReplicas", replicas.map(Value::from)), "urlStyle", style.map(Value::from))
    });
    let cache = select(vec![
        json!({"nodeType": "cache.t4g.small"}),
        json!({"nodeType": "cache.t4g.small", "engine": "Redis", "clusterMode": true, "shards": 2}),
        json!({"serverless": {"userGroupID": "rorun", "loginSecretRef": {"name": "redis-login"}}}),
        json!({"serverless": {}}),
    ]);
    let rules = option::of(select(vec![
        ("lifecycle", json!({"expireNoncurrentAfterDays": 30})),
        ("cors", json!({"allowOrigins": ["https://app.example.com"]})),
    ]));
    (fixtures(), rds, cache, rules).prop_map(|(fixture, rds, cache, rules)| {
        let s3 = json!({"name": "shop-files", "region": "eu-west-1", "credentialsSecretRef": {"name": "bucket-keys"}});
        let fixture = fixture.without("backup.pointInTime").set("database", json!({"rds": rds}));
        let fixture = fixture.set("redis", json!({"elastiCache": cache})).set("bucket", json!({"s3": s3}));
        let fixture =
            rules.into_iter().fold(fixture, |fixture, (field, block)| fixture.set(&format!("bucket.{field}"), block));
        fixture.build()
    })
}

/// Names that a workload may be given, ours among them.
const VARIABLES: [&str; 7] =
    ["LOG_LEVEL", "PORT", "DATABASE_URL", "NODE_EXTRA_CA_CERTS", "PGSSLROOTCERT", "SSL_CERT_FILE", "API_KEY"];
const LABELS: [&str; 5] = [
    "team",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
];

fn ingress(
    ocr: Option<&Value>,
    admin: Option<&Value>,
    hosts: [bool; 4],
    class: Option<&str>,
    tls: Option<&str>,
) -> Value {
    let mut ingress = json!({"host": "api.example.com"});
    if hosts[0] && admin.is_some() {
        ingress["adminHost"] = json!("admin.example.com");
    }
    if hosts[1] && ocr.is_some() {
        ingress["ocrHost"] = json!("ocr.example.com");
    }
    if hosts[2] {
        let component = if admin.is_some() { "admin" } else { "api" };
        ingress["paths"] = json!([{"path": "/", "component": "api"}, {"path": "/x", "component": component}]);
    }
    if hosts[3] {
        let own = json!({"host": "b.example.org", "tls": {"secretName": "b-tls"},
            "paths": [{"path": "/", "pathType": "Exact", "component": "api"}]});
        ingress["extraHosts"] = json!([{"host": "a.example.org"}, own]);
    }
    if let Some(class) = class {
        ingress["className"] = json!(class);
        ingress["annotations"] = json!({"example.com/class": class});
    }
    if let Some(secret) = tls {
        ingress["tls"] = json!({"secretName": secret});
    }
    ingress
}

fn monitoring() -> impl Strategy<Value = Value> {
    let label = ("(example[.]com/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", "[A-Za-z0-9]{1,20}");
    let path = option::of("/[a-z0-9/._-]{0,20}");
    let interval = option::of(select(vec!["1s", "30s", "5m", "1h30m"]));
    (any::<Option<bool>>(), path, interval, btree_map(label.0, label.1, 0..3)).prop_map(
        |(scrape, path, every, labels)| {
            let mut block = json!({"labels": labels});
            for (field, value) in [("scrape", json!(scrape)), ("metricsPath", json!(path)), ("interval", json!(every))]
            {
                if !value.is_null() {
                    block[field] = value;
                }
            }
            block
        },
    )
}

fn image_source() -> impl Strategy<Value = Value> {
    (option::of(Just("registry.example.com/mirror")), vec(select(vec!["pull-a", "pull-b"]), 0..2)).prop_map(
        |(registry, secrets)| {
            let secrets: Vec<_> = secrets.into_iter().map(|name| json!({"name": name})).collect();
            let mut source = json!({"pullSecrets": secrets});
            if let Some(registry) = registry {
                source["registry"] = json!(registry);
            }
            source
        },
    )
}

/// A workload of at least so many pods.
fn workload(floor: i32) -> impl Strategy<Value = Value> {
    let image = select(vec![
        "app:1.8.0",
        "registry.example.com:5000/team/app:1.8.0",
        "app@sha256:00ff",
        "app:1.8.0@sha256:00ff",
    ]);
    let scale = prop_oneof![
        Just(json!({})),
        (floor..6).prop_map(|count| json!({"replicas": count})),
        (floor.max(1)..5, 0..5, option::of(50..90)).prop_map(|(min, more, memory)| {
            let mut autoscaling = json!({"minReplicas": min, "maxReplicas": min + more});
            if let Some(memory) = memory {
                autoscaling["targetMemoryUtilization"] = json!(memory);
            }
            json!({"autoscaling": autoscaling})
        }),
        Just(json!({"autoscaling": {}})),
    ];
    let own = select(vec![
        json!({}),
        json!({"command": ["node"], "args": ["main.js"], "port": 4000}),
        json!({"health": {"path": "/healthz", "startupSeconds": 1}}),
        json!({"health": {"startupSeconds": 3600}, "progressDeadlineSeconds": 60}),
        json!({"serviceAccount": {"annotations": {"example.com/role": "api"}}}),
        json!({"scheduling": {"nodeSelector": {"pool": "app"}, "tolerations": [{"key": "pool", "operator": "Exists"}]}}),
        json!({"scheduling": {"topologySpreadConstraints": [], "priorityClassName": "high"}}),
        json!({"apiURLFrom": "Ingress", "disruption": {"minAvailable": "50%"}}),
        json!({"disruption": {"maxUnavailable": 2}, "terminationGracePeriodSeconds": 600}),
    ]);
    let resources = select(vec![
        json!({}),
        json!({"resources": {"limits": {"memory": "64Mi"}}}),
        json!({"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}),
        json!({"resources": {"requests": {"cpu": "10m"}}}),
        json!({"resources": {}}),
    ]);
    let labels = btree_map(select(LABELS.to_vec()), Just("theirs"), 0..3);
    let annotations = btree_map(select(vec!["note", "rorun.app/config-hash"]), Just("theirs"), 0..2);
    (image, scale, own, resources, (variables(), env_from()), labels, annotations).prop_map(
        |(image, scale, own, resources, (env, env_from), labels, annotations)| {
            let mut workload = Map::from_iter([("image".to_owned(), json!(image))]);
            for block in [scale, own, resources] {
                workload.extend(block.as_object().cloned().unwrap_or_default());
            }
            let lists = json!({"env": env, "envFrom": env_from, "podLabels": labels, "podAnnotations": annotations});
            workload.extend(lists.as_object().cloned().unwrap_or_default());
            Value::Object(workload)
        },
    )
}

fn variables() -> impl Strategy<Value = Vec<Value>> {
    let source = prop_oneof![
        Just(json!({"value": "theirs"})),
        any::<bool>().prop_map(|optional| json!({"valueFrom": {"secretKeyRef": {"name": "settings", "key": "used", "optional": optional}}})),
        any::<bool>().prop_map(|optional| json!({"valueFrom": {"configMapKeyRef": {"name": "features", "key": "used", "optional": optional}}})),
        Just(json!({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})),
    ];
    btree_map(select(VARIABLES.to_vec()), source, 0..4).prop_map(|variables| {
        let named = variables.into_iter().map(|(name, mut variable)| {
            variable["name"] = json!(name);
            variable
        });
        named.collect()
    })
}

fn env_from() -> impl Strategy<Value = Vec<Value>> {
    let source = prop_oneof![
        Just(json!({"secretRef": {"name": "all-settings"}})),
        Just(json!({"prefix": "X_", "secretRef": {"name": "other-settings", "optional": true}})),
        Just(json!({"configMapRef": {"name": "all-features"}})),
    ];
    vec(source, 0..3)
}

fn data_services(environment: &str) -> BoxedStrategy<BTreeMap<&'static str, Value>> {
    let database = prop_oneof![external_database(), cloud_native_pg()];
    let external =
        (database, external_redis(), external_bucket("files", "bucket-keys")).prop_map(|(database, redis, bucket)| {
            [("database", database), ("redis", redis), ("bucket", json!({"external": bucket}))].into()
        });
    let storage = select(vec![
        json!({}),
        json!({"storage": {"size": "2Gi", "storageClassName": "fast"}, "resources": {"limits": {"memory": "1Gi"}}}),
    ]);
    let server = select(vec![
        json!({}),
        json!({"server": "MinIO"}),
        json!({"server": "RustFS", "storage": {"size": 1_000_000}}),
    ]);
    let embedded = (storage.clone(), storage, server).prop_map(|(database, redis, bucket)| {
        let embedded = |block| json!({"embedded": block});
        [("database", embedded(database)), ("redis", embedded(redis)), ("bucket", embedded(bucket))].into()
    });
    match environment {
        "Production" => external.boxed(),
        "Staging" => prop_oneof![external, embedded].boxed(),
        _ => prop_oneof![Just(BTreeMap::new()), external, embedded].boxed(),
    }
}

fn cloud_native_pg() -> impl Strategy<Value = Value> {
    let block = select(vec![
        json!({}),
        json!({"instances": 1, "version": "18", "storage": {"size": "2Gi"}, "antiAffinity": "Required"}),
        json!({"image": "postgres:17.6", "walStorage": {"storageClassName": "fast"}, "parameters": {"max_connections": "50"}}),
    ]);
    let pooler = option::of(select(vec![
        json!({}),
        json!({"instances": 1, "mode": "Transaction", "image": "pgbouncer:1.25", "parameters": {"default_pool_size": "9"}}),
    ]));
    let style = option::of(select(vec![json!("Libpq"), json!("Prisma")]));
    (block, pooler, style).prop_map(
        |(block, pooler, style)| json!({"cloudNativePG": with(with(block, "pooler", pooler), "urlStyle", style)}),
    )
}

fn authority(secret: &str) -> BoxedStrategy<Option<Value>> {
    option::of(Just(json!({"caSecretRef": {"name": secret}}))).boxed()
}

fn with(mut block: Value, field: &str, value: Option<Value>) -> Value {
    if let Some(value) = value {
        block[field] = value;
    }
    block
}

fn external_database() -> impl Strategy<Value = Value> {
    prop_oneof![4 => reached_database(), 1 => proxied_database()]
}

/// By its proxy, with each of the flags.
fn proxied_database() -> impl Strategy<Value = Value> {
    let flag = || option::of(any::<bool>().prop_map(Value::from));
    let key = option::of(Just(json!({"name": "google"})));
    (flag(), flag(), key).prop_map(|(private, login, key)| {
        let proxy = json!({"instanceConnectionName": "my-project:europe-west1:rorun"});
        let proxy = with(with(proxy, "privateIP", private), "autoIAMAuthn", login);
        let proxy = with(proxy, "jsonCredentialsSecretRef", key);
        json!({"external": {"secretRef": {"name": "database"}, "cloudSQLProxy": proxy}})
    })
}

fn reached_database() -> impl Strategy<Value = Value> {
    let keys =
        select(vec![json!({}), json!({"directUrlKey": "direct"}), json!({"urlKey": "url", "readUrlKey": "read"})]);
    let style = option::of(select(vec![json!("Libpq"), json!("Prisma")]));
    let provider = option::of(select(vec![json!("Supabase"), json!("CloudSQL")]));
    (keys, authority("database-ca"), any::<bool>(), style, provider).prop_map(
        |(keys, tls, certified, style, provider)| {
            let client = json!({"name": "database-client"});
            let tls = if certified {
                Some(with(tls.unwrap_or(json!({})), "clientCertificateSecretRef", Some(client)))
            } else {
                tls
            };
            // Prisma's own engine does not read it.
            let style = style.filter(|_| !certified);
            let secret = with(keys, "name", Some(json!("database")));
            let external = with(json!({"secretRef": secret}), "urlStyle", style);
            json!({"external": with(with(external, "provider", provider), "tls", tls)})
        },
    )
}

fn external_redis() -> impl Strategy<Value = Value> {
    authority("redis-ca").prop_map(|tls| json!({"external": with(json!({"secretRef": {"name": "redis"}}), "tls", tls)}))
}

fn external_bucket(name: &'static str, secret: &'static str) -> impl Strategy<Value = Value> {
    let token = option::of(Just(json!("token")));
    let checksums = option::of(select(vec![json!("WhenRequired"), json!("WhenSupported")]));
    let login = (prop::bool::weighted(0.8), token).prop_map(move |(keys, token)| {
        let reference = with(json!({"name": secret}), "sessionTokenKey", token);
        if keys { ("credentialsSecretRef", reference) } else { ("cloudRole", json!({})) }
    });
    (authority("bucket-ca"), login, checksums).prop_map(move |(tls, (field, login), checksums)| {
        let bucket = json!({"name": name, "endpoint": "https://s3.example.com", field: login});
        with(with(bucket, "checksums", checksums), "tls", tls)
    })
}

fn backup() -> impl Strategy<Value = Value> {
    let destination = prop_oneof![
        Just(None),
        Just(Some(json!({"prefix": "eu-west/dumps/"}))),
        external_bucket("dumps", "dump-keys").prop_map(|bucket| Some(json!({"external": bucket}))),
        external_bucket("dumps", "dump-keys").prop_map(|bucket| Some(json!({"external": bucket, "prefix": "dumps/"}))),
    ];
    let labels = btree_map(select(LABELS.to_vec()), Just("theirs"), 0..3);
    let retention = option::of((1..400, 1..50).prop_map(|(days, kept)| json!({"days": days, "minimumKept": kept})));
    let schemas = subsequence(vec!["vault", "a*b", "-x", "with space", "\"quoted\"", "Ünï,1"], 0..4);
    // A recovery point with all that it can have.
    let copies = option::of(external_bucket("copies", "copy-keys").prop_map(|bucket| json!([{"external": bucket}])));
    (destination, retention, select(vec!["@daily", "15 2 * * *"]), labels, schemas, copies).prop_map(
        |(destination, retention, schedule, labels, schemas, copies)| {
            let mut backup = json!({
                "schedule": schedule, "timeZone": "Africa/Lagos", "image": "registry.example.com/postgres:17",
                "podLabels": labels, "podAnnotations": {"note": "theirs"}, "excludeSchemas": schemas,
            });
            // Copies do not hold the objects of a list.
            backup["includeBucket"] = json!(copies.is_none());
            if let Some(copies) = copies {
                let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
                let check = json!({"name": "-x", "sql": "SELECT 'a \"b\"'", "expect": ""});
                backup["copies"] = copies;
                backup["recipients"] = json!([key]);
                backup["identitySecretRef"] = json!({"name": "identity"});
                backup["verify"] = json!({"checks": [check], "storage": {"size": "1Gi"}});
                backup["objectives"] = json!({"rpo": "24h", "rto": "1h"});
            }
            with(with(backup, "destination", destination), "retention", retention)
        },
    )
}

/// A stack, and anything that may be observed with it: Secrets that are missing, empty, cut off or not text.
pub fn chaos() -> impl Strategy<Value = (RorunStack, Observed)> {
    stacks().prop_flat_map(|cr| {
        let named = references(cr.metadata.name.as_deref().unwrap_or_default(), &cr.spec);
        let secrets = named.secrets.into_iter().map(|name| (Just(name), option::of(data()))).collect::<Vec<_>>();
        let maps = named.config_maps.into_iter().map(|name| (Just(name), option::of(data()))).collect::<Vec<_>>();
        let states = [Component::Database, Component::Redis, Component::Bucket]
            .map(|component| (Just(component), option::of(state())));
        (Just(cr), secrets, maps, states.into_iter().collect::<Vec<_>>()).prop_map(|(cr, secrets, maps, states)| {
            let observed = Observed {
                secrets: secrets.into_iter().collect(),
                config_maps: maps.into_iter().collect(),
                credentials: states.into_iter().filter_map(|(component, state)| Some((component, state?))).collect(),
                volumes: BTreeMap::new(),
                agent_image: AGENT_IMAGE.to_owned(),
                ..Observed::default()
            };
            (cr, observed)
        })
    })
}

fn data() -> impl Strategy<Value = SecretData> {
    let key = select(vec![
        "DATABASE_URL",
        "DIRECT_URL",
        "url",
        "direct",
        "read",
        "REDIS_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "ca.crt",
        "used",
        "username",
        "password",
        "database",
    ]);
    let value = prop_oneof![
        vec(any::<u8>(), 0..40),
        "\\PC{0,60}".prop_map(String::into_bytes),
        "(postgres(ql)?|redis|rediss|https)://[a-z%@:/?#\\[\\]]{0,30}(@[a-z.:0-9]{0,20}/[a-z?=&]{0,20})?"
            .prop_map(String::into_bytes),
        Just(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----".to_vec()),
        Just("postgresql://u:%ff@h/d?sslmode=\u{20ac}".as_bytes().to_vec()),
    ];
    btree_map(key.prop_map(str::to_owned), value, 0..6)
}

fn state() -> impl Strategy<Value = CredentialState> {
    prop_oneof![
        Just(CredentialState::Changed),
        Just(CredentialState::Unconfirmed),
        Just(CredentialState::Lost),
        Just(CredentialState::VolumeTaken),
        Just(CredentialState::VolumeTerminating),
        data().prop_map(CredentialState::Present),
        data().prop_map(CredentialState::Minted),
    ]
}
