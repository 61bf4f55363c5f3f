//! Who may do what: roles, users and their passwords, tokens, and TLS. Files in, judgements out; no HTTP here.

pub mod gatekeeper;
mod passwords;
mod role;
pub mod secret;
pub mod tls;
mod tokens;
pub mod web_file;

pub use role::{Access, Role, Roles};
