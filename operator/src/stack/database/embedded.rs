//! PostgreSQL in the cluster.

use super::{Database, DatabaseAccess, NamedUrl};
use crate::{
    api::v1alpha1::{EmbeddedDatabase, Storage, UrlStyle},
    contract::{PostgresUrl, TlsMode},
    names::Component,
    stack::{
        Endpoint, POSTGRES_PORT, ProbeTarget, Probing,
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Server, Unresolved, single_pod},
        server::ServerSpec,
    },
};

/// PostgreSQL in the cluster.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The pod and its volume. The credentials are user, password and database.
    pub server: Server,
    access: Option<DatabaseAccess>,
}

impl Mode for Embedded {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn probing(&self) -> Option<&Probing> {
        None
    }

    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        Vec::new()
    }
}

impl ModeAccess for Embedded {
    type Access = DatabaseAccess;

    fn access(&self) -> Option<&DatabaseAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for EmbeddedDatabase {
    fn is_embedded(&self) -> bool {
        true
    }

    fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    fn warning(&self, component: Component) -> Option<String> {
        Some(single_pod(component))
    }
}

impl Resolve for EmbeddedDatabase {
    type Service = Database;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Database {
        let version = self.version.as_deref().unwrap_or("17");
        let image = self.image.clone().unwrap_or_else(|| format!("postgres:{version}"));
        let server = ServerSpec {
            component: Component::Database,
            image: &image,
            storage: self.storage.as_ref(),
            resources: self.resources.as_ref(),
            requests: ("100m", "256Mi"),
        };
        let server = server.resolve(context, unresolved);
        let access = access(&server, &context.service_host(Component::Database));
        Database::Embedded(Box::new(Embedded { server, access }))
    }
}

fn access(server: &Server, host: &str) -> Option<DatabaseAccess> {
    let credentials = server.credentials.as_ref()?;
    let login = (credentials.text("username"), credentials.text("password"));
    let url = PostgresUrl::new(host, POSTGRES_PORT, login, credentials.text("database"), TlsMode::Disable);
    let url = NamedUrl { url, origin: String::new() };
    let (direct, read) = (url.clone(), url.clone());
    Some(DatabaseAccess { url, direct, read, style: UrlStyle::Libpq, ca: None })
}
