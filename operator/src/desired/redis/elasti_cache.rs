//! Redis on Amazon ElastiCache: a replication group, or a serverless cache.

use crate::{
    api::v1alpha1::ServerlessRedis,
    desired::{Keys, aws, credentials, mode::Mode},
    names::Component as Name,
    objects::{
        CacheUsageLimits, DesiredObject, LiveSet, ObjectKind, REPLICATION_GROUP, Readiness, ReplicationGroup,
        ReplicationGroupSpec, SERVERLESS_CACHE, ServerlessCache, ServerlessCacheSpec, UsageLimit,
    },
    stack::{
        Stack,
        redis::{ElastiCache, Nodes},
    },
};

impl Mode for ElastiCache {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        match (&self.nodes, &self.block.serverless, &self.credentials) {
            (Some(nodes), _, Some(credentials)) => {
                vec![credentials::secret(stack, Name::Redis, credentials), aws::retained(&self.group(stack, nodes))]
            }
            (None, Some(serverless), _) => vec![aws::retained(&self.serverless(stack, serverless))],
            _ => Vec::new(),
        }
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        aws::readiness(stack, Name::Redis, self.kind(), self.held.as_ref(), live)
    }
}

impl ElastiCache {
    fn kind(&self) -> &'static ObjectKind {
        if self.nodes.is_some() { REPLICATION_GROUP } else { SERVERLESS_CACHE }
    }

    fn group(&self, stack: &Stack, nodes: &Nodes) -> ReplicationGroup {
        let block = &self.block;
        // Cluster mode takes failover for granted, even without a replica to fail over to.
        let failover = nodes.cluster || nodes.replicas > 0;
        ReplicationGroup {
            metadata: aws::metadata(stack, Name::Redis, stack.child(Name::Redis), block.region.as_deref()),
            spec: ReplicationGroupSpec {
                replication_group_id: self.identifier.clone(),
                description: format!("Redis of the RorunStack {}/{}", stack.namespace, stack.name),
                engine: self.engine.clone(),
                engine_version: self.version.clone(),
                cache_node_type: nodes.kind.clone(),
                num_node_groups: nodes.shards.into(),
                replicas_per_node_group: nodes.replicas.into(),
                automatic_failover_enabled: failover,
                multi_az_enabled: nodes.replicas > 0,
                transit_encryption_enabled: true,
                at_rest_encryption_enabled: true,
                kms_key_id: block.kms_key_id.clone(),
                auth_token: Some(aws::credential(stack, Name::Redis, "password")),
                cache_parameter_group_name: block.parameter_group.clone().or_else(|| self.cluster_parameters(nodes)),
                cache_subnet_group_name: block.subnet_group.clone(),
                security_group_ids: block.security_group_ids.clone(),
                snapshot_retention_limit: Some(self.snapshot_retention_days.into()),
                snapshot_window: block.snapshot_window.clone(),
                preferred_maintenance_window: block.maintenance_window.clone(),
            },
        }
    }

    /// A group of one shard is in cluster mode only by its parameters.
    fn cluster_parameters(&self, nodes: &Nodes) -> Option<String> {
        nodes.cluster.then(|| cluster_parameters(&self.engine, &self.version))
    }

    fn serverless(&self, stack: &Stack, of: &ServerlessRedis) -> ServerlessCache {
        let block = &self.block;
        ServerlessCache {
            metadata: aws::metadata(stack, Name::Redis, stack.child(Name::Redis), block.region.as_deref()),
            spec: ServerlessCacheSpec {
                serverless_cache_name: self.identifier.clone(),
                engine: self.engine.clone(),
                major_engine_version: self.version.clone(),
                cache_usage_limits: CacheUsageLimits {
                    data_storage: of.max_data_gb.map(|most| UsageLimit { maximum: most.into(), unit: Some("GB") }),
                    ecpu_per_second: of.max_ecpu_per_second.map(|most| UsageLimit { maximum: most.into(), unit: None }),
                },
                kms_key_id: block.kms_key_id.clone(),
                subnet_ids: of.subnet_ids.clone(),
                security_group_ids: block.security_group_ids.clone(),
                user_group_id: of.user_group_id.clone(),
                snapshot_retention_limit: Some(self.snapshot_retention_days.into()),
            },
        }
    }
}

/// The group of AWS's own: of Redis 6 its name has the minor version as well.
fn cluster_parameters(engine: &str, version: &str) -> String {
    let family = match (engine, version.split('.').next().unwrap_or_default()) {
        ("redis", "6") => "6.x",
        (_, major) => major,
    };
    format!("default.{engine}{family}.cluster.on")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("redis", "6.2", "default.redis6.x.cluster.on")]
    #[case("redis", "7.1", "default.redis7.cluster.on")]
    #[case("valkey", "7.2", "default.valkey7.cluster.on")]
    #[case("valkey", "8.0", "default.valkey8.cluster.on")]
    fn the_parameters_of_a_family_have_the_name_that_aws_gave_them(
        #[case] engine: &str,
        #[case] version: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(cluster_parameters(engine, version), expected);
    }
}
