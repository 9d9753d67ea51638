//! PostgreSQL on Amazon RDS: from what its object says to URLs of a role of the application's own.

use super::{Database, DatabaseAccess, External, NamedUrl};
use crate::{
    api::v1alpha1::{Environment, RdsDatabase, UrlStyle},
    contract::{PostgresUrl, Provider, TlsMode},
    names::{Component, ObjectName, Waiting, meaning},
    stack::{
        CredentialKeys, Credentials, Endpoint, JobPhase, ManagedService, ProbeTarget, Probing, References, Restorable,
        credentials::{self, Sought},
        managed::{Disruptive, aws_name, host_and_port, major, same_major},
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
        secret::authority,
    },
};

/// The login of the application, and that of the master, which nothing but the provisioning of the former uses.
const KEYS: CredentialKeys = &[
    ("username", Err("rorun")),
    ("database", Err("rorun")),
    ("password", Ok(32)),
    ("masterUsername", Err("rorun_master")),
    ("masterPassword", Ok(32)),
];

/// How many characters a name may have, so that those of read replicas and of the final snapshot are legal as well.
const LONGEST_NAME: usize = 50;

/// The kind in messages.
const KIND: &str = "dbinstance.rds.services.k8s.aws";

/// PostgreSQL on Amazon RDS.
#[derive(Clone, Debug)]
pub struct Rds {
    /// The block of the spec.
    pub block: RdsDatabase,
    /// The name in AWS.
    pub identifier: String,
    /// The class that is applied.
    pub class: String,
    /// The version that is applied.
    pub version: String,
    /// The storage in GiB that is applied: no less than the object asks for already, whoever has enlarged it.
    pub storage: Option<i64>,
    /// A standby in another zone.
    pub multi_az: bool,
    /// The names of the objects of read replicas, which are made once the instance has an address.
    pub replicas: Vec<String>,
    /// The logins of the application and of the master. `None`: see [`crate::stack::Stack::unresolved`].
    pub credentials: Option<Credentials>,
    /// A change that nobody confirmed.
    pub held: Option<Waiting>,
    /// The address, once there is one, and what makes the application's role there.
    pub provisioning: Option<Provisioning>,
    /// What RDS can restore by itself, once it says so.
    pub restorable: Option<Restorable>,
    /// What AWS calls the instance and no other.
    identity: Option<String>,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
    access: Option<DatabaseAccess>,
    probing: Probing,
}

/// What makes the role and the database of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// The name of the Job.
    pub job: String,
    /// Host name of the instance.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// It has ended well.
    pub done: bool,
}

impl Mode for Rds {
    fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    fn provider(&self) -> Option<&'static Provider> {
        Provider::named("RDS")
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    /// Not before the role exists that they log in with.
    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let done = self.provisioning.as_ref().is_some_and(|provisioning| provisioning.done);
        self.access.as_ref().filter(|_| done).map(External::targets).unwrap_or_default()
    }

    fn restorable(&self) -> Option<Restorable> {
        self.restorable
    }

    fn major_version(&self) -> Option<&str> {
        Some(major(&self.version))
    }

    fn volume_size(&self) -> Option<&str> {
        Some(&self.block.storage.size)
    }
}

impl ModeAccess for Rds {
    type Access = DatabaseAccess;

    fn access(&self) -> Option<&DatabaseAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for RdsDatabase {
    fn is_provisioned(&self) -> bool {
        true
    }

    fn references(&self, _: &str, found: &mut References) {
        found.authority(Some(&self.ca_secret_ref));
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        values.authority(Some(&self.ca_secret_ref));
        let (host, port) = ("database.example.com".to_owned(), 5432);
        let instance = ManagedService {
            ready: true,
            endpoint: Some((host.clone(), port)),
            class: Some(self.instance_class.clone()),
            version: Some(version(self).to_owned()),
            ..ManagedService::default()
        };
        let stack = values.stack().to_owned();
        let names = replicas(self, &stack);
        values.done(Component::Database, job(&stack, (&host, port.into()), None));
        values.managed(ObjectName::of(&stack, Component::Database).into(), instance.clone());
        for name in names {
            let endpoint = Some((format!("{name}.example.com"), port));
            values.managed(name, ManagedService { endpoint, ..instance.clone() });
        }
    }

    fn generates(&self, _: Component) -> Option<CredentialKeys> {
        Some(KEYS)
    }
}

impl Resolve for RdsDatabase {
    type Service = Database;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Database {
        let observed = context.observed;
        let object = ObjectName::of(context.name, Component::Database).to_string();
        let holder = format!("{KIND}/{object}");
        let sought = Sought {
            stack: context.name,
            component: Component::Database,
            keys: KEYS,
            holder: holder.clone(),
            managed: true,
        };
        let found = credentials::resolve(&sought, observed).and_then(|credentials| {
            let ca = authority(Some(&self.ca_secret_ref), "database.rds.caSecretRef", observed)?;
            Ok((credentials, ca))
        });
        let (credentials, ca) = ok_or_unresolved(found, Component::Database, unresolved).unzip();
        let there = observed.managed.get(&object);
        let (class, class_held) = self.class(there).held(observed, |one, other| one == other);
        let (version, version_held) = self.version(there).held(observed, same_major);
        let replicas = replicas(self, context.name);
        let identity = there.and_then(|there| there.identity.clone());
        let address = host_and_port(there.and_then(|there| there.endpoint.as_ref()));
        let provisioning = address.map(|(host, port)| {
            let job = job(context.name, (host, port), identity.as_deref());
            let done = observed.jobs.iter().any(|there| there.name == job && there.phase == JobPhase::Complete);
            Provisioning { job, host: host.to_owned(), port, done }
        });
        let readers: Vec<_> =
            replicas.iter().filter_map(|name| host_and_port(observed.managed.get(name)?.endpoint.as_ref())).collect();
        let ca = ca.flatten();
        let access = credentials.as_ref().zip(address).map(|(credentials, address)| {
            let style = self.url_style.unwrap_or_default();
            access(credentials, (address, readers.as_slice()), style, (ca.clone(), &holder))
        });
        Database::Rds(Box::new(Rds {
            identifier: self.identifier.clone().unwrap_or_else(|| aws_name(context, LONGEST_NAME)),
            class,
            version,
            storage: gibibytes(&self.storage.size).max(there.and_then(|there| there.storage)),
            multi_az: self.multi_az.unwrap_or(context.spec.environment == Environment::Production),
            replicas,
            credentials,
            held: class_held.or(version_held),
            provisioning,
            restorable: there.and_then(|there| there.restorable),
            identity,
            ca,
            access,
            probing: Probing::default(),
            block: self.clone(),
        }))
    }
}

impl RdsDatabase {
    fn class<'a>(&'a self, there: Option<&'a ManagedService>) -> Disruptive<'a> {
        Disruptive {
            field: "database.rds.instanceClass",
            wanted: &self.instance_class,
            there: there.and_then(|there| there.class.as_deref()),
            effect: "the database restarts",
        }
    }

    fn version<'a>(&'a self, there: Option<&'a ManagedService>) -> Disruptive<'a> {
        Disruptive {
            field: "database.rds.version",
            wanted: version(self),
            there: there.and_then(|there| there.version.as_deref()),
            effect: "the database is away for as long as the upgrade of the major version takes, which nothing takes back",
        }
    }
}

/// As the spec admits it.
pub fn gibibytes(size: &str) -> Option<i64> {
    size.strip_suffix("Gi")?.parse().ok()
}

fn version(block: &RdsDatabase) -> &str {
    block.version.as_deref().unwrap_or("17")
}

fn replicas(block: &RdsDatabase, stack: &str) -> Vec<String> {
    let name = |number| ObjectName::numbered(stack, Component::Database, "replica", number).into();
    (1..=block.read_replicas.unwrap_or(0)).map(name).collect()
}

/// Once for each instance: one that took the place of another lacks the role, also by the same name and address.
fn job(stack: &str, (host, port): (&str, i32), identity: Option<&str>) -> String {
    let port = port.to_string();
    let parts: Vec<_> = ["provision-database", host, &port].into_iter().chain(identity).collect();
    let meaning = meaning(&parts);
    ObjectName::step(stack, Component::Database, &meaning).into()
}

type Address<'a> = (&'a str, i32);

fn access(
    credentials: &Credentials,
    (primary, readers): (Address<'_>, &[Address<'_>]),
    style: UrlStyle,
    (ca, origin): (Option<String>, &str),
) -> DatabaseAccess {
    let login = (credentials.text("username"), credentials.text("password"));
    let database = credentials.text("database");
    let named = |url| NamedUrl { url, origin: origin.to_owned() };
    let url = named(PostgresUrl::new(primary.0, primary.1, login, database, TlsMode::VerifyFull));
    // Prisma's own engine knows one host.
    let readers = if style == UrlStyle::Prisma { &readers[..readers.len().min(1)] } else { readers };
    let hosts: Vec<_> = readers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let (user, password) = login;
    let several = format!("postgresql://{user}:{password}@{}/{database}?sslmode=verify-full", hosts.join(","));
    let read = PostgresUrl::parse(&several).ok().filter(|_| !hosts.is_empty()).map_or_else(|| url.clone(), named);
    DatabaseAccess { direct: url.clone(), url, read, style, ca, client: None }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        stack::{Observed, validate},
    };

    /// RDS has enlarged it, and somebody has told the object so: AWS refuses to make it smaller.
    #[rstest]
    #[case::no_object_yet(None, 20)]
    #[case::as_it_is(Some(20), 20)]
    #[case::grown(Some(57), 57)]
    #[case::grows(Some(10), 20)]
    fn storage_never_shrinks(#[case] there: Option<i64>, #[case] applied: i64) {
        let storage = json!({"size": "20Gi", "maxSize": "100Gi"});
        let rds = json!({"instanceClass": "db.t4g.medium", "storage": storage, "caSecretRef": {"name": "rds-ca"}});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"},
            "spec": {"environment": "Development", "api": {"image": "a"}, "database": {"rds": rds}}});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let managed = there.map(|storage| {
            let storage = Some(storage);
            ("shop-database".to_owned(), ManagedService { storage, ..ManagedService::default() })
        });
        let stack = validate(&cr, &Observed { managed: managed.into_iter().collect(), ..Observed::default() });
        let Database::Rds(rds) = &stack.database else { panic!("{:?}", stack.database) };
        assert_eq!(rds.storage, Some(applied));
    }

    #[test]
    fn an_instance_that_was_made_again_gets_the_role_again() {
        let of = |identity| job("shop", ("shop.example.com", 5432), identity);
        assert_ne!(of(Some("db-A")), of(Some("db-B")));
        assert_ne!(of(Some("db-A")), of(None));
        assert_eq!(of(Some("db-A")), of(Some("db-A")));
    }
}
