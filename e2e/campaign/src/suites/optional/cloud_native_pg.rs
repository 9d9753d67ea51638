//! CloudNativePG, as far as a stack sees it: a Cluster becomes healthy, and a Secret for the application is beside it. What it does goes
//! past the API that is broken for the operator.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rorun_e2e::engine::AuditCall;
use serde_json::{Value, json};

use crate::canary::TOKEN;

/// The group of its API.
pub(super) const GROUP: &str = "postgresql.cnpg.io";
const CLUSTER: &str = "shop-database";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";

/// What it does in a namespace.
pub(super) struct CloudNativePg {
    client: Client,
    namespace: String,
}

impl CloudNativePg {
    /// It does nothing yet.
    pub(super) fn of(client: &Client, namespace: &str) -> CloudNativePg {
        CloudNativePg { client: client.clone(), namespace: namespace.to_owned() }
    }

    fn clusters(&self) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Cluster"));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The uid of the Cluster; nothing if there is none.
    pub(super) async fn cluster(&self) -> Result<Option<String>> {
        Ok(self.clusters().get_opt(CLUSTER).await?.and_then(|cluster| cluster.uid()))
    }

    /// How many instances the Cluster is to have.
    pub(super) async fn instances(&self) -> Result<Option<u64>> {
        let cluster = self.clusters().get_opt(CLUSTER).await?;
        Ok(cluster.and_then(|cluster| cluster.data.pointer("/spec/instances").and_then(Value::as_u64)))
    }

    /// Makes a Cluster healthy that is there and is not yet.
    pub(super) async fn act(&self) -> Result<()> {
        let Some(cluster) = self.clusters().get_opt(CLUSTER).await? else { return Ok(()) };
        if cluster.data.pointer("/status/phase").is_some() {
            return Ok(());
        }
        let login = json!({"username": "rorun", "password": format!("{TOKEN}-6")});
        for (name, data) in [("app", login), ("ca", json!({"ca.crt": CERTIFICATE}))] {
            let name = format!("{CLUSTER}-{name}");
            let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
            let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
            match secrets.create(&PostParams::default(), &secret).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                made => drop(made?),
            }
        }
        let ready = json!({"type": "Ready", "status": "True", "reason": "ClusterIsReady", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"phase": "Cluster in healthy state", "conditions": [ready],
            "pgDataImageInfo": {"image": "postgresql:17", "majorVersion": 17}});
        let patch = Patch::Merge(json!({"status": status}));
        self.clusters().patch_status(CLUSTER, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

/// A stack whose database it runs. Without pods, so that nobody looks for the name of its server.
pub(super) fn ask(spec: &mut Value, instances: usize) {
    for none in ["ocr", "admin", "ingress", "backup"] {
        spec[none] = Value::Null;
    }
    spec["api"] = json!({"image": spec["api"]["image"], "replicas": 0});
    spec["database"] = json!({"cloudNativePG": {"instances": instances}});
}

/// What is wrong with what the operators did to Clusters: each is made once, and never deleted (O4).
pub(super) fn problems(calls: &[AuditCall], namespace: &str) -> Vec<String> {
    let of_operator = calls.iter().filter(|call| call.namespace == namespace && call.user_agent.starts_with("rorun-"));
    let done = of_operator.filter(|call| call.resource == "clusters" && (200..300).contains(&call.code));
    let (mut made, mut problems) = (0, Vec::new());
    for call in done {
        match (call.verb.as_str(), call.code) {
            ("delete" | "deletecollection", _) => problems.push(format!("O4 cluster/{} was deleted", call.name)),
            (_, 201) => made += 1,
            _ => {}
        }
    }
    problems.extend((made != 1).then(|| format!("O2 a Cluster was made {made} times, not once")));
    problems
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::history::played;

    fn call(verb: &str, code: u16) -> AuditCall {
        played(verb, ("clusters", CLUSTER, ""), code, Value::Null)
    }

    #[test]
    fn a_cluster_is_made_once_and_never_deleted() {
        let (made, changed, refused) = (call("patch", 201), call("patch", 200), call("delete", 404));
        assert_eq!(problems(&[made.clone(), changed, refused], "n"), [""; 0]);
        assert_eq!(problems(&[made.clone(), call("delete", 200)], "n").len(), 1);
        assert_eq!(problems(&[made.clone(), made.clone()], "n").len(), 1);
        assert_eq!(problems(std::slice::from_ref(&made), "another").len(), 1, "none at all");
        let others = AuditCall { user_agent: "kubectl".to_owned(), ..call("delete", 200) };
        assert_eq!(problems(&[made, others], "n"), [""; 0]);
    }
}
