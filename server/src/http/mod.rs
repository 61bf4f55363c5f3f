//! The HTTP face: connections, routes, gates, parameters, responses.

pub mod admission;
pub mod app;
pub mod control;
mod door;
mod doors;
pub mod external;
pub mod federate;
mod heads;
pub mod health;
pub mod intake;
pub mod lifecycle;
pub mod listen;
pub mod params;
pub mod queries;
mod refusals;
pub mod respond;
pub mod router;
pub mod startup;
pub mod stream;
mod taking;
mod timed;
mod unread;
pub mod v1;
