//! A bucket that the operator did not make: from a Secret to keys, or by a role of the cloud. Backups may go to one of their own.

use super::{AccessKeys, Bucket, BucketAccess, SessionToken, versioning};
use crate::{
    api::v1alpha1::{Environment, ExternalBucket, RorunStackSpec, S3SecretReference},
    contract::{self, Provider},
    names::{Component, Waiting, label, reason},
    stack::{
        Endpoint, Observed, ProbeTarget, Probing, References,
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
        probing::{clear_text, refuses_clear_text},
        secret::{NamedSecret, authority},
    },
};

const FIELD: &str = "bucket.external";

/// A bucket that the operator did not make.
#[derive(Clone, Debug)]
pub struct External {
    access: Option<BucketAccess>,
    probing: Probing,
    versioning: bool,
}

impl Mode for External {
    fn provider(&self) -> Option<&'static Provider> {
        Provider::of_url(&self.access.as_ref()?.endpoint)
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, backups: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let endpoint = |access: &BucketAccess| Endpoint::Bucket {
            access: access.clone(),
            prefix: backups.map(str::to_owned),
            create: false,
            versioning: self.versioning,
        };
        self.access.iter().map(|access| (Component::Bucket.into(), endpoint(access))).collect()
    }

    fn asked_from_pods(&self, backups: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        self.endpoints(backups)
    }
}

impl ModeAccess for External {
    type Access = BucketAccess;

    fn access(&self) -> Option<&BucketAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for ExternalBucket {
    fn references(&self, _: &str, found: &mut References) {
        self.credentials_secret_ref.iter().for_each(|keys| AccessKeys::reference(keys, found));
        found.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        self.credentials_secret_ref.iter().for_each(|keys| AccessKeys::placeholders(keys, values));
        values.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn opens_backups(&self, destination: Option<&ExternalBucket>) -> bool {
        let place = |bucket: &ExternalBucket| (bucket.endpoint.trim_end_matches('/').to_owned(), bucket.name.clone());
        destination.is_none_or(|destination| {
            place(destination) == place(self) && destination.credentials_secret_ref == self.credentials_secret_ref
        })
    }
}

impl Resolve for ExternalBucket {
    type Service = Bucket;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Bucket {
        let access = ok_or_unresolved(access(self, FIELD, context.observed), Component::Bucket, unresolved);
        Bucket::External(Box::new(External {
            access,
            probing: probing(self, FIELD, context.spec.environment, context.observed),
            versioning: versioning(context.spec).unwrap_or(false),
        }))
    }
}

/// The bucket of a provider that the spec names, whether or not its keys are there.
pub(in crate::stack) fn named(spec: &RorunStackSpec) -> Option<&ExternalBucket> {
    spec.bucket.as_ref()?.external.as_ref()
}

/// Whether the pods use the stack's bucket by their role.
pub(in crate::stack) fn is_by_role(spec: &RorunStackSpec) -> bool {
    let bucket = spec.bucket.as_ref();
    let external = bucket.and_then(|bucket| bucket.external.as_ref()?.cloud_role.as_ref());
    external.or_else(|| bucket?.s3.as_ref()?.cloud_role.as_ref()).is_some()
}

/// The bucket of a block and the keys to it. `field` is the path in the spec, for messages.
pub(in crate::stack) fn access(
    spec: &ExternalBucket,
    field: &str,
    observed: &Observed,
) -> Result<BucketAccess, Waiting> {
    let secret_field = format!("{field}.credentialsSecretRef");
    let keys = keys(spec.credentials_secret_ref.as_ref(), &secret_field, observed)?;
    let tls_field = format!("{field}.tls.caSecretRef");
    let ca = authority(spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()), &tls_field, observed)?;
    if ca.is_some() && !spec.endpoint.starts_with("https://") {
        return Err(Waiting::new(
            reason::INVALID_SPEC,
            format!("{field}.endpoint must start with https:// since {field}.tls is set"),
        ));
    }
    let has_path = url::Url::parse(&spec.endpoint).is_ok_and(|url| !matches!(url.path(), "" | "/"));
    if has_path && spec.force_path_style == Some(false) {
        let message = format!("{field}.forcePathStyle must not be false since {field}.endpoint has a path: remove it");
        return Err(Waiting::new(reason::INVALID_SPEC, message));
    }
    Ok(BucketAccess {
        endpoint: spec.endpoint.trim_end_matches('/').to_owned(),
        region: spec.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        name: spec.name.clone(),
        force_path_style: spec.force_path_style.unwrap_or(true),
        keys,
        checksums: spec.checksums,
        ca,
    })
}

/// The keys of the Secret that a field of the spec names. `None`: it names none.
pub(in crate::stack) fn keys(
    reference: Option<&S3SecretReference>,
    field: &str,
    observed: &Observed,
) -> Result<Option<AccessKeys>, Waiting> {
    let Some(reference) = reference else { return Ok(None) };
    let secret = NamedSecret::find(observed, &reference.name, field)?;
    AccessKeys::read(reference, &secret).map(Some)
}

impl AccessKeys {
    fn read(reference: &S3SecretReference, secret: &NamedSecret<'_>) -> Result<Self, Waiting> {
        let session_token = if let Some(key) = &reference.session_token_key {
            Some(SessionToken { value: secret.unquoted(key)?, named: true })
        } else {
            let found = secret.optional(contract::ENV_SESSION_TOKEN)?;
            found.map(|value| SessionToken { value, named: false })
        };
        let id = reference.access_key_id_key.as_deref().unwrap_or(contract::ENV_ACCESS_KEY_ID);
        let key = reference.secret_access_key_key.as_deref().unwrap_or(contract::ENV_SECRET_ACCESS_KEY);
        Ok(Self { id: secret.access_key_id(id)?, secret: secret.unquoted(key)?, session_token })
    }

    /// Adds the Secret with the keys that the operator reads.
    pub(in crate::stack) fn reference(of: &S3SecretReference, found: &mut References) {
        let keys = [
            of.access_key_id_key.as_deref().unwrap_or(contract::ENV_ACCESS_KEY_ID),
            of.secret_access_key_key.as_deref().unwrap_or(contract::ENV_SECRET_ACCESS_KEY),
            of.session_token_key.as_deref().unwrap_or(contract::ENV_SESSION_TOKEN),
        ];
        found.secret(&of.name, keys);
    }

    /// Adds values for them.
    pub(in crate::stack) fn placeholders(of: &S3SecretReference, values: &mut Values<'_>) {
        let value = values.value();
        let (id, key) = (of.access_key_id_key.as_deref(), of.secret_access_key_key.as_deref());
        values.secret(&of.name, id.unwrap_or(contract::ENV_ACCESS_KEY_ID), format!("id{value}"));
        values.secret(&of.name, key.unwrap_or(contract::ENV_SECRET_ACCESS_KEY), format!("key{value}"));
        if let Some(key) = &of.session_token_key {
            values.secret(&of.name, key, format!("token{value}"));
        }
    }
}

/// How the operator probes the bucket of a block.
pub(in crate::stack) fn probing(
    spec: &ExternalBucket,
    field: &str,
    environment: Environment,
    observed: &Observed,
) -> Probing {
    let refused = spec.endpoint.starts_with("http://") && refuses_clear_text(environment, spec.allow_insecure);
    let doubt = match &spec.credentials_secret_ref {
        // The operator has no such role, and sends nothing.
        None => None,
        Some(_) if refused => Some(clear_text(field, "the endpoint starts with http://", "https://")),
        Some(keys) => unusual_keys(keys, observed),
    };
    Probing::new(spec.probe_interval.as_deref(), doubt)
}

/// Why the keys may be none of S3. A signature sends the access key id in clear, and the secret access key never, so each must be
/// in its own place.
pub(in crate::stack) fn unusual_keys(keys: &S3SecretReference, observed: &Observed) -> Option<String> {
    let usual = keys.access_key_id_key.as_deref().is_none_or(|key| key == contract::ENV_ACCESS_KEY_ID)
        && keys.secret_access_key_key.as_deref().is_none_or(|key| key == contract::ENV_SECRET_ACCESS_KEY);
    if usual || observed.traits.get(&keys.name).is_some_and(|traits| traits.for_s3) {
        return None;
    }
    Some(format!(
        "it is used by the pods and not asked whether it answers, since secret/{name} may hold something else than keys of \
         S3 under names other than AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: label it (kubectl label secret {name} \
         {}=true), or use these names",
        label::S3,
        name = keys.name,
    ))
}
