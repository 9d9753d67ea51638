//! The components of a stack.

use std::fmt;

/// A part of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The PostgreSQL database.
    Database,
    /// Redis.
    Redis,
    /// The S3 bucket.
    Bucket,
    /// The Secret with the addresses of the services, for the application.
    Connection,
    /// The OCR and AI service.
    Ocr,
    /// The API server.
    Api,
    /// The admin panel.
    Admin,
    /// The Ingress for requests from outside the cluster.
    Ingress,
    /// The dumps of the database.
    Backup,
    /// The trials of restoring them.
    Drill,
    /// The migration of a release.
    Migration,
    /// The restores of data.
    Restore,
    /// The points that are sanitized.
    Sanitize,
    /// What the metrics of the application are collected by.
    Monitoring,
    /// The candidates of a release, and the Job that asks them.
    SmokeTest,
    /// The Job that sets the rules of the bucket.
    BucketRules,
    /// The Job that asks services from the place of the pods.
    Preflight,
}

impl Component {
    /// Each, in the order in which one needs the other.
    pub const ALL: [Self; 17] = [
        Self::Database,
        Self::Redis,
        Self::Bucket,
        Self::Connection,
        Self::Restore,
        Self::Migration,
        Self::SmokeTest,
        Self::Ocr,
        Self::Api,
        Self::Admin,
        Self::Ingress,
        Self::Backup,
        Self::Drill,
        Self::Sanitize,
        Self::Monitoring,
        Self::BucketRules,
        Self::Preflight,
    ];

    /// The value of the label `app.kubernetes.io/component`, and the part of names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Redis => "redis",
            Self::Bucket => "bucket",
            Self::Connection => "connection",
            Self::Ocr => "ocr",
            Self::Api => "api",
            Self::Admin => "admin",
            Self::Ingress => "ingress",
            Self::Backup => "backup",
            Self::Drill => "drill",
            Self::Migration => "migration",
            Self::Restore => "restore",
            Self::Sanitize => "sanitize",
            Self::Monitoring => "monitoring",
            Self::SmokeTest => "smoketest",
            Self::BucketRules => "rules",
            Self::Preflight => "preflight",
        }
    }

    /// Whether other components wait for it: the services, and the Secret with their addresses.
    pub const fn is_waited_for(self) -> bool {
        matches!(self, Self::Database | Self::Redis | Self::Bucket | Self::Connection)
    }

    /// The type of the condition that speaks of the component.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Database => "DatabaseReady",
            Self::Redis => "RedisReady",
            Self::Bucket => "BucketReady",
            Self::Connection => "ConnectionReady",
            Self::Ocr => "OcrReady",
            Self::Api => "ApiReady",
            Self::Admin => "AdminReady",
            Self::Ingress => "IngressReady",
            Self::Backup => "BackupHealthy",
            Self::Drill => "RestoreVerified",
            Self::Migration => "MigrationsComplete",
            Self::Restore => "RestoreComplete",
            Self::Sanitize => "SanitizeHealthy",
            Self::Monitoring => "MonitoringReady",
            Self::SmokeTest => "SmokeTestsPassed",
            Self::BucketRules => "BucketRulesSet",
            Self::Preflight => "PreflightPassed",
        }
    }

    /// The component of a label's value.
    pub fn from_label(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.as_str() == value)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
