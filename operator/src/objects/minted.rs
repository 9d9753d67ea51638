//! The annotation of a Secret with generated credentials about its values.

use super::Digest;
use crate::names::annotation;

/// The meaning of the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minted {
    /// The generated values have this digest.
    As(Digest),
    /// A user confirms that the values are the right ones.
    Adopt,
    /// The operator cannot parse it.
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
