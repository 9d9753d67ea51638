//! PostgreSQL in the cluster.

use super::{DataFiles, Database, DatabaseAccess, NamedUrl, data};
use crate::{
    api::v1alpha1::{EmbeddedDatabase, Storage, UrlStyle},
    contract::{ConnectionLimit, LimitedBy, PostgresUrl, TlsMode},
    names::{Component, annotation},
    stack::{
        POSTGRES_PORT, defaults,
        mode::{
            Context, Mode, ModeAccess, ModeSpec, PodFields, Resolve, Server, Unresolved, knows_settings,
            ok_or_unresolved, single_pod,
        },
        server::ServerSpec,
    },
};

/// What PostgreSQL comes with, and no field of the spec changes.
const MAX_CONNECTIONS: u32 = 100;

/// PostgreSQL in the cluster.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The pod and its volume. The credentials are user, password and database.
    pub server: Server,
    /// The files on its volume. `None`: see [`crate::stack::Stack::unresolved`].
    pub files: Option<DataFiles>,
    access: Option<DatabaseAccess>,
}

impl Mode for Embedded {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    /// The application is the role that the image makes, a superuser, for whom none are reserved.
    fn connection_limit(&self) -> Option<ConnectionLimit> {
        let by = LimitedBy::Server { max: MAX_CONNECTIONS, reserved: 0 };
        Some(ConnectionLimit { available: MAX_CONNECTIONS, by })
    }
}

impl ModeAccess for Embedded {
    type Access = DatabaseAccess;

    fn access(&self) -> Option<&DatabaseAccess> {
        self.access.as_ref()
    }

    fn knows_settings(&self) -> bool {
        self.files.as_ref().is_some_and(|files| knows_settings(files.major))
    }
}

impl ModeSpec for EmbeddedDatabase {
    fn is_embedded(&self) -> bool {
        true
    }

    fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    fn pods(&self) -> Option<PodFields<'_>> {
        let port = POSTGRES_PORT;
        Some(PodFields { port, template: self.pod_template.as_ref(), scheduling: self.scheduling.as_ref() })
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
        // Where several things are wrong, lost credentials are told, since nothing goes on without them.
        let registry = defaults::registry(context.spec);
        let resolved = data::resolve(self.version.as_deref(), &defaults::image(registry, &image), context);
        let resolved = ok_or_unresolved(resolved, Component::Database, unresolved);
        let mut server = server.resolve(context, unresolved);
        let annotation = resolved.as_ref().and_then(|resolved| resolved.annotation.clone());
        server.volume.annotations.extend(annotation.map(|text| (annotation::DATA_FILES.to_owned(), text)));
        let access = access(&server, &context.service_host(Component::Database));
        let files = resolved.map(|resolved| resolved.files);
        Database::Embedded(Box::new(Embedded { server, files, access }))
    }
}

fn access(server: &Server, host: &str) -> Option<DatabaseAccess> {
    let credentials = server.credentials.as_ref()?;
    let login = (credentials.text("username"), credentials.text("password"));
    let url = PostgresUrl::new(host, POSTGRES_PORT, login, credentials.text("database"), TlsMode::Disable);
    let url = NamedUrl { url, origin: String::new() };
    let (direct, read) = (url.clone(), url.clone());
    Some(DatabaseAccess { url, direct, read, style: UrlStyle::Libpq, ca: None, client: None })
}
