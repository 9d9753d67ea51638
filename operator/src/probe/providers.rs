//! Services that a question costs something: it wakes them up, or is counted.

use super::Service;

/// What the host of a service ends in, and why a question to it is not free.
const METERED: [(&str, &str); 17] = [
    ("neon.tech", "the database sleeps when nobody asks"),
    ("neon.build", "the database sleeps when nobody asks"),
    ("supabase.co", "a project that nobody uses is paused"),
    ("supabase.com", "a project that nobody uses is paused"),
    ("prisma.io", "operations are counted"),
    ("cockroachlabs.cloud", "requests are counted"),
    ("xata.sh", "the database sleeps when nobody asks"),
    ("koyeb.app", "the database sleeps when nobody asks"),
    ("rlwy.net", "the service sleeps when nobody asks"),
    ("upstash.io", "commands are counted"),
    ("momentohq.com", "requests are counted"),
    ("s3.amazonaws.com", "requests are counted"),
    ("r2.cloudflarestorage.com", "requests are counted"),
    ("backblazeb2.com", "requests are counted"),
    ("storage.googleapis.com", "requests are counted"),
    ("digitaloceanspaces.com", "requests are counted"),
    ("tigris.dev", "requests are counted"),
];

/// Whether a question to a service costs something.
pub(super) fn is_metered(service: &Service) -> bool {
    let url = match service {
        Service::Postgres(target) => &target.url,
        Service::Redis(question) => &question.target.url,
        Service::Bucket { target, .. } => &target.endpoint,
    };
    hosts(url).any(|host| {
        // Amazon's name each region: s3.eu-west-1.amazonaws.com.
        let of_amazon = host.starts_with("s3") && host.ends_with(".amazonaws.com");
        of_amazon || METERED.iter().any(|(suffix, _)| is_below(&host, suffix))
    })
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The hosts of a URL, which may be several for PostgreSQL, in lower case.
fn hosts(url: &str) -> impl Iterator<Item = String> {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    hosts.split(',').map(|host| host.split(':').next().unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::services::postgres::PostgresTarget;

    #[rstest]
    #[case("postgresql://u:p@ep-cool-1.eu-central-1.aws.neon.tech/d?sslmode=require", true)]
    #[case("postgresql://u:p@DB.abc.Supabase.co:5432/d", true)]
    #[case("rediss://default:p@eu1-x-1.upstash.io:6379", true)]
    #[case("postgresql://u:p@a.example.com:1,b.neon.tech:2/d", true)]
    #[case("postgresql://u:p@notneon.tech/d", false)]
    #[case("postgresql://neon.tech:p@db.example.com/d", false)]
    #[case("postgresql://u:p@db.shop.svc/neon.tech", false)]
    #[case("https://s3.eu-west-1.amazonaws.com", true)]
    #[case("https://rorun.c1.eu-west-1.rds.amazonaws.com", false)]
    fn a_host_is_known_by_its_end(#[case] url: &str, #[case] expected: bool) {
        let service = Service::Postgres(PostgresTarget { url: url.to_owned(), ca: None });
        assert_eq!(is_metered(&service), expected, "{url}");
    }
}
