//! Passwords as bcrypt hashes: judged off the threads of the runtime, few at a time, and remembered when they were right.

use super::role::Roles;
use super::secret::Secret;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Judgements remembered. More than there are users, and little memory.
const REMEMBERED_MAX: usize = 1_000;
/// Hashes computed at the same time: enough to log in, too few to take the machine.
const AT_ONCE: usize = 2;
/// Requests that may wait for a hash.
const WAITING_MAX: usize = 100;
/// How long they wait.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The dearest hash taken: one of 16 costs some seconds.
const COST_MAX: u32 = 16;
/// The cost of the hash that stands in for users that do not exist, if no user does.
const COST_DEFAULT: u32 = 10;

/// Users and their hashes.
pub(super) struct Passwords {
    users: HashMap<String, (String, Roles)>,
    /// Computed for users that do not exist, so that the time of an answer does not tell who exists.
    stand_in: String,
    right: Arc<Mutex<HashSet<Tag>>>,
    key: hmac::Key,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

/// What is remembered of a right password: a keyed hash over user, hash and password, each with its length before it.
type Tag = [u8; 32];

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEntry {
    /// User or password is wrong.
    Wrong,
    /// Too many wait to be judged.
    Busy,
}

impl Passwords {
    /// The users of a file.
    ///
    /// # Errors
    /// A hash is not one of bcrypt, or too dear; the sentence names the user.
    pub(super) fn new<'a>(
        users: impl Iterator<Item = (&'a String, &'a Secret, Roles)>,
    ) -> Result<Self, String> {
        let mut known = HashMap::new();
        let mut cost = None;
        for (name, hash, roles) in users {
            let parts: bcrypt::HashParts = hash.reveal().parse().map_err(|_| {
                format!("basic_auth_users: what is given for {name:?} is not a bcrypt hash (htpasswd -nBC 10 \"\" makes one)")
            })?;
            if parts.get_cost() > COST_MAX {
                return Err(format!(
                    "basic_auth_users: the hash of {name:?} has the cost {}, more than {COST_MAX}",
                    parts.get_cost()
                ));
            }
            cost = cost.max(Some(parts.get_cost()));
            known.insert(name.clone(), (hash.reveal().to_owned(), roles));
        }
        let failed = |_| "no random numbers from the system".to_owned();
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(failed)?;
        let salt: [u8; 16] = ring::rand::generate(&random).map_err(failed)?.expose();
        // Of the right form and of the same cost; no password has it, because nobody computed it from one.
        let cost = cost.unwrap_or(COST_DEFAULT);
        let stand_in = bcrypt::hash_with_salt("", 4, salt).map_err(|e| e.to_string())?.to_string();
        let stand_in = stand_in.replacen("$04$", &format!("${cost:02}$"), 1);
        Ok(Self {
            users: known,
            stand_in,
            right: Arc::default(),
            key,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// What the user of that name and password may do.
    pub(super) async fn judge(&self, name: &str, password: &str) -> Result<Roles, NoEntry> {
        let user = self.users.get(name);
        let (hash, roles) = user.map_or((&self.stand_in, None), |(hash, roles)| (hash, Some(*roles)));
        let tag = self.tag(&[name, hash, password]);
        if let Some(roles) = roles.filter(|_| self.right.lock().contains(&tag)) {
            return Ok(roles);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| NoEntry::Busy)?;
        let turn = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(NoEntry::Busy) };
        let (hash, password) = (hash.clone(), password.to_owned());
        let judged = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        match (judged.await.unwrap_or(false), roles) {
            (true, Some(roles)) => {
                let mut right = self.right.lock();
                if right.len() >= REMEMBERED_MAX {
                    right.clear();
                }
                right.insert(tag);
                Ok(roles)
            }
            _ => Err(NoEntry::Wrong),
        }
    }

    fn tag(&self, parts: &[&str]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = Tag::default();
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    fn passwords() -> Passwords {
        let hash = |p: &str| serde_json::from_value(bcrypt::hash(p, 4).unwrap().into()).unwrap();
        let users = [
            ("alice".to_owned(), hash("wonder"), Roles::of(&[Role::Read])),
            ("bob".to_owned(), hash(""), Roles::ALL),
        ];
        Passwords::new(users.iter().map(|(n, h, r)| (n, h, *r))).unwrap()
    }

    #[tokio::test]
    async fn right_wrong_and_unknown() {
        let passwords = passwords();
        for _ in 0..2 {
            let cases = [
                ("alice", "wonder", Ok(Roles::of(&[Role::Read]))),
                ("alice", "wonde", Err(NoEntry::Wrong)),
                ("alice", "", Err(NoEntry::Wrong)),
                ("bob", "", Ok(Roles::ALL)),
                ("carol", "", Err(NoEntry::Wrong)),
                ("carol", "wonder", Err(NoEntry::Wrong)),
                ("", "", Err(NoEntry::Wrong)),
            ];
            for (name, password, expected) in cases {
                assert_eq!(passwords.judge(name, password).await, expected, "{name}:{password}");
            }
        }
        assert_eq!(passwords.right.lock().len(), 2, "only right ones are remembered");
        assert_ne!(passwords.tag(&["ab", "c"]), passwords.tag(&["a", "bc"]));
    }

    #[tokio::test]
    async fn unknown_users_cost_as_much_as_known_ones() {
        let passwords = passwords();
        assert_eq!(passwords.stand_in.parse::<bcrypt::HashParts>().unwrap().get_cost(), 4);
    }

    #[test]
    fn hashes_are_checked_when_they_are_read() {
        let secret = |text: &str| serde_json::from_value::<Secret>(text.into()).unwrap();
        let dear = "$2y$17$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze";
        for (hash, words) in [("canary", "not a bcrypt hash"), (dear, "more than 16")] {
            let name = "alice".to_owned();
            let secret = secret(hash);
            let error = Passwords::new([(&name, &secret, Roles::ALL)].into_iter()).err().unwrap();
            assert!(error.contains(words) && !error.contains(hash), "{error}");
        }
    }
}
