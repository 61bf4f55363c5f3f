//! Series that stopped leave memory, in the steps of [`retire`](crate::head::retire): one look at them with each round of
//! maintenance.

use super::requests::Message;
use super::shared::Shared;
use crate::head::retired::Pin;
use crate::maintain::retention::millis;
use crate::sync::atomic::Ordering;
use crate::sync::mpsc::{SyncSender, sync_channel};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::Duration;

/// An idle series stays known so long, in case it comes back; and as often idle ones are looked for. Less if
/// [`Options::series_idle_after`](crate::options::Options::series_idle_after) is less.
const GRACE: Duration = Duration::from_secs(600);
/// Series that are looked at, or made unknown, while commits wait: well below a millisecond.
const SLICE: u32 = 1 << 16;
const UNLINK_SLICE: usize = 2048;

/// How far the series are that are on their way out.
#[derive(Default)]
pub(super) struct IdleSeries {
    stage: Stage,
    /// When idle ones were looked for last.
    marked_at: Option<Duration>,
    /// Pins of before the last step. The next waits until nobody has one of them.
    pins: Vec<Pin>,
}

#[derive(Default)]
enum Stage {
    #[default]
    None,
    Marked(RoaringBitmap),
    Unknown(RoaringBitmap),
}

impl IdleSeries {
    /// Whether all who began before the last step are done.
    fn is_unpinned(&mut self) -> bool {
        self.pins.retain(|pin| Arc::strong_count(pin) > 1);
        self.pins.is_empty()
    }
}

impl Shared {
    /// Takes series that stopped as many steps further as can be taken now.
    pub(super) fn drop_idle(&self, idle: &mut IdleSeries) {
        let now = self.clock.monotonic();
        let grace = GRACE.min(self.options.series_idle_after);
        loop {
            let is_over = idle.marked_at.is_none_or(|at| now.saturating_sub(at) >= grace);
            let series = match std::mem::take(&mut idle.stage) {
                Stage::None if is_over => {
                    let Some(found) = self.find_idle() else { return };
                    idle.marked_at = Some(now);
                    let marked = self.registry.mark(&found);
                    if marked.is_empty() {
                        return;
                    }
                    Stage::Marked(marked)
                }
                Stage::Marked(series) if is_over && idle.is_unpinned() => match self.unlink(&series) {
                    Some(unknown) => Stage::Unknown(unknown),
                    None => return,
                },
                Stage::Unknown(series) if idle.is_unpinned() => {
                    self.registry.remove(&self.order, &series);
                    self.counters.series_dropped.add(series.len());
                    // Looking for more is for the next round.
                    return;
                }
                stage => {
                    idle.stage = stage;
                    return;
                }
            };
            idle.stage = series;
            idle.pins.push(self.registry.turn_pin());
        }
    }

    /// All series that are idle now; nothing if nobody can tell.
    fn find_idle(&self) -> Option<RoaringBitmap> {
        let newest = match self.newest.load(Ordering::Relaxed) {
            // No sample is left of any.
            i64::MIN => i64::MAX - 1,
            newest => newest.saturating_sub(millis(self.options.series_idle_after)),
        };
        let mut found = RoaringBitmap::new();
        for start in (0..self.registry.len()).step_by(SLICE as usize) {
            let range = start..start.saturating_add(SLICE);
            found |= self.ask_commit_thread(|answer| Message::FindIdle(range, newest, answer))?;
        }
        Some(found)
    }

    fn unlink(&self, series: &RoaringBitmap) -> Option<RoaringBitmap> {
        let all: Vec<u32> = series.iter().collect();
        let mut unknown = RoaringBitmap::new();
        for slice in all.chunks(UNLINK_SLICE) {
            let slice = slice.iter().copied().collect();
            unknown |= self.ask_commit_thread(|answer| Message::Unlink(slice, answer))?;
        }
        Some(unknown)
    }

    /// Nothing if the store is being closed.
    fn ask_commit_thread(
        &self,
        message: impl FnOnce(SyncSender<RoaringBitmap>) -> Message,
    ) -> Option<RoaringBitmap> {
        let queue = self.queue.read().clone()?;
        let (sender, receiver) = sync_channel(1);
        self.send(&queue, message(sender)).ok()?;
        drop(queue);
        self.wait(&receiver)
    }
}
