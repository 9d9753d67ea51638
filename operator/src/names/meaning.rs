//! What a name stands for, in a few digits.

use sha2::{Digest, Sha256};

/// How many hexadecimal digits of the hash a name has: 40 bits, of which a stack's few steps never share one by chance.
const DIGITS: usize = 10;

/// What a step means, as the end of its Job's name: a hash of what makes it another step (images, command, the value of a
/// command annotation, the identity of the data). The image of the agent, a default or the value of a Secret are none of these:
/// with them an upgrade or a rotation would run a step again.
pub fn meaning(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let bytes = hash.finalize();
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(DIGITS)
        .filter_map(|nibble| char::from_digit(u32::from(nibble), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_meaning_has_another_name() {
        assert_eq!(meaning(&["backup", "1"]), meaning(&["backup", "1"]));
        assert_ne!(meaning(&["backup", "1"]), meaning(&["backup", "2"]));
        assert_ne!(meaning(&["ab", "c"]), meaning(&["a", "bc"]), "the parts are told apart");
        assert_eq!(meaning(&[]).len(), DIGITS);
    }
}
