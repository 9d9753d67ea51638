//! What a database says of itself against what the stack needs of it: findings that stop nothing, told before they do harm.

use std::sync::Arc;

use super::{Backup, DatabaseAccess, NamedUrl, Probe, ProbeTarget, Replicas, Stack, Workload};
use crate::{
    api::v1alpha1::{ServiceStatus, UrlStyle},
    contract::{ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, Pooler, ServiceFacts, Unreadable},
    names::{Component, image::ImageName, reason, reason::Reason},
};

/// The connections of a pod that the arithmetic takes where the spec gives none: the pool of node-postgres.
const CONNECTIONS: i32 = 10;
/// A dump has three sessions at a time: its lock, `pg_dump`, and the count of rows. A migration has no more, and runs beside none. One
/// more is the operator's own question.
const AGENTS: u32 = 4;
/// The oldest version of PostgreSQL that the operator knows.
pub(super) const OLDEST: u32 = 13;
/// How many schemas a message names.
const NAMED: usize = 3;

/// What is not as the stack needs it, though the service serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The reason of the condition.
    pub reason: Reason,
    /// One sentence for the user.
    pub message: String,
}

/// The reasons of findings.
const REASONS: [Reason; 8] = [
    reason::TOO_FEW_CONNECTIONS,
    reason::POOLED_CONNECTION,
    reason::RIGHTS_MISSING,
    reason::READ_ONLY,
    reason::WRONG_ENCODING,
    reason::SERVER_TOO_OLD,
    reason::VERSION_MISMATCH,
    reason::CLOCKS_DIFFER,
];

impl Finding {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The connections that a stack can open, and those that it can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionBudget {
    /// So many at most, with a rollout of every workload under way.
    pub needed: u32,
    /// So many. `None`: a pooler stands between, which does not say, or the server does not.
    pub available: Option<u32>,
    /// So many of these, or more, others held whenever the operator asked. `None`: nobody says, or there is a pooler.
    pub others: Option<u32>,
}

impl Stack {
    /// What is not as the stack needs it of a service that serves.
    pub fn findings(&self, component: Component) -> Vec<Finding> {
        match component {
            Component::Bucket => return self.findings_from_pods(self.known_service(component)),
            Component::Database => {}
            _ => return Vec::new(),
        }
        match self.examined() {
            Some((main, direct)) => self.database_findings(main, direct),
            None => match self.by_settings() {
                Some(facts) => self.too_few_connections(&facts).into_iter().collect(),
                None => self.known_findings(component),
            },
        }
    }

    /// The row of a service in the last status of this very spec.
    pub fn known_service(&self, component: Component) -> Option<&ServiceStatus> {
        self.known_services.iter().find(|row| row.name == component.as_str())
    }

    /// What a service says of itself. `None`: this process has no answer of it yet.
    pub fn facts(&self, target: impl Into<ProbeTarget>) -> Option<&Arc<ServiceFacts>> {
        match self.probe(target) {
            Probe::Answers { facts, .. } => facts.as_ref(),
            Probe::Pending | Probe::Failed(_) => None,
        }
    }

    /// The connections of the application, and of all that leads to the database itself. `None`: the server does not say.
    pub fn connections(&self) -> Option<ConnectionBudget> {
        let asked = self.facts(Component::Database).and_then(|facts| facts.database.as_ref());
        asked.map(|facts| self.budget(facts)).or_else(|| Some(self.budget(&self.by_settings()?)))
    }

    /// What is known of a server that nobody asks.
    fn by_settings(&self) -> Option<DatabaseFacts> {
        let connections = Some(self.database.mode().connection_limit()?);
        Some(DatabaseFacts { connections, ..DatabaseFacts::default() })
    }

    fn known_findings(&self, component: Component) -> Vec<Finding> {
        let known = self.known_service(component).into_iter().flat_map(|row| &row.findings);
        let finding = |(reason, message): (&str, &str)| {
            Some(Finding::new(REASONS.into_iter().find(|known| *known == reason)?, message))
        };
        known.filter_map(|of| finding((of.reason.as_str(), of.message.as_str()))).collect()
    }

    /// What the database says, and what it says to who comes by `DIRECT_URL`. `None` as long as one of the two is not known to this
    /// process: half of the findings would change the status, and the other half change it back.
    fn examined(&self) -> Option<(Option<&DatabaseFacts>, Option<&DatabaseFacts>)> {
        let main = self.facts(Component::Database)?;
        let direct = match self.probes.get(&ProbeTarget::DIRECT) {
            None => Some(main),
            Some(Probe::Failed(_)) => None,
            Some(_) => Some(self.facts(ProbeTarget::DIRECT)?),
        };
        Some((main.database.as_ref(), direct.and_then(|direct| direct.database.as_ref())))
    }

    fn database_findings(&self, main: Option<&DatabaseFacts>, direct: Option<&DatabaseFacts>) -> Vec<Finding> {
        let mut findings: Vec<_> = main.and_then(|facts| self.too_few_connections(facts)).into_iter().collect();
        findings.extend(main.and_then(|facts| self.too_few_beside_others(facts)));
        findings.extend(direct.and_then(|facts| self.too_few_for_the_pooler(facts)));
        findings.extend(self.prepares_at_a_pooler());
        if let Some(direct) = direct {
            findings.extend(self.of_maintenance(direct));
        }
        findings.extend(main.or(direct).into_iter().flat_map(of_server));
        findings
    }

    fn too_few_connections(&self, facts: &DatabaseFacts) -> Option<Finding> {
        let ConnectionBudget { needed, available: Some(available), .. } = self.budget(facts) else { return None };
        if needed <= available {
            return None;
        }
        let mut parts = self.parts_of_needed();
        let why = match (self.database.mode().pooler(), facts.connections.filter(|_| facts.pooled != Some(true))) {
            (Some(pooler), _) => format!("the pooler, {} pods x {} {}", pooler.pods, pooler.by, pooler.clients),
            (None, None) => "max_client_conn of the pooler".to_owned(),
            (None, Some(limit)) => {
                parts.push(format!("dumps, migrations and the operator {AGENTS}"));
                limited_by(&limit, facts.user.as_deref())
            }
        };
        let or = match self.database.mode().connection_limit() {
            Some(_) => "or take another mode of database, whose limit can be raised",
            None => "raise the limit, or let DATABASE_URL lead to a pooler",
        };
        let message = format!(
            "the stack can open {needed} connections at once ({}), and can have {available} ({why}): lower databaseConnections or \
             maxReplicas, {or}",
            parts.join(", ")
        );
        Some(Finding::new(reason::TOO_FEW_CONNECTIONS, message))
    }

    /// Enough by itself, and not with what others held. They come and go, so the fewest count, which can only end it.
    fn too_few_beside_others(&self, facts: &DatabaseFacts) -> Option<Finding> {
        let ConnectionBudget { needed, available: Some(available), others: Some(others) } = self.budget(facts) else {
            return None;
        };
        let limit = facts.connections?;
        if needed > available || needed.saturating_add(others) <= available {
            return None;
        }
        let mut parts = self.parts_of_needed();
        parts.push(format!("dumps, migrations and the operator {AGENTS}"));
        let message = format!(
            "the stack can open {needed} connections at once ({}), and can have {available} ({}), of which others held {others} or more \
             whenever the operator asked: see that {needed} are left for it, lower databaseConnections or maxReplicas, or raise the limit",
            parts.join(", "),
            limited_by(&limit, facts.user.as_deref())
        );
        Some(Finding::new(reason::TOO_FEW_CONNECTIONS, message))
    }

    fn parts_of_needed(&self) -> Vec<String> {
        self.clients().map(|(workload, pods, each)| format!("{} {pods} pods x {each}", workload.component)).collect()
    }

    /// What the pooler can open to the database itself, beside what passes it by. One more of each pod looks up logins.
    fn too_few_for_the_pooler(&self, direct: &DatabaseFacts) -> Option<Finding> {
        let pooler = self.database.mode().pooler()?;
        let limit = direct.connections?;
        let needed = pooler.pods * (pooler.servers + 1) + AGENTS;
        if needed <= limit.available {
            return None;
        }
        let message = format!(
            "the pooler can open {needed} connections to the database at once ({} pods x ({} {} + 1 for logins), dumps, migrations and \
             the operator {AGENTS}), and can have {} ({}): lower default_pool_size or instances of the pooler, or raise the limit",
            pooler.pods,
            pooler.servers_by,
            pooler.servers,
            limit.available,
            limited_by(&limit, direct.user.as_deref())
        );
        Some(Finding::new(reason::TOO_FEW_CONNECTIONS, message))
    }

    /// Of a pooler only what the spec or its provider says of it is known.
    fn budget(&self, facts: &DatabaseFacts) -> ConnectionBudget {
        let pods = self.clients().map(|(_, pods, each)| pods * each).sum::<u32>();
        let pooler = self.database.mode().pooler().map(|pooler| pooler.pods * pooler.clients);
        if pooler.is_some() || facts.pooled == Some(true) {
            let provider = || self.provider_pooler(|access| &access.url)?.connections;
            return ConnectionBudget { needed: pods, available: pooler.or_else(provider), others: None };
        }
        let available = facts.connections.map(|limit| limit.available);
        // What was told stays, whichever operator asks, unless it is less: load is no news. Those of another limit are others.
        let told = self.known_service(Component::Database).and_then(|row| row.connections);
        let told = told.filter(|told| told.available == available).and_then(|told| told.others);
        let others = told.into_iter().chain(facts.others).min();
        ConnectionBudget { needed: pods + AGENTS, available, others }
    }

    /// The workloads that use the database, with the most pods that each can have during a rollout, and the connections of a pod.
    fn clients(&self) -> impl Iterator<Item = (&Workload, u32, u32)> {
        let workloads = [Some(&self.api), self.ocr.as_ref()].into_iter().flatten();
        workloads.map(|workload| {
            let most = match workload.replicas {
                Replicas::Fixed(count) => count,
                Replicas::Auto { max, .. } => max,
            };
            let most = u32::try_from(most).unwrap_or(0);
            let each = u32::try_from(workload.database_connections.unwrap_or(CONNECTIONS)).unwrap_or(0);
            // As the Deployment says it: a quarter more, rounded up.
            (workload, most + most.div_ceil(4), each)
        })
    }

    /// What migrations and dumps need.
    fn of_maintenance(&self, facts: &DatabaseFacts) -> Vec<Finding> {
        let migrates = self.release.migration.is_some();
        let mut findings = Vec::new();
        if migrates || self.backup.is_some() {
            findings.extend(self.pooled(facts));
        }
        if migrates && facts.may_create == Some(false) {
            let (user, schema) = (user(facts), facts.schema.as_deref().unwrap_or("public"));
            let message = format!(
                "{user} may not create tables in the schema {schema}, which migrations do: GRANT USAGE, CREATE ON SCHEMA {schema} \
                 TO the user, or name another one in DIRECT_URL"
            );
            findings.push(Finding::new(reason::RIGHTS_MISSING, message));
        }
        if migrates && facts.read_only {
            let message =
                "DIRECT_URL leads to a server that is read-only, where migrations fail: let it name the primary";
            findings.push(Finding::new(reason::READ_ONLY, message));
        }
        if let Some(backup) = &self.backup {
            findings.extend(unreadable(backup, facts));
            findings.extend(newer_than_dump(&backup.image, facts.major));
        }
        findings
    }
}

impl Stack {
    /// By the address where a provider's is known, else by what the sessions do.
    fn pooled(&self, facts: &DatabaseFacts) -> Option<Finding> {
        let (told, instead) = match self.provider_pooler(|access| &access.direct) {
            Some(pooler) => (pooler.told, pooler.instead),
            None if facts.shared_sessions == Some(true) => {
                ("a pooler that shares sessions between transactions", "the server, or a pooler with pool_mode=session")
            }
            None => return None,
        };
        let message = format!(
            "migrations and dumps need a session of their own, for locks, SET and prepared statements, and DIRECT_URL leads to {told}: \
             let it name {instead}"
        );
        Some(Finding::new(reason::POOLED_CONNECTION, message))
    }

    /// Prisma's own engine prepares statements by name, unless the URL says that a pooler stands between.
    fn prepares_at_a_pooler(&self) -> Option<Finding> {
        let access = self.database.mode().access()?;
        let pooler = self.provider_pooler(|access| &access.url).filter(|pooler| !pooler.keeps_prepared)?;
        let told = access.style != UrlStyle::Prisma || access.url.url.parameter("pgbouncer") == Some("true");
        let message = format!(
            "DATABASE_URL leads to {}, which keeps no prepared statements: add pgbouncer=true to its parameters, by which Prisma's own \
             engine does without them",
            pooler.told
        );
        (!told).then(|| Finding::new(reason::POOLED_CONNECTION, message))
    }

    /// The provider's pooler that a URL leads to.
    fn provider_pooler(&self, url: impl Fn(&DatabaseAccess) -> &NamedUrl) -> Option<&'static Pooler> {
        let mode = self.database.mode();
        let url = &url(mode.access()?).url;
        mode.provider()?.pooler_at(url.hosts().first()?, url.ports().first()?)
    }
}

fn user(facts: &DatabaseFacts) -> String {
    facts.user.as_ref().map_or_else(|| "the user".to_owned(), |user| format!("the user {user}"))
}

fn limited_by(limit: &ConnectionLimit, user: Option<&str>) -> String {
    match limit.by {
        LimitedBy::Server { max, reserved: 0 } => format!("max_connections {max}"),
        LimitedBy::Server { max, reserved } => format!("max_connections {max}, of which {reserved} are reserved"),
        LimitedBy::Role => format!("CONNECTION LIMIT of the role {}", user.unwrap_or_default()),
        LimitedBy::Database => "CONNECTION LIMIT of the database".to_owned(),
    }
}

/// What the next backup would fail with.
fn unreadable(backup: &Backup, facts: &DatabaseFacts) -> Option<Finding> {
    let dumped = |of: &&Unreadable| !backup.exclude_schemas.contains(&of.schema);
    let all: Vec<_> = facts.unreadable.iter().flatten().filter(dumped).collect();
    let told = all.iter().take(NAMED).map(|of| {
        let others = if of.count > 1 { format!(" and {} more", of.count - 1) } else { String::new() };
        match of.lacks {
            Lacks::Usage => format!("the schema {} may not be used", of.schema),
            Lacks::Select => format!("{}.{}{others} may not be read", of.schema, of.table),
            Lacks::BypassRls => format!("row-level security hides rows of {}.{}{others}", of.schema, of.table),
        }
    });
    let mut told: Vec<_> = told.collect();
    if all.len() > NAMED {
        told.push(format!("and so on in {} more places", all.len() - NAMED));
    }
    let message = format!(
        "backups fail, since {} lacks rights: {}; grant SELECT and USAGE, or BYPASSRLS, or leave schemas out with \
         backup.excludeSchemas",
        user(facts),
        told.join(", ")
    );
    (!all.is_empty()).then(|| Finding::new(reason::RIGHTS_MISSING, message))
}

/// `pg_dump` refuses a server that is newer than itself.
fn newer_than_dump(image: &str, major: Option<u32>) -> Option<Finding> {
    let name = ImageName::new(image);
    let official = matches!(name.repository.rsplit('/').next(), Some("postgres" | "postgresql"));
    let tag = name.tag.filter(|_| official)?;
    let digits = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    let (theirs, ours) = (major?, tag[..digits].parse::<u32>().ok()?);
    let message = format!(
        "the server is PostgreSQL {theirs}, and backups run pg_dump of {ours}, which refuses a newer server: set backup.image to \
         one of {theirs}"
    );
    (theirs > ours).then(|| Finding::new(reason::VERSION_MISMATCH, message))
}

fn of_server(facts: &DatabaseFacts) -> Vec<Finding> {
    let encoding = facts.encoding.as_deref().filter(|encoding| *encoding != "UTF8").map(|encoding| {
        let message = format!(
            "the encoding of the database is {encoding}, which cannot hold every text: move the data into a database with \
             ENCODING 'UTF8'"
        );
        Finding::new(reason::WRONG_ENCODING, message)
    });
    let old = facts.major.filter(|major| *major < OLDEST).map(|major| {
        let message =
            format!("the server is PostgreSQL {major}, and {OLDEST} is the oldest that is supported: upgrade it");
        Finding::new(reason::SERVER_TOO_OLD, message)
    });
    let clock = facts.clock_off_by.map(|seconds| {
        let message = format!(
            "the clock of the database differs from the operator's by more than {seconds} s: check the time servers of both"
        );
        Finding::new(reason::CLOCKS_DIFFER, message)
    });
    encoding.into_iter().chain(old).chain(clock).collect()
}
