//! What is too much for memory, a part at a time: servers list keys in orders of their own, so two listings cannot be merged. The
//! keys are divided by their hashes instead, and each pass is about one part.

/// How many entries one pass is about: 16 to 24 MiB.
const AT_ONCE: u64 = 1 << 20;

/// One of the parts that hashes are divided into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    number: u64,
    of: u64,
}

impl Part {
    /// The parts for so many entries.
    pub(super) fn all(count: u64) -> impl Iterator<Item = Self> {
        Self::divided(count, AT_ONCE)
    }

    /// Likewise, with so many entries in each.
    pub(super) fn divided(count: u64, at_once: u64) -> impl Iterator<Item = Self> {
        let of = count.div_ceil(at_once).max(1);
        (0..of).map(move |number| Self { number, of })
    }

    /// Whether a hash belongs to it.
    pub(super) fn holds(self, (high, _): (u64, u64)) -> bool {
        high % self.of == self.number
    }
}
