//! Roles of users and tokens, and what a route asks of them.

use serde::{Deserialize, Serialize};

/// What somebody may do. None of them holds another, but for [`Role::Admin`], which holds all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask: queries, label names, status pages, export.
    Read,
    /// Bring samples: remote write, OTLP, import.
    Write,
    /// Everything, also deleting, snapshots, reloading and stopping.
    Admin,
}

/// The roles of one user or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// All there are.
    pub const ALL: Self = Self(Role::Admin.bit());

    /// Those of a list.
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |bits, role| bits | role.bit()))
    }

    /// Whether somebody with these roles may do what `access` asks.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Anyone => true,
            Access::Needs(role) => self.0 & (role.bit() | Role::Admin.bit()) != 0,
        }
    }
}

impl Role {
    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Admin => 4,
        }
    }

    /// Its name in the configuration and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// What a route asks of those who call it. If nobody has to say who he is, everybody may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone who is known, whatever his roles.
    Anyone,
    /// Someone with this role.
    Needs(Role),
}

impl Access {
    /// Someone who may ask.
    pub const READ: Self = Self::Needs(Role::Read);
    /// Someone who may bring samples.
    pub const WRITE: Self = Self::Needs(Role::Write);
    /// Someone who may do everything.
    pub const ADMIN: Self = Self::Needs(Role::Admin);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_admin_holds_others() {
        let cases = [
            (Roles::default(), [true, false, false, false]),
            (Roles::of(&[Role::Read]), [true, true, false, false]),
            (Roles::of(&[Role::Write]), [true, false, true, false]),
            (Roles::of(&[Role::Read, Role::Write]), [true, true, true, false]),
            (Roles::of(&[Role::Admin]), [true; 4]),
            (Roles::ALL, [true; 4]),
        ];
        for (roles, expected) in cases {
            let asked = [Access::Anyone, Access::READ, Access::WRITE, Access::ADMIN];
            assert_eq!(asked.map(|access| roles.allow(access)), expected, "{roles:?}");
        }
    }
}
