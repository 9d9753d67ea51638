//! What a Secret with generated credentials says of its own values.

use super::Digest;
use crate::names::annotation;

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minted {
    /// They are those with this digest.
    As(Digest),
    /// A user says in so many words that they are the right ones.
    Adopt,
    /// Nothing that can be read.
    Unreadable,
}

impl Minted {
    /// Reads the annotation.
    pub fn parse(text: &str) -> Self {
        if text == annotation::ADOPT {
            return Self::Adopt;
        }
        Digest::parse(text).map_or(Self::Unreadable, Self::As)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_word_adopts() {
        let digest = Digest::of_bytes(b"a");
        assert_eq!(Minted::parse(&digest.to_string()), Minted::As(digest));
        assert_eq!(Minted::parse("adopt"), Minted::Adopt);
        for other in ["", "Adopt", "adopt ", "true", &digest.to_string()[1..]] {
            assert_eq!(Minted::parse(other), Minted::Unreadable, "{other}");
        }
    }
}
