//! PostgreSQL that CloudNativePG runs: what its Cluster is to be, and from its Secrets to URLs.
//!
//! CloudNativePG makes the Secrets and Services of a Cluster by its name. The URL in its Secret is not read: a Secret that a user
//! put in its place has none, and the URL is built, and encoded, in one place.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Database, DatabaseAccess, NamedUrl, Pooler, PoolerLimits, data};
use crate::{
    api::v1alpha1::{AntiAffinity, CloudNativePgDatabase, PoolMode, SecretKeyReference},
    contract::{PostgresUrl, TlsMode},
    names::{Component, ObjectName, ROLE_POOLER, Waiting, image::ImageName, reason},
    stack::{
        Endpoint, POSTGRES_PORT, ProbeTarget, Probing, Recovered, References, Volume, defaults,
        mode::{
            ClusterVolumes, Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, knows_settings, ok_or_unresolved,
        },
        placeholders::Values,
        secret::{NamedSecret, authority},
        volume,
    },
};

const FIELD: &str = "database.cloudNativePG";
/// The database, and the role that owns it.
pub const NAME: &str = "rorun";
/// The version that a spec does not give.
const DEFAULT_VERSION: &str = "17";
/// Where CloudNativePG publishes its images.
const REGISTRY: &str = "ghcr.io";

/// PostgreSQL that CloudNativePG runs.
#[derive(Clone, Debug)]
pub struct CloudNativePg {
    /// The name of the Cluster.
    pub name: String,
    /// What it was recovered from.
    pub origin: Option<Recovered>,
    /// The addresses of the Clusters that restores have recovered beside it, by name.
    pub recovered: BTreeMap<String, DatabaseAccess>,
    /// How many servers.
    pub instances: i32,
    /// Their image.
    pub image: String,
    /// The user of their processes. `None`: that of CloudNativePG's own images.
    pub user: Option<i64>,
    /// The volume of each.
    pub storage: Volume,
    /// The volume of each for its log.
    pub wal_storage: Option<Volume>,
    /// CPU and memory of each.
    pub resources: ResourceRequirements,
    /// Parameters of PostgreSQL.
    pub parameters: BTreeMap<String, String>,
    /// Whether they keep apart, as CloudNativePG has it.
    pub anti_affinity: &'static str,
    /// PgBouncer before them.
    pub pooler: Option<Pooler>,
    /// Notes about fields of the spec that have no effect.
    notes: Vec<String>,
    /// Whether CloudNativePG says that it serves: before it does, nobody asks it.
    serves: bool,
    access: Option<DatabaseAccess>,
    probing: Probing,
}

impl Mode for CloudNativePg {
    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    /// By a session that can write: a primary that has become a replica would let everybody in and nobody write. Replicas let read.
    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let Some(access) = self.access.as_ref().filter(|_| self.serves) else { return Vec::new() };
        let direct = (access.direct.url != access.url.url).then_some((ProbeTarget::DIRECT, &access.direct));
        let read = (access.read.url != access.direct.url).then_some((ProbeTarget::READ, &access.read));
        let urls = [(ProbeTarget::from(Component::Database), &access.url)].into_iter().chain(direct).chain(read);
        urls.map(|(target, named)| {
            let writes = [("target_session_attrs", "read-write")];
            let url = if target == ProbeTarget::READ { named.url.clone() } else { named.url.with(&writes) };
            let (origin, url) = (named.origin.clone(), url.to_string());
            (target, Endpoint::Postgres { origin, url, ca: access.ca.clone(), client: None })
        })
        .collect()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn dump_image(&self) -> Option<&str> {
        Some(&self.image)
    }

    fn volume_size(&self) -> Option<&str> {
        Some(&self.storage.size)
    }

    fn pooler(&self) -> Option<PoolerLimits> {
        self.pooler.as_ref().map(Pooler::limits)
    }
}

impl ModeAccess for CloudNativePg {
    type Access = DatabaseAccess;

    fn access(&self) -> Option<&DatabaseAccess> {
        self.access.as_ref()
    }

    fn knows_settings(&self) -> bool {
        major(&self.image).and_then(|major| major.parse().ok()).is_some_and(knows_settings)
    }

    fn live(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn recovered(&self, name: &str) -> Option<&DatabaseAccess> {
        self.recovered.get(name)
    }
}

impl ModeSpec for CloudNativePgDatabase {
    fn references(&self, stack: &str, found: &mut References) {
        add_references(ObjectName::of(stack, Component::Database).as_str(), found);
    }

    fn placeholders(&self, stack: &str, values: &mut Values<'_>) {
        let value = values.value();
        let cluster = ObjectName::of(stack, Component::Database);
        values.secret(&credentials(cluster.as_str()), "username", NAME);
        values.secret(&credentials(cluster.as_str()), "password", value);
        values.authority(Some(&certificates(cluster.as_str())));
    }

    fn cluster(&self) -> Option<ClusterVolumes<'_>> {
        let archive_timeout = self.parameters.get("archive_timeout").map(String::as_str);
        Some(ClusterVolumes { storage: self.storage.as_ref(), wal_storage: self.wal_storage.as_ref(), archive_timeout })
    }
}

impl Resolve for CloudNativePgDatabase {
    type Service = Database;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Database {
        let registry = defaults::registry(context.spec);
        let image = self.image.as_ref().map_or_else(
            || {
                let version = self.version.as_deref().unwrap_or(DEFAULT_VERSION);
                let name = format!("cloudnative-pg/postgresql:{version}-standard-trixie");
                defaults::image(registry.or(Some(REGISTRY)), &name)
            },
            |image| defaults::image(registry, image),
        );
        ok_or_unresolved(same_version(&image, context), Component::Database, unresolved);
        // The Cluster must be there for its Secrets to come: only the application waits for these.
        let clusters = &context.observed.clusters;
        let name = clusters.live_or_first(context.name);
        let access = ok_or_unresolved(access(self, context, &name), Component::Connection, unresolved);
        let others = clusters.existing.iter().map(|existing| &existing.name).filter(|other| **other != name);
        let recovered = others.filter_map(|other| Some((other.clone(), self::access(self, context, other).ok()?)));
        if let Err(unknown) = clusters.live(context.name) {
            unresolved.insert(Component::Database, unknown.clone());
            unresolved.insert(Component::Connection, unknown);
        }
        let cluster = context.observed.cluster.as_ref();
        let existing = context.observed.volumes.get(&Component::Database);
        let asked = volume::asked(self.storage.as_ref(), Component::Database);
        let storage = volume::fit(asked, &format!("spec.{FIELD}.storage"), existing);
        let wal_storage = self.wal_storage.as_ref().map(|block| {
            let asked = volume::asked(Some(block), Component::Database);
            volume::fit(asked, &format!("spec.{FIELD}.walStorage"), cluster.and_then(|cluster| cluster.wal.as_ref()))
        });
        let notes =
            [Some(&storage), wal_storage.as_ref()].into_iter().flatten().flat_map(|volume| volume.notes.clone());
        Database::CloudNativePg(Box::new(CloudNativePg {
            recovered: recovered.collect(),
            origin: clusters.find(&name).and_then(|existing| existing.recovered.clone()),
            name,
            instances: self.instances.unwrap_or(2),
            user: user(&image),
            image,
            notes: notes.collect(),
            storage,
            wal_storage,
            resources: defaults::resources(self.resources.as_ref(), "100m", "256Mi"),
            parameters: self.parameters.clone(),
            anti_affinity: match self.anti_affinity.unwrap_or_default() {
                AntiAffinity::Preferred => "preferred",
                AntiAffinity::Required => "required",
            },
            pooler: self.pooler.as_ref().map(|pooler| Pooler {
                instances: pooler.instances.unwrap_or(2),
                mode: match pooler.mode.unwrap_or_default() {
                    PoolMode::Session => "session",
                    PoolMode::Transaction => "transaction",
                },
                image: pooler.image.as_ref().map(|image| defaults::image(registry, image)),
                parameters: pooler.parameters.clone(),
            }),
            serves: cluster.is_some_and(|cluster| cluster.serves),
            access,
            probing: Probing::default(),
        }))
    }
}

/// The Secret with the login of the application.
fn credentials(cluster: &str) -> String {
    format!("{cluster}-app")
}

/// Adds the Secrets that CloudNativePG makes for a Cluster.
pub(in crate::stack) fn add_references(cluster: &str, found: &mut References) {
    found.secret(&credentials(cluster), ["username", "password"]);
    found.authority(Some(&certificates(cluster)));
}

/// The Pooler of a Cluster, which cannot be given to another one.
pub fn pooler_of(cluster: &str) -> String {
    format!("{cluster}-{ROLE_POOLER}")
}

/// The Secret with the authority that signs the servers' certificate. Its key is not read.
fn certificates(cluster: &str) -> SecretKeyReference {
    SecretKeyReference { name: format!("{cluster}-ca"), key: None }
}

fn access(spec: &CloudNativePgDatabase, context: &Context<'_>, cluster: &str) -> Result<DatabaseAccess, Waiting> {
    let observed = context.observed;
    let name = credentials(cluster);
    let secret = NamedSecret::find(observed, &name, FIELD).map_err(|waiting| made(waiting, &name))?;
    let (user, password) = (secret.required("username")?, secret.required("password")?);
    let reference = certificates(cluster);
    let ca = authority(Some(&reference), FIELD, observed).map_err(|waiting| made(waiting, &reference.name))?;
    let url = |service: &str| {
        let host = format!("{service}.{}.svc", context.namespace);
        PostgresUrl::new(&host, POSTGRES_PORT, (&user, &password), NAME, TlsMode::VerifyFull)
    };
    let named = |key: &str, url: PostgresUrl| NamedUrl { url, origin: format!("{key} by secret/{name}") };
    let direct = url(&format!("{cluster}-rw"));
    let pooled = || url(&pooler_of(cluster));
    // A single server has no replica.
    let read = if spec.instances == Some(1) { direct.clone() } else { url(&format!("{cluster}-ro")) };
    Ok(DatabaseAccess {
        url: named("DATABASE_URL", if spec.pooler.is_some() { pooled() } else { direct.clone() }),
        direct: named("DIRECT_URL", direct),
        read: named("DATABASE_READ_URL", read),
        style: spec.url_style.unwrap_or_default(),
        ca,
        client: None,
    })
}

/// A Secret that no user is asked for: it comes by itself.
fn made(waiting: Waiting, secret: &str) -> Waiting {
    if waiting.reason != reason::REFERENCE_MISSING {
        return waiting;
    }
    Waiting::new(
        reason::PROGRESSING,
        format!("secret/{secret} does not exist yet: CloudNativePG makes it with the database"),
    )
}

/// CloudNativePG would take another image for the wish to upgrade the files, without a way back.
fn same_version(image: &str, context: &Context<'_>) -> Result<(), Waiting> {
    let existing =
        context.observed.volumes.get(&Component::Database).and_then(|existing| existing.data_files.as_deref());
    let (Some(existing), Some(wanted)) = (existing, major(image)) else { return Ok(()) };
    if wanted == existing {
        return Ok(());
    }
    let cluster = context.observed.clusters.live_or_first(context.name);
    let message = format!(
        "spec.{FIELD} asks for PostgreSQL {wanted}, and cluster/{cluster} holds files of PostgreSQL {existing}; it stays as it is: set \
         version, or the tag of image, to {existing} again; to move to {wanted}, make a stack of another name with it and restore a \
         dump of this one there"
    );
    Err(Waiting::new(reason::VERSION_MISMATCH, message))
}

/// The major version, by which CloudNativePG wants a tag to begin.
fn major(image: &str) -> Option<&str> {
    let tag = ImageName::new(image).tag?;
    let end = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    Some(&tag[..end]).filter(|digits| !digits.is_empty())
}

/// The user of the official image is another one than that of CloudNativePG's own images, 26, which it takes by itself.
fn user(image: &str) -> Option<i64> {
    let repository = ImageName::new(image).repository;
    (repository.rsplit('/').next() == Some("postgres")).then(|| data::user(image))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        stack::{Observed, ObservedCluster, ObservedVolume, SecretData, Stack, validate},
    };

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";

    fn members(pairs: &[(&str, &str)]) -> SecretData {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn existing(password: &str) -> Observed {
        let login = members(&[("username", "rorun"), ("password", password), ("uri", "postgresql://old:old@old/old")]);
        let secrets = [
            ("shop-database-app".to_owned(), Some(login)),
            ("shop-database-ca".to_owned(), Some(members(&[("ca.crt", PEM), ("ca.key", "secret")]))),
        ];
        let cluster = Some(ObservedCluster { serves: true, ..ObservedCluster::default() });
        Observed { secrets: secrets.into(), cluster, ..Observed::default() }
    }

    fn stack(block: &Value, observed: &Observed) -> Stack {
        let spec = json!({"environment": "Development", "api": {"image": "a"}, "database": {"cloudNativePG": block}});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"}, "spec": spec});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        validate(&cr, observed)
    }

    fn mode(stack: &Stack) -> &CloudNativePg {
        let Database::CloudNativePg(mode) = &stack.database else { panic!("another mode") };
        mode
    }

    #[rstest]
    #[case::plain("{}", ["shop-database-rw", "shop-database-rw", "shop-database-ro"])]
    #[case::alone(r#"{"instances": 1}"#, ["shop-database-rw", "shop-database-rw", "shop-database-rw"])]
    #[case::pooled(r#"{"pooler": {}}"#, ["shop-database-pooler", "shop-database-rw", "shop-database-ro"])]
    fn urls_lead_where_the_spec_says(#[case] block: &str, #[case] hosts: [&str; 3]) {
        let stack = stack(&serde_json::from_str(block).unwrap(), &existing("p@ss/wörd?"));
        let access = mode(&stack).access().expect("URLs");
        let urls = [&access.url.url, &access.direct.url, &access.read.url];
        for (url, host) in urls.into_iter().zip(hosts) {
            let expected =
                format!("postgresql://rorun:p%40ss%2Fw%C3%B6rd%3F@{host}.n.svc:5432/rorun?sslmode=verify-full");
            assert_eq!(url.to_string(), expected);
        }
        assert_eq!(access.ca.as_deref(), Some(PEM));
    }

    #[test]
    fn until_its_secrets_come_only_the_application_waits() {
        let mut observed = existing("x");
        for name in ["shop-database-app", "shop-database-ca"] {
            observed.secrets.insert(name.to_owned(), None);
            let stack = stack(&json!({}), &observed);
            assert!(!stack.unresolved.contains_key(&Component::Database));
            let waiting = &stack.unresolved[&Component::Connection];
            assert_eq!(waiting.reason, reason::PROGRESSING, "{}", waiting.message);
            assert!(waiting.message.contains("does not exist yet"), "{}", waiting.message);
            observed = existing("x");
        }
        observed.secrets.insert("shop-database-app".to_owned(), Some(members(&[("username", "rorun")])));
        assert_eq!(stack(&json!({}), &observed).unresolved[&Component::Connection].reason, reason::KEY_MISSING);
    }

    #[test]
    fn nobody_asks_what_does_not_serve_and_who_asks_wants_to_write() {
        let mut observed = existing("x");
        let stack_with =
            |observed: &Observed| stack(&json!({"pooler": {}}), observed).endpoints().into_keys().collect::<Vec<_>>();
        let targets = stack_with(&observed);
        assert!(targets.contains(&Component::Database.into()) && targets.contains(&ProbeTarget::DIRECT), "{targets:?}");
        let endpoints = stack(&json!({}), &observed).endpoints();
        let Some(Endpoint::Postgres { url, .. }) = endpoints.get(&Component::Database.into()) else { panic!("none") };
        assert!(url.ends_with("?sslmode=verify-full&target_session_attrs=read-write"), "{url}");
        assert!(!endpoints.contains_key(&ProbeTarget::DIRECT), "it is the same");
        let Some(Endpoint::Postgres { url, .. }) = endpoints.get(&ProbeTarget::READ) else {
            panic!("no replica is asked")
        };
        assert!(url.contains("@shop-database-ro.n.svc:5432/rorun") && !url.contains("target_session_attrs"), "{url}");
        let alone = stack(&json!({"instances": 1}), &observed).endpoints();
        assert!(!alone.contains_key(&ProbeTarget::READ), "a single server has no replica");
        observed.cluster = Some(ObservedCluster::default());
        assert!(!stack_with(&observed).iter().any(|target| target.component == Component::Database));
    }

    #[rstest]
    #[case::default("{}", None, "ghcr.io/cloudnative-pg/postgresql:17-standard-trixie", None)]
    #[case::version(r#"{"version": "18"}"#, None, "ghcr.io/cloudnative-pg/postgresql:18-standard-trixie", None)]
    #[case::registry("{}", Some("r.example/x"), "r.example/x/cloudnative-pg/postgresql:17-standard-trixie", None)]
    #[case::given(r#"{"image": "r:5000/pg:17.6"}"#, Some("r.example"), "r:5000/pg:17.6", None)]
    #[case::official(r#"{"image": "postgres:17"}"#, None, "postgres:17", Some(999))]
    #[case::alpine(r#"{"image": "postgres:17-alpine"}"#, Some("r.example"), "r.example/postgres:17-alpine", Some(70))]
    fn the_image_says_its_user(
        #[case] block: &str,
        #[case] registry: Option<&str>,
        #[case] image: &str,
        #[case] user: Option<i64>,
    ) {
        let mut spec = json!({"environment": "Development", "api": {"image": "a"}});
        spec["database"]["cloudNativePG"] = serde_json::from_str(block).unwrap();
        if let Some(registry) = registry {
            spec["image"]["registry"] = json!(registry);
        }
        let cr = json!({"metadata": {"name": "shop", "namespace": "n"}, "spec": spec});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let stack = validate(&cr, &existing("x"));
        assert_eq!((mode(&stack).image.as_str(), mode(&stack).user), (image, user));
    }

    #[rstest]
    #[case::another(r#"{"version": "18"}"#, Some("17"), true)]
    #[case::by_image(r#"{"image": "postgres:16.1"}"#, Some("17"), true)]
    #[case::the_same(r#"{"image": "postgres:17.1"}"#, Some("17"), false)]
    #[case::unknown(r#"{"version": "18"}"#, None, false)]
    fn another_major_version_is_held(#[case] block: &str, #[case] files: Option<&str>, #[case] held: bool) {
        let mut observed = existing("x");
        let volume = ObservedVolume { data_files: files.map(str::to_owned), ..ObservedVolume::default() };
        observed.volumes.insert(Component::Database, volume);
        let stack = stack(&serde_json::from_str(block).unwrap(), &observed);
        let waiting = stack.unresolved.get(&Component::Database);
        assert_eq!(waiting.is_some_and(|waiting| waiting.reason == reason::VERSION_MISMATCH), held, "{waiting:?}");
        assert!(
            waiting
                .is_none_or(|waiting| waiting.message.contains("cluster/shop-database holds files of PostgreSQL 17"))
        );
    }

    #[test]
    fn volumes_do_not_shrink_and_grow_only_where_they_can() {
        let there_is = |expandable| ObservedVolume {
            size: "10Gi".to_owned(),
            class: Some("slow".to_owned()),
            expandable,
            ..ObservedVolume::default()
        };
        let sizes = |size: &str, expandable| {
            let mut observed = existing("x");
            observed.volumes.insert(Component::Database, there_is(expandable));
            observed.cluster = Some(ObservedCluster { wal: Some(there_is(expandable)), ..ObservedCluster::default() });
            let block = json!({"storage": {"size": size}, "walStorage": {"size": size}});
            let stack = stack(&block, &observed);
            let wal = mode(&stack).wal_storage.as_ref().unwrap().size.clone();
            (mode(&stack).storage.size.clone(), wal, stack.notes(Component::Database).join("; "))
        };
        let told = |(size, wal, notes): (String, String, String)| {
            assert_eq!((size.as_str(), wal.as_str()), ("10Gi", "10Gi"));
            for field in ["spec.database.cloudNativePG.storage.size", "spec.database.cloudNativePG.walStorage.size"] {
                assert!(notes.contains(field), "{notes}");
            }
        };
        told(sizes("5Gi", None));
        told(sizes("20Gi", Some(false)));
        assert_eq!(sizes("20Gi", Some(true)), ("20Gi".to_owned(), "20Gi".to_owned(), String::new()));
    }
}
