//! Who may do what: roles, and what a route asks for.

mod role;

pub use role::{Access, Role, Roles};
