//! The bucket on Amazon S3: the address follows from the region, and the keys are in a Secret, or the pods have a role.

use super::{
    AccessKeys, Bucket, BucketAccess,
    external::{keys, unusual_keys},
    rules, versioning,
};
use crate::{
    api::v1alpha1::{ExternalBucket, S3Bucket},
    contract::BucketRules,
    names::{Component, ObjectName, Waiting},
    stack::{
        Endpoint, ManagedService, Observed, ProbeTarget, Probing, References,
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
    },
};

/// The bucket on Amazon S3.
#[derive(Clone, Debug)]
pub struct S3 {
    /// The block of the spec.
    pub block: S3Bucket,
    /// The rules that its controller sets.
    pub rules: BucketRules,
    /// The bucket exists.
    made: bool,
    /// The spec says that versions are to be kept, as they always are.
    versioning: bool,
    access: Option<BucketAccess>,
    probing: Probing,
}

impl Mode for S3 {
    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, backups: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &BucketAccess| Endpoint::Bucket {
            access: access.clone(),
            prefix: backups.map(str::to_owned),
            create: false,
            versioning: false,
        };
        let access = self.access.as_ref().filter(|_| self.made);
        access.into_iter().map(|access| (Component::Bucket.into(), endpoint(access))).collect()
    }

    fn asked_from_pods(&self, backups: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &BucketAccess| Endpoint::Bucket {
            access: access.clone(),
            prefix: backups.map(str::to_owned),
            create: false,
            versioning: self.versioning,
        };
        self.access.iter().map(|access| (Component::Bucket.into(), endpoint(access))).collect()
    }

    fn stands(&self) -> bool {
        self.made
    }
}

impl ModeAccess for S3 {
    type Access = BucketAccess;

    fn access(&self) -> Option<&BucketAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for S3Bucket {
    fn references(&self, _: &str, found: &mut References) {
        self.credentials_secret_ref.iter().for_each(|keys| AccessKeys::reference(keys, found));
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        self.credentials_secret_ref.iter().for_each(|keys| AccessKeys::placeholders(keys, values));
        let name = ObjectName::of(values.stack(), Component::Bucket).into();
        values.managed(name, ManagedService { ready: true, ..ManagedService::default() });
    }

    fn opens_backups(&self, destination: Option<&ExternalBucket>) -> bool {
        destination.is_none_or(|destination| {
            destination.name == self.name
                && destination.endpoint.trim_end_matches('/') == endpoint(&self.region)
                && destination.credentials_secret_ref == self.credentials_secret_ref
        })
    }
}

impl Resolve for S3Bucket {
    type Service = Bucket;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Bucket {
        let access = ok_or_unresolved(access(self, context.observed), Component::Bucket, unresolved);
        let object = ObjectName::of(context.name, Component::Bucket);
        let there = context.observed.managed.get(object.as_str());
        let doubt = self.credentials_secret_ref.as_ref().and_then(|keys| unusual_keys(keys, context.observed));
        Bucket::S3(Box::new(S3 {
            rules: rules::of(context.spec, rules::IDS_OF_CONTROLLER.to_owned()),
            versioning: versioning(context.spec).unwrap_or(false),
            made: there.is_some_and(|there| there.ready),
            access,
            probing: Probing::new(None, doubt),
            block: self.clone(),
        }))
    }
}

fn access(block: &S3Bucket, observed: &Observed) -> Result<BucketAccess, Waiting> {
    let keys = keys(block.credentials_secret_ref.as_ref(), "bucket.s3.credentialsSecretRef", observed)?;
    Ok(BucketAccess {
        endpoint: endpoint(&block.region),
        region: block.region.clone(),
        name: block.name.clone(),
        force_path_style: false,
        keys,
        checksums: None,
        ca: None,
    })
}

/// The regions in China have a domain of their own.
fn endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}
