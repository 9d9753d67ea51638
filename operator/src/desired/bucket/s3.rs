//! The bucket on Amazon S3. Its controller takes back what the object does not ask for, so all that holds for the bucket is in it.

use crate::{
    desired::{Keys, aws, mode::Mode},
    names::Component as Name,
    objects::{
        BUCKET, Bucket, BucketEncryption, BucketLocation, BucketSpec, BucketVersioning, DesiredObject,
        EncryptionDefault, EncryptionRule, LiveSet, OwnershipControls, OwnershipRule, PublicAccessBlock, Readiness,
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
            },
        })]
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        aws::readiness(stack, Name::Bucket, BUCKET, None, live)
    }
}
