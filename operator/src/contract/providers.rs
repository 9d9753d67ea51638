//! What is special about the services of providers: one row for each. A row is found by the end of a host, or named in the spec.

use std::time::Duration;

use crate::names::reason::{self, Reason};

/// A provider of data services.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// As the spec and the status write it.
    pub name: &'static str,
    /// What its hosts end in.
    hosts: &'static [&'static str],
    /// How often it is asked while it answers. `None`: as usual, since a question costs nothing.
    pub interval: Option<Duration>,
    /// How a pooler of it that shares sessions between transactions is known.
    pub pooler: Option<Pooler>,
    /// What to do where it cannot be reached.
    pub unreachable: Option<&'static str>,
    /// What to do where its certificate is not trusted.
    pub tls: Option<&'static str>,
}

/// How a pooler is known that shares sessions between transactions.
#[derive(Debug, PartialEq, Eq)]
pub struct Pooler {
    known_by: KnownBy,
    /// How it is told from the server itself.
    pub told: &'static str,
    /// Where sessions last.
    pub instead: &'static str,
    /// How many connections it takes. `None`: that depends on what was bought.
    pub connections: Option<u32>,
    /// Whether it keeps the statements that a client prepares.
    pub keeps_prepared: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum KnownBy {
    Port(&'static str),
    /// The end of the first label of the host.
    Label(&'static str),
}

const NONE: Provider = Provider { name: "", hosts: &[], interval: None, pooler: None, unreachable: None, tls: None };

/// It sleeps when nobody has asked for minutes, and a question wakes it up: some of them each hour leave it asleep for most of it.
const SLEEPS: Option<Duration> = Some(Duration::from_hours(1));
/// It counts requests, and charges for them.
const COUNTED: Option<Duration> = Some(Duration::from_mins(5));
/// It pauses a project that nobody used for days, which no interval of ours keeps from being in use.
const PAUSED: Option<Duration> = Some(Duration::from_mins(5));

/// One row for each.
static PROVIDERS: &[Provider] = &[
    Provider {
        name: "Supabase",
        hosts: &["supabase.co", "supabase.com"],
        interval: PAUSED,
        pooler: Some(Pooler {
            known_by: KnownBy::Port("6543"),
            told: "port 6543, Supabase's pooler in transaction mode",
            instead: "port 5432",
            connections: None,
            keeps_prepared: false,
        }),
        unreachable: Some(
            "the host db.<project>.supabase.co of Supabase has an IPv6 address alone, unless the project has the IPv4 add-on: use the \
             session pooler, aws-<region>.pooler.supabase.com:5432 with the user postgres.<project>",
        ),
        tls: Some(
            "Supabase signs with an authority of its own: download prod-ca-2021.crt from the project's database settings",
        ),
    },
    Provider {
        name: "Neon",
        hosts: &["neon.tech", "neon.build"],
        interval: SLEEPS,
        pooler: Some(Pooler {
            known_by: KnownBy::Label("-pooler"),
            told: "a host with -pooler, Neon's pooler in transaction mode",
            instead: "the host without -pooler",
            connections: Some(10_000),
            keeps_prepared: true,
        }),
        ..NONE
    },
    Provider {
        name: "Render",
        hosts: &["render.com"],
        unreachable: Some(
            "internal hosts of Render, such as dpg-<id>-a and red-<id>, lead nowhere outside of its region: use the external URL, and \
             let the addresses of this cluster in (access control of the service)",
        ),
        ..NONE
    },
    Provider {
        name: "RDS",
        hosts: &["rds.amazonaws.com", "rds.amazonaws.com.cn"],
        unreachable: Some("let the nodes of this cluster in with the security group of the instance"),
        tls: Some(
            "RDS signs with authorities of its own: use https://truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem",
        ),
        ..NONE
    },
    Provider {
        name: "CloudSQL",
        hosts: &["sql.goog", "sql-psa.goog"],
        unreachable: Some(
            "an instance of Cloud SQL lets in the network that it is peered with, and addresses among its authorized networks",
        ),
        tls: Some("Cloud SQL signs with authorities of its own: use the server CA of the instance, server-ca.pem"),
        ..NONE
    },
    Provider {
        name: "ElastiCache",
        hosts: &["cache.amazonaws.com", "cache.amazonaws.com.cn"],
        unreachable: Some(
            "let the nodes of this cluster in with the security group of the cache, at 6379, and 6380 if it is serverless",
        ),
        ..NONE
    },
    Provider { name: "Upstash", hosts: &["upstash.io"], interval: COUNTED, ..NONE },
    Provider { name: "Prisma", hosts: &["prisma.io"], interval: COUNTED, ..NONE },
    Provider { name: "CockroachDB", hosts: &["cockroachlabs.cloud"], interval: COUNTED, ..NONE },
    Provider { name: "Xata", hosts: &["xata.sh"], interval: SLEEPS, ..NONE },
    Provider { name: "Koyeb", hosts: &["koyeb.app"], interval: SLEEPS, ..NONE },
    Provider { name: "Railway", hosts: &["rlwy.net"], interval: SLEEPS, ..NONE },
    Provider { name: "Momento", hosts: &["momentohq.com"], interval: COUNTED, ..NONE },
    Provider { name: "S3", hosts: &["s3.amazonaws.com"], interval: COUNTED, ..NONE },
    Provider { name: "R2", hosts: &["r2.cloudflarestorage.com"], interval: COUNTED, ..NONE },
    Provider { name: "Backblaze", hosts: &["backblazeb2.com"], interval: COUNTED, ..NONE },
    Provider { name: "CloudStorage", hosts: &["storage.googleapis.com"], interval: COUNTED, ..NONE },
    Provider { name: "DigitalOcean", hosts: &["digitaloceanspaces.com"], interval: COUNTED, ..NONE },
    Provider { name: "Tigris", hosts: &["tigris.dev"], interval: COUNTED, ..NONE },
];

impl Provider {
    /// The provider of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.name == name)
    }

    /// The provider whose host a URL names: of several the first that is known.
    pub fn of_url(url: &str) -> Option<&'static Self> {
        hosts(url).find_map(|host| Self::of_host(&host))
    }

    fn of_host(host: &str) -> Option<&'static Self> {
        // Amazon's name each region: s3.eu-west-1.amazonaws.com.
        if host.starts_with("s3") && host.ends_with(".amazonaws.com") {
            return Self::named("S3");
        }
        if is_within_render(host) {
            return Self::named("Render");
        }
        PROVIDERS.iter().find(|provider| provider.hosts.iter().any(|suffix| is_below(host, suffix)))
    }

    /// What to do where it fails so.
    pub fn advice(&self, reason: Reason) -> Option<&'static str> {
        match reason {
            reason::UNREACHABLE => self.unreachable,
            reason::TLS_FAILED => self.tls,
            _ => None,
        }
    }

    /// The pooler that a host and a port lead to.
    pub fn pooler_at(&self, host: &str, port: &str) -> Option<&Pooler> {
        let label = host.split('.').next().unwrap_or_default();
        self.pooler.as_ref().filter(|pooler| match pooler.known_by {
            KnownBy::Port(of) => of == port,
            KnownBy::Label(end) => label.ends_with(end),
        })
    }
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A name without a domain that ends in an id: `dpg-<id>-a` or `red-<id>`.
fn is_within_render(host: &str) -> bool {
    let database = host.strip_prefix("dpg-").and_then(|rest| rest.strip_suffix("-a"));
    let id = database.or_else(|| host.strip_prefix("red-"));
    id.is_some_and(|id| id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The hosts of a URL, which may be several for PostgreSQL, in lower case.
fn hosts(url: &str) -> impl Iterator<Item = String> {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    hosts.split(',').map(|host| host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgresql://u:p@ep-cool-1.eu-central-1.aws.neon.tech/d?sslmode=require", "Neon", 60)]
    #[case("postgresql://u:p@DB.abc.Supabase.co:5432/d", "Supabase", 5)]
    #[case("postgresql://u:p@aws-0-eu-west-1.pooler.supabase.com:6543/d", "Supabase", 5)]
    #[case("rediss://default:p@eu1-x-1.upstash.io:6379", "Upstash", 5)]
    #[case("postgresql://u:p@a.example.com:1,b.neon.tech:2/d", "Neon", 60)]
    #[case("postgresql://u:p@notneon.tech/d", "", 0)]
    #[case("postgresql://neon.tech:p@db.example.com/d", "", 0)]
    #[case("postgresql://u:p@db.shop.svc/neon.tech", "", 0)]
    #[case("https://s3.eu-west-1.amazonaws.com", "S3", 5)]
    #[case("https://rorun.c1.eu-west-1.rds.amazonaws.com", "RDS", 0)]
    #[case("rediss://master.rorun.x1.euw1.cache.amazonaws.com:6379", "ElastiCache", 0)]
    #[case("postgresql://u:p@dpg-abc-a.frankfurt-postgres.render.com/d", "Render", 0)]
    #[case("postgresql://u:p@dpg-cn1a2b3c4d5e6f7g8h9i-a/d", "Render", 0)]
    #[case("redis://red-cn1a2b3c4d5e6f7g8h9i:6379", "Render", 0)]
    #[case("redis://red-team:6379", "", 0)]
    #[case("redis://red-cn1a2b3c4d5e6f7g8h9i.example.com:6379", "", 0)]
    #[case("postgresql://u:p@1f2.3d4.global.sql-psa.goog./d", "CloudSQL", 0)]
    fn a_host_is_known_by_its_end(#[case] url: &str, #[case] name: &str, #[case] minutes: u64) {
        let found = Provider::of_url(url);
        assert_eq!(found.map_or("", |provider| provider.name), name, "{url}");
        let interval = found.and_then(|provider| provider.interval).map_or(0, |interval| interval.as_secs() / 60);
        assert_eq!(interval, minutes, "{url}");
    }

    #[rstest]
    #[case("Supabase", "db.abc.supabase.co", "6543", true)]
    #[case("Supabase", "aws-0-eu-west-1.pooler.supabase.com", "5432", false)]
    #[case("Neon", "ep-cool-1-pooler.eu-central-1.aws.neon.tech", "5432", true)]
    #[case("Neon", "ep-cool-1.eu-central-1.aws.neon.tech", "5432", false)]
    #[case("RDS", "db-pooler.rds.amazonaws.com", "6543", false)]
    fn a_pooler_is_known_by_its_address(
        #[case] name: &str,
        #[case] host: &str,
        #[case] port: &str,
        #[case] expected: bool,
    ) {
        let provider = Provider::named(name).expect("a provider");
        assert_eq!(provider.pooler_at(host, port).is_some(), expected);
    }
}
