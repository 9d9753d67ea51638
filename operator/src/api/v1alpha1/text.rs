//! What a text may look like. Rules, and not patterns: the API server repeats a pattern, a rule says what to write instead.

use serde_json::{Value, json};

/// The name of an image.
pub(super) fn image() -> Value {
    matching(
        "^[a-zA-Z0-9]([a-zA-Z0-9._/@-]|:[a-zA-Z0-9_])*$",
        "write the name of an image, without https:// and spaces, e.g. `rorun-api:1.8.0`",
    )
}

/// A major version of PostgreSQL that CloudNativePG runs.
pub(super) fn postgres_version() -> Value {
    json!([{"rule": "self in ['14', '15', '16', '17', '18']", "message": "write a major version from `14` to `18`"}])
}

/// The name of an image of PostgreSQL, by whose tag CloudNativePG knows the version.
pub(super) fn postgres_image() -> Value {
    matching(
        "^[a-zA-Z0-9][a-zA-Z0-9._/:-]*:1[4-8]([._-][a-zA-Z0-9._-]*)?(@sha256:[0-9a-f]{64})?$",
        "write an image whose tag begins with the major version, 14 to 18, e.g. `postgres:17.6`",
    )
}

/// An instance of Cloud SQL; its project may begin with a domain.
pub(super) fn instance_connection_name() -> Value {
    matching(
        "^([a-z0-9.-]+:)?[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]+$",
        "write `<project>:<region>:<instance>`, as `gcloud sql instances describe` tells it in connectionName",
    )
}

/// A registry: a host, perhaps a port, perhaps folders.
pub(super) fn registry() -> Value {
    matching(
        "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
        "write a registry, without https:// and without a slash at the end, e.g. `registry.example.com:5000/rorun`",
    )
}

/// A DNS name of at least one label, lower case (RFC 1123). The last label starts with a letter, as that of an address does
/// not: the API server takes no address for a host of an Ingress.
pub(super) fn host() -> Value {
    matching(
        r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        "write a DNS name in lower case, without https://, port and path, e.g. `api.example.com`",
    )
}

/// The URL of an S3 service: a host, perhaps a port, perhaps a path.
pub(super) fn endpoint() -> Value {
    matching(
        r"^https?://[^/?#@\\s]+(/[^?#\\s]*)?$",
        "write a URL that starts with https:// or http:// and has neither user nor ? nor #, e.g. `https://s3.example.com`",
    )
}

/// A time between two questions, as Go writes durations. The pattern goes first: what is no duration cannot be compared.
pub(super) fn interval() -> Value {
    json!([{
        "rule": "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('10s') && duration(self) <= duration('24h')",
        "message": "write a duration from `10s` to `24h`, e.g. `5m`",
    }])
}

/// An objective of backups, as Go writes durations.
pub(super) fn objective() -> Value {
    json!([{
        "rule": "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')",
        "message": "write a duration from `1m` to `168h`, e.g. `1h`",
    }])
}

/// How long a stack is to live, as Go writes durations.
pub(super) fn lifetime() -> Value {
    json!([{
        "rule": "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1h') && duration(self) <= duration('8760h')",
        "message": "write a duration from `1h` to `8760h`, e.g. `72h`",
    }])
}

/// How often metrics are scraped, as Go writes durations.
pub(super) fn scrape_interval() -> Value {
    json!([{
        "rule": "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",
        "message": "write a duration from `1s` to `24h`, e.g. `30s`",
    }])
}

/// The path of an endpoint with metrics.
pub(super) fn metrics_path() -> Value {
    matching(r#"^/[^\\s?#"]*$"#, "write a path that starts with /, without ? and #, e.g. `/metrics`")
}

/// The path of a request, with a query or without.
pub(super) fn request_path() -> Value {
    matching(r#"^/[^\\s#"]*$"#, "write a path that starts with /, without spaces and #, e.g. `/health?deep=true`")
}

/// The name of a header (RFC 9110).
pub(super) fn header_name() -> Value {
    matching("^[A-Za-z0-9!$%&*+.^_|~-]+$", "write the name of a header, e.g. `content-type`")
}

/// Labels whose keys and values the API server admits.
pub(super) fn labels() -> Value {
    json!([{
        "rule": r"self.all(key, key.matches('^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$') && self[key].matches('^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$'))",
        "message": "write labels as Kubernetes has them, of letters, digits and any of . _ -, at most 63 characters, e.g. `release: prometheus`",
    }, {
        "rule": "self.all(key, !key.startsWith('rorun.app/'))",
        "message": "leave out labels that start with rorun.app/: by them the operator knows its own objects",
    }])
}

/// A folder in a bucket: relative, ending in a slash, and leading nowhere else.
pub(super) fn folder() -> Value {
    matching(
        "^([A-Za-z0-9_][A-Za-z0-9._=-]*/)+$",
        "write a folder that ends in a slash, without a slash at the start and without `..`, e.g. `eu-west/backups/`",
    )
}

/// Folders in a bucket.
pub(super) fn folders() -> Value {
    json!([{
        "rule": "self.all(f, f.matches('^([A-Za-z0-9_][A-Za-z0-9._=-]*/)+$'))",
        "message": "write folders that end in a slash, without a slash at the start and without `..`, e.g. `public/`",
    }])
}

/// The beginning of keys in a bucket.
pub(super) fn key_prefix() -> Value {
    matching("^[A-Za-z0-9!_.*()=/-]+$", "write the beginning of keys, without a slash at the start, e.g. `uploads/`")
}

/// Origins of pages.
pub(super) fn origins() -> Value {
    json!([{
        "rule": r"self.all(o, o.matches('^https?://[A-Za-z0-9.*-]+(:[0-9]+)?$'))",
        "message": "write origins without a path and a slash at the end, e.g. `https://app.example.com`",
    }])
}

/// The name of a bucket.
pub(super) fn bucket() -> Value {
    matching("^[a-z0-9][a-z0-9.-]*[a-z0-9]$", "write the name of a bucket, e.g. `rorun-files-replica`")
}

/// The name of a role as Amazon writes it.
pub(super) fn arn() -> Value {
    matching(
        "^arn:[a-z0-9-]+:[A-Za-z0-9:/_+=,.@-]+$",
        "write the ARN of a role, e.g. `arn:aws:iam::123456789012:role/replication`",
    )
}

/// The paths of a host: each once by its type.
pub(super) fn distinct_paths() -> Value {
    let kind = |of: &str| format!("(has({of}.pathType) ? {of}.pathType : 'Prefix')");
    json!([{
        "rule": format!("self.all(a, self.exists_one(b, b.path == a.path && {} == {}))", kind("b"), kind("a")),
        "message": "the same path stands twice in paths: a path leads to one component, so leave one of them out",
    }])
}

/// A class of a DB instance.
pub(super) fn instance_class() -> Value {
    matching(r"^db\\.[a-z0-9-]+\\.[a-z0-9-]+$", "write the class of a DB instance, e.g. `db.t4g.medium`")
}

/// A type of a cache node.
pub(super) fn node_type() -> Value {
    matching(r"^cache\\.[a-z0-9-]+\\.[a-z0-9-]+$", "write the type of a cache node, e.g. `cache.t4g.small`")
}

/// The name of a database, a cache or a snapshot in AWS.
pub(super) fn aws_identifier() -> Value {
    matching(
        "^[a-z](-?[a-z0-9])*$",
        "start with a letter and write only a-z, 0-9 and single hyphens, e.g. `shop-production`",
    )
}

/// A region of AWS.
pub(super) fn aws_region() -> Value {
    matching("^[a-z]+(-[a-z]+)+-[0-9]+$", "write a region of AWS, e.g. `eu-west-1`")
}

/// A size in GiB that RDS can have.
pub(super) fn gibibytes() -> Value {
    json!([{
        "rule": "self.matches('^[1-9][0-9]{1,4}Gi$') && int(self.split('Gi')[0]) >= 20",
        "message": "write whole gibibytes from `20Gi` to `65536Gi`, e.g. `50Gi`",
    }])
}

/// A time of each day.
pub(super) fn daily_window() -> Value {
    matching(
        "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$",
        "write a time of the day in UTC, e.g. `02:00-03:00`",
    )
}

/// A time of each week.
pub(super) fn weekly_window() -> Value {
    let moment = "(mon|tue|wed|thu|fri|sat|sun):([01][0-9]|2[0-3]):[0-5][0-9]";
    matching(&format!("^{moment}-{moment}$"), "write a time of the week in UTC, e.g. `sun:03:30-sun:04:30`")
}

fn matching(pattern: &str, message: &str) -> Value {
    json!([{"rule": format!("self.matches('{pattern}')"), "message": message}])
}
