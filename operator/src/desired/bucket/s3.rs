//! The bucket on Amazon S3. Its controller takes back what the object does not ask for, so all that holds for the bucket is in it.

use crate::{
    contract::{ARCHIVE_CLASS, BucketRules, CORS_METHODS, CORS_SECONDS, bucket_arn},
    desired::{Keys, aws, mode::Mode},
    names::Component as Name,
    objects::{
        AbortIncompleteMultipartUpload, BUCKET, Bucket, BucketCors, BucketEncryption, BucketLifecycle, BucketLocation,
        BucketReplication, BucketSpec, BucketVersioning, CorsRule, DeleteMarkerReplication, DesiredObject,
        EncryptionDefault, EncryptionRule, LifecycleRule, LiveSet, NoncurrentVersionExpiration, OwnershipControls,
        OwnershipRule, PublicAccessBlock, Readiness, ReplicationDestination, ReplicationRule, RuleFilter, Transition,
    },
    stack::{Stack, bucket::S3},
};

/// The region that a bucket is made in without being told, and that AWS refuses to be told.
const UNSAID: &str = "us-east-1";

impl Mode for S3 {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let block = &self.block;
        let elsewhere = (block.region != UNSAID).then(|| BucketLocation { location_constraint: block.region.clone() });
        let key = block.kms_key_id.clone();
        let algorithm = if key.is_some() { "aws:kms" } else { "AES256" };
        vec![aws::retained(&Bucket {
            metadata: aws::metadata(stack, Name::Bucket, stack.child(Name::Bucket), Some(&block.region)),
            spec: BucketSpec {
                name: block.name.clone(),
                create_bucket_configuration: elsewhere,
                versioning: BucketVersioning { status: "Enabled" },
                encryption: BucketEncryption {
                    rules: vec![EncryptionRule {
                        bucket_key_enabled: key.is_some(),
                        apply_server_side_encryption_by_default: EncryptionDefault { algorithm, key },
                    }],
                },
                public_access_block: PublicAccessBlock {
                    block_public_acls: true,
                    block_public_policy: true,
                    ignore_public_acls: true,
                    restrict_public_buckets: true,
                },
                ownership_controls: OwnershipControls {
                    rules: vec![OwnershipRule { object_ownership: "BucketOwnerEnforced" }],
                },
                lifecycle: lifecycle(&self.rules),
                cors: cors(&self.rules),
                replication: replication(&self.rules),
            },
        })]
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        aws::readiness(stack, Name::Bucket, BUCKET, None, live)
    }
}

const ENABLED: &str = "Enabled";

fn lifecycle(rules: &BucketRules) -> Option<BucketLifecycle> {
    let of = rules.lifecycle.as_ref()?;
    let rule = |name: &str| LifecycleRule {
        id: format!("{}{name}", rules.ids),
        status: ENABLED,
        filter: RuleFilter { prefix: of.prefix.clone() },
        ..LifecycleRule::default()
    };
    let archive = of.archive_after_days.map(|days| LifecycleRule {
        transitions: Some(vec![Transition { days, storage_class: ARCHIVE_CLASS }]),
        ..rule("archive")
    });
    let expire = of.expire_noncurrent_after_days.map(|noncurrent_days| LifecycleRule {
        noncurrent_version_expiration: Some(NoncurrentVersionExpiration { noncurrent_days }),
        ..rule("noncurrent")
    });
    let abort = of.abort_incomplete_uploads_after_days.map(|days_after_initiation| LifecycleRule {
        abort_incomplete_multipart_upload: Some(AbortIncompleteMultipartUpload { days_after_initiation }),
        ..rule("uploads")
    });
    let rules: Vec<_> = [archive, expire, abort].into_iter().flatten().collect();
    (!rules.is_empty()).then_some(BucketLifecycle { rules })
}

fn cors(rules: &BucketRules) -> Option<BucketCors> {
    let rule = CorsRule {
        id: format!("{}cors", rules.ids),
        allowed_headers: vec!["*"],
        allowed_methods: CORS_METHODS.to_vec(),
        allowed_origins: rules.origins.clone(),
        expose_headers: vec!["ETag"],
        max_age_seconds: CORS_SECONDS,
    };
    (!rules.origins.is_empty()).then(|| BucketCors { cors_rules: vec![rule] })
}

fn replication(rules: &BucketRules) -> Option<BucketReplication> {
    let to = rules.replication.as_ref()?;
    let rule = ReplicationRule {
        id: format!("{}replication", rules.ids),
        priority: 1,
        status: ENABLED,
        filter: RuleFilter::default(),
        destination: ReplicationDestination { bucket: bucket_arn(&to.bucket, &to.role) },
        delete_marker_replication: DeleteMarkerReplication { status: "Disabled" },
    };
    Some(BucketReplication { role: to.role.clone(), rules: vec![rule] })
}
