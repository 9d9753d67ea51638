//! The identifier of a backup: the time it was started at and five random characters, so that two runs never meet.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

const TIME: &str = "%Y%m%dT%H%M%SZ";
const RANDOM_LENGTH: usize = 5;
/// Without vowels and similar characters, so that an identifier spells no word and is easy to type.
const ALPHABET: &[u8; 24] = b"bcdfghjkmnpqrstvwxz24579";

/// E.g. `20261124T021500Z-x7k2p`. Sorts by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId {
    text: String,
    created: Timestamp,
}

/// A folder that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the identifier of a backup: it is not like 20261124T021500Z-x7k2p")]
pub struct NotAnId;

impl BackupId {
    /// A new identifier for a run that starts now.
    pub fn new(now: Timestamp) -> Self {
        let mut random = rand::rng();
        let suffix: String =
            (0..RANDOM_LENGTH).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
        let text = format!("{}-{suffix}", now.strftime(TIME));
        let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { text, created }
    }

    /// When the run was started, to the second.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for BackupId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (time, suffix) = text.split_once('-').ok_or(NotAnId)?;
        let known = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        if suffix.len() != RANDOM_LENGTH || !suffix.chars().all(known) {
            return Err(NotAnId);
        }
        let created = DateTime::strptime(TIME, time).map_err(|_| NotAnId)?;
        let created = created.to_zoned(TimeZone::UTC).map_err(|_| NotAnId)?.timestamp();
        // A lenient parser would take other spellings of the same time.
        if created.strftime(TIME).to_string() != time {
            return Err(NotAnId);
        }
        Ok(Self { text: text.to_owned(), created })
    }
}

impl TryFrom<String> for BackupId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.text
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn an_identifier_reads_back() {
        let now: Timestamp = "2026-11-24T02:15:00.9Z".parse().expect("time");
        let id = BackupId::new(now);
        assert!(id.as_str().starts_with("20261124T021500Z-"), "{id}");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(id.created(), "2026-11-24T02:15:00Z".parse().expect("time"));
        assert_ne!(id, BackupId::new(now));
    }

    #[rstest]
    #[case("")]
    #[case("20261124T021500Z")]
    #[case("20261124T021500Z-")]
    #[case("20261124T021500Z-x7k2")]
    #[case("20261124T021500Z-x7k2pp")]
    #[case("20261124T021500Z-X7K2P")]
    #[case("20261324T021500Z-x7k2p")]
    #[case("2026-11-24-x7k2p")]
    #[case(" 20261124T021500Z-x7k2p")]
    #[case("important-notes")]
    fn other_names_are_not_ours(#[case] name: &str) {
        assert_eq!(name.parse::<BackupId>(), Err(NotAnId));
    }
}
