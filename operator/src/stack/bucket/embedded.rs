//! The bucket on an S3 server in the cluster.

use super::{AccessKeys, Bucket, BucketAccess, bucket_port, versioning};
use crate::{
    api::v1alpha1::{BucketServer, EmbeddedBucket, Storage},
    names::Component,
    stack::{
        Endpoint, ProbeTarget, Probing,
        mode::{Context, Mode, ModeAccess, ModeSpec, PodFields, Resolve, Server, Unresolved, single_pod},
        server::ServerSpec,
    },
};

/// The bucket on an S3 server in the cluster.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The software that serves S3.
    pub software: BucketServer,
    /// The pod and its volume. The credentials are the keys.
    pub server: Server,
    access: Option<BucketAccess>,
    probing: Probing,
    versioning: bool,
}

impl Mode for Embedded {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, backups: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &BucketAccess| Endpoint::Bucket {
            access: access.clone(),
            prefix: backups.map(str::to_owned),
            create: true,
            versioning: self.versioning,
        };
        self.access.iter().map(|access| (Component::Bucket.into(), endpoint(access))).collect()
    }
}

impl ModeAccess for Embedded {
    type Access = BucketAccess;

    fn access(&self) -> Option<&BucketAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for EmbeddedBucket {
    fn is_embedded(&self) -> bool {
        true
    }

    fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    fn pods(&self) -> Option<PodFields<'_>> {
        let port = bucket_port(self.server.unwrap_or_default());
        Some(PodFields { port, template: self.pod_template.as_ref(), scheduling: self.scheduling.as_ref() })
    }

    fn warning(&self, component: Component) -> Option<String> {
        Some(single_pod(component))
    }
}

impl Resolve for EmbeddedBucket {
    type Service = Bucket;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Bucket {
        let software = self.server.unwrap_or_default();
        let server = ServerSpec {
            component: Component::Bucket,
            image: self.image.as_deref().unwrap_or(image(software)),
            storage: self.storage.as_ref(),
            resources: self.resources.as_ref(),
            requests: ("50m", "256Mi"),
        };
        let server = server.resolve(context, unresolved);
        let access = access(&server, software, context);
        // The probe creates the bucket, which dumps need also where no workload has a pod.
        let probing = Probing { without_pods: true, ..Probing::default() };
        let versioning = versioning(context.spec).unwrap_or(true);
        Bucket::Embedded(Box::new(Embedded { software, server, access, probing, versioning }))
    }
}

fn image(software: BucketServer) -> &'static str {
    match software {
        BucketServer::SeaweedFS => "chrislusf/seaweedfs:4.48",
        BucketServer::MinIO => "minio/minio:RELEASE.2025-09-07T16-13-09Z",
        BucketServer::RustFS => "rustfs/rustfs:1.0.0",
    }
}

fn access(server: &Server, software: BucketServer, context: &Context<'_>) -> Option<BucketAccess> {
    let credentials = server.credentials.as_ref()?;
    let (host, port) = (context.service_host(Component::Bucket), bucket_port(software));
    Some(BucketAccess {
        endpoint: format!("http://{host}:{port}"),
        region: "us-east-1".to_owned(),
        name: format!("{}-bucket", context.name),
        force_path_style: true,
        keys: Some(AccessKeys {
            id: credentials.text("accessKeyId").to_owned(),
            secret: credentials.text("secretAccessKey").to_owned(),
            session_token: None,
        }),
        checksums: None,
        ca: None,
    })
}
