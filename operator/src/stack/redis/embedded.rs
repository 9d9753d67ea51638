//! Redis in the cluster.

use super::{Redis, RedisAccess};
use crate::{
    api::v1alpha1::{EmbeddedRedis, Storage},
    names::Component,
    stack::{
        REDIS_PORT,
        mode::{Context, Mode, ModeAccess, ModeSpec, PodFields, Resolve, Server, Unresolved, single_pod},
        server::ServerSpec,
    },
};

/// Redis in the cluster.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The pod and its volume. The credentials are the password.
    pub server: Server,
    access: Option<RedisAccess>,
}

impl Mode for Embedded {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }
}

impl ModeAccess for Embedded {
    type Access = RedisAccess;

    fn access(&self) -> Option<&RedisAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for EmbeddedRedis {
    fn is_embedded(&self) -> bool {
        true
    }

    fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    fn pods(&self) -> Option<PodFields<'_>> {
        let port = REDIS_PORT;
        Some(PodFields { port, template: self.pod_template.as_ref(), scheduling: self.scheduling.as_ref() })
    }

    fn warning(&self, component: Component) -> Option<String> {
        Some(single_pod(component))
    }
}

impl Resolve for EmbeddedRedis {
    type Service = Redis;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Redis {
        let server = ServerSpec {
            component: Component::Redis,
            image: self.image.as_deref().unwrap_or("valkey/valkey:8.1"),
            storage: self.storage.as_ref(),
            resources: self.resources.as_ref(),
            requests: ("50m", "64Mi"),
        };
        let server = server.resolve(context, unresolved);
        let access = access(&server, context.service_host(Component::Redis));
        Redis::Embedded(Box::new(Embedded { server, access }))
    }
}

fn access(server: &Server, host: String) -> Option<RedisAccess> {
    let password = server.credentials.as_ref()?.text("password").to_owned();
    Some(RedisAccess {
        url: format!("redis://default:{password}@{host}:{REDIS_PORT}/0"),
        host,
        port: 6379,
        password,
        ca: None,
        cluster_mode: None,
    })
}
