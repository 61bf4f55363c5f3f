//! The checksum of our own formats: CRC-32 (IEEE), seeded so that bytes of another place or time do not validate.

/// The checksum of `bytes` begun with `seed`; different seeds give different sums for the same bytes.
#[inline]
pub fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// A seed made of what identifies a file.
pub fn seed_of(identity: &[u8]) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64(identity);
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crc_32_and_minds_its_seed() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_ne!(crc32(1, b"123456789"), crc32(2, b"123456789"));
        assert_eq!(crc32(crc32(7, b"1234"), b"56789"), crc32(7, b"123456789"));
        assert_ne!(seed_of(b"a"), seed_of(b"b"));
    }
}
