//! A seeded generator, so that a failed random test can be reproduced.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a test: its seed is printed, and `SPYHOP_SEED` sets it.
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("SPYHOP_SEED")
            .map_or(0x5b4d_0001, |seed| seed.parse().expect("SPYHOP_SEED is a number"));
        println!("{test}: SPYHOP_SEED={seed}");
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `range`.
    pub fn within(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }
}
