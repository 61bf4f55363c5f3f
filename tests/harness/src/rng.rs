//! A small seeded random number generator, so that a failing run can be repeated from its seed.

/// SplitMix64: one word of state, equally distributed, the same on every machine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence is a function of `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed to use: `KYMO_SEED` if it is set, else one taken from the clock. Print it when a test fails.
    pub fn seed_from_env() -> u64 {
        match std::env::var("KYMO_SEED").ok().and_then(|text| text.parse().ok()) {
            Some(seed) => seed,
            None => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |elapsed| elapsed.as_nanos() as u64),
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound` (`0` if `bound` is).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number in `0..2^64` that depends on all of `parts`: a value that can be computed again instead of being remembered.
pub fn mix(parts: &[u64]) -> u64 {
    let mut rng = Rng::new(0);
    for part in parts {
        rng.0 ^= part;
        rng.0 = rng.next_u64();
    }
    rng.next_u64()
}
