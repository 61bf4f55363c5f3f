//! Bearer tokens, known only by their SHA-256.

use super::role::Roles;
use super::web_file::TokenSection;
use crate::config::file::read_text;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::HashMap;

/// The tokens of a file. They are found by a keyed hash of their hash, so the time of a look-up tells nothing about them.
pub(super) struct Tokens {
    known: HashMap<Vec<u8>, Roles>,
    key: hmac::Key,
}

impl Tokens {
    /// Reads those that lie in files.
    ///
    /// # Errors
    /// A file cannot be read or is empty; a hash is not one; two tokens are the same. The sentence names the token by its name.
    pub(super) fn new(sections: &[TokenSection]) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "no random numbers from the system".to_owned())?;
        let mut known = HashMap::new();
        for section in sections {
            let failed = |why: &str| format!("bearer_tokens: {:?}: {why}", section.name);
            let hash = match (&section.token_sha256, &section.token_file) {
                (Some(hex), _) => from_hex(hex.reveal())
                    .ok_or_else(|| failed("token_sha256 is not 64 hexadecimal digits"))?,
                (None, Some(path)) => {
                    let text = read_text(path).map_err(|e| failed(&e))?;
                    let token = text.trim();
                    if token.is_empty() {
                        return Err(failed(&format!("{} holds no token", path.display())));
                    }
                    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
                }
                (None, None) => return Err(failed("there is no token")),
            };
            let tag = hmac::sign(&key, &hash).as_ref().to_vec();
            if known.insert(tag, Roles::of(&section.roles)).is_some() {
                return Err(failed("another token is the same"));
            }
        }
        Ok(Self { known, key })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What the bearer of `token` may do; `None` if nobody has that token.
    pub(super) fn judge(&self, token: &str) -> Option<Roles> {
        let hash = digest(&SHA256, token.as_bytes());
        self.known.get(hmac::sign(&self.key, hash.as_ref()).as_ref()).copied()
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.trim().chars().map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> =
        digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | *d as u8)).collect();
    (bytes.len() == SHA256_OUTPUT_LEN && text.trim().len() == 2 * SHA256_OUTPUT_LEN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, web_file::WebFile};

    #[test]
    fn tokens_are_known_by_their_hash() {
        // printf letmein | sha256sum
        let text = "bearer_tokens:\n  - name: a\n    token_sha256: 1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032\n    roles: [write]\n";
        let file = WebFile::parse(text).unwrap();
        let tokens = Tokens::new(&file.bearer_tokens).unwrap();
        assert!(tokens.judge("letmein").unwrap().allow(Access::WRITE));
        assert!(!tokens.judge("letmein").unwrap().allow(Access::READ));
        for wrong in ["", "letmei", "1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032"] {
            assert_eq!(tokens.judge(wrong), None, "{wrong}");
        }
        let short = WebFile::parse("bearer_tokens: [{name: a, token_sha256: abc, roles: [read]}]").unwrap();
        assert!(Tokens::new(&short.bearer_tokens).err().unwrap().contains("64 hexadecimal"));
        let gone =
            WebFile::parse("bearer_tokens: [{name: a, token_file: /nowhere/x, roles: [read]}]").unwrap();
        assert!(Tokens::new(&gone.bearer_tokens).err().unwrap().contains("/nowhere/x"));
    }
}
