//! Who may connect: so many in all, and so many from one address.

use crate::telemetry::Metrics;
use crate::telemetry::registry::GaugeGuard;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Who is inside, in all and by address.
pub(super) struct Doors {
    max: usize,
    per_address_max: usize,
    inside: Mutex<HashMap<IpAddr, usize>>,
    metrics: Arc<Metrics>,
}

/// One connection's place; given back when dropped.
pub(super) struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
    _open: GaugeGuard,
}

impl Doors {
    pub(super) fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        let per_address_max = (max / 4 * 3).max(1);
        Self { max, per_address_max, inside: Mutex::new(HashMap::new()), metrics }
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut inside = self.inside.lock();
        let limit = if self.metrics.connections.get() >= self.max as i64 {
            Some("total")
        } else if inside.get(&address).is_some_and(|n| *n >= self.per_address_max) {
            Some("address")
        } else {
            None
        };
        if let Some(limit) = limit {
            self.metrics.connections_refused.get(limit).inc();
            return None;
        }
        *inside.entry(address).or_default() += 1;
        Some(Place { doors: Arc::clone(self), address, _open: self.metrics.connections.hold() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.doors.inside.lock();
        if let Some(count) = inside.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.address);
            }
        }
    }
}
