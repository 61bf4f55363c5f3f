//! What a leaf computes over the windows of one series. Hot path.

use super::scalar::Scalar;
use super::source::Scratch;
use crate::catalog::FunctionId;
use crate::column::Column;
use crate::math::extended;
use crate::math::extrema::{self, Extremum};
use crate::math::rate::{self, RateKind};
use crate::math::start_time::Started;
use crate::math::window::Windows;
use crate::math::{over_time, quantile, regression};
use crate::plan::{Grid, Window};
use kymo_storage::model::{Timestamp, is_stale};

/// A function from windows to values.
#[derive(Debug)]
pub(crate) enum Kernel {
    /// The newest sample, unless it is a staleness marker.
    Newest,
    /// Its time in seconds.
    NewestTime,
    /// Since when it counts, in seconds; 0 if that is not known.
    NewestStart,
    /// Its time in seconds if it is a float; a histogram stays what it is.
    FloatTime,
    Rate(RateKind),
    /// `irate` (for counters) or `idelta`.
    Instant {
        counter: bool,
    },
    Changes,
    Resets,
    Sum,
    Avg,
    Count,
    Present,
    First,
    Last,
    FirstTime,
    LastTime,
    Extremum(Extremum),
    /// Standard deviation (`root`) or variance.
    Spread {
        root: bool,
    },
    Quantile(Scalar),
    Deviation,
    Deriv,
    /// Seconds to look ahead, and the steps themselves.
    Predict(Scalar, Grid),
    /// Factors of level and trend.
    Smooth(Scalar, Scalar),
}

impl Kernel {
    /// Whether each step looks at one sample only.
    pub(crate) fn is_newest(&self) -> bool {
        matches!(self, Self::Newest | Self::NewestTime | Self::NewestStart | Self::FloatTime)
    }

    /// The kernel of a function of one range vector.
    pub(crate) fn of(id: FunctionId) -> Option<Self> {
        let rate = |counter, per_second| Self::Rate(RateKind { counter, per_second });
        let extremum = |max, time| Self::Extremum(Extremum { max, time });
        Some(match id {
            FunctionId::Rate => rate(true, true),
            FunctionId::Increase => rate(true, false),
            FunctionId::Delta => rate(false, false),
            FunctionId::Irate => Self::Instant { counter: true },
            FunctionId::Idelta => Self::Instant { counter: false },
            FunctionId::Changes => Self::Changes,
            FunctionId::Resets => Self::Resets,
            FunctionId::SumOverTime => Self::Sum,
            FunctionId::AvgOverTime => Self::Avg,
            FunctionId::CountOverTime => Self::Count,
            FunctionId::PresentOverTime => Self::Present,
            FunctionId::FirstOverTime => Self::First,
            FunctionId::LastOverTime => Self::Last,
            FunctionId::TsOfFirstOverTime => Self::FirstTime,
            FunctionId::TsOfLastOverTime => Self::LastTime,
            FunctionId::MaxOverTime => extremum(true, false),
            FunctionId::MinOverTime => extremum(false, false),
            FunctionId::TsOfMaxOverTime => extremum(true, true),
            FunctionId::TsOfMinOverTime => extremum(false, true),
            FunctionId::StddevOverTime => Self::Spread { root: true },
            FunctionId::StdvarOverTime => Self::Spread { root: false },
            FunctionId::MadOverTime => Self::Deviation,
            FunctionId::Deriv => Self::Deriv,
            _ => return None,
        })
    }

    /// Whether staleness markers count: only the newest sample's being one means something.
    pub(crate) fn sees_stale(&self) -> bool {
        matches!(self, Self::Newest | Self::NewestTime | Self::NewestStart | Self::FloatTime)
    }

    /// As [`Kernel::run`] for samples of which some have start timestamps: `starts` is as long as the samples. The answer is how
    /// many windows hold starts that contradict the samples.
    pub(crate) fn run_started(
        &self,
        windows: &Windows<'_>,
        starts: &[Timestamp],
        window: &Window,
        scratch: &mut Scratch,
        out: &mut Column,
    ) -> u64 {
        let started = Started { windows, starts };
        match (self, window.border) {
            (Self::Rate(kind), None) if kind.counter => {
                return started.extrapolated(*kind, &mut scratch.resets, out);
            }
            (Self::Instant { counter: true }, _) => started.instant(out),
            (Self::Resets, None) => {
                rate::count_pairs(windows, &mut scratch.counts, out, |i| started.is_reset(i));
            }
            (Self::Resets, Some(_)) => {
                extended::count_anchored(windows, &window.steps, out, |i| started.is_reset(i));
            }
            (Self::NewestStart, _) => newest(windows, |i, _| starts[i] as f64 / 1000.0, out),
            _ => self.run(windows, window, scratch, out),
        }
        0
    }

    /// Computes all steps. `window` says what was asked for if `windows` are wider.
    pub(crate) fn run(
        &self,
        windows: &Windows<'_>,
        window: &Window,
        scratch: &mut Scratch,
        out: &mut Column,
    ) {
        let steps = &window.steps;
        match (self, window.border) {
            (Self::Newest, Some(_)) => extended::smoothed_instant(windows, steps, out),
            (Self::Rate(kind), Some(border)) => extended::difference(windows, steps, border, *kind, out),
            (Self::Changes, Some(_)) => {
                let values = windows.values;
                extended::count_anchored(windows, steps, out, |i| rate::differ(values[i - 1], values[i]));
            }
            (Self::Resets, Some(_)) => {
                let values = windows.values;
                extended::count_anchored(windows, steps, out, |i| values[i] < values[i - 1]);
            }
            (Self::Newest, _) => newest(windows, |_, value| value, out),
            (Self::NewestTime | Self::FloatTime, _) => newest(windows, |i, _| seconds(windows, i), out),
            (Self::NewestStart, _) => newest(windows, |_, _| 0.0, out),
            (Self::Rate(kind), None) => rate::extrapolated(windows, *kind, &mut scratch.resets, out),
            (Self::Instant { counter }, _) => rate::instant(windows, *counter, out),
            (Self::Changes, None) => rate::changes(windows, &mut scratch.counts, out),
            (Self::Resets, None) => rate::resets(windows, &mut scratch.counts, out),
            (Self::Sum, _) => over_time::sum(windows, &mut scratch.sums, out),
            (Self::Avg, _) => over_time::avg(windows, &mut scratch.sums, out),
            (Self::Count, _) => over_time::count(windows, out),
            (Self::Present, _) => over_time::present(windows, out),
            (Self::First, _) => over_time::edge(windows, |w, first, _| w.values[first], out),
            (Self::Last, _) => over_time::edge(windows, |w, _, last| w.values[last], out),
            (Self::FirstTime, _) => over_time::edge(windows, |w, first, _| seconds(w, first), out),
            (Self::LastTime, _) => over_time::edge(windows, |w, _, last| seconds(w, last), out),
            (Self::Extremum(what), _) => extrema::over_time(windows, *what, &mut scratch.counts, out),
            (Self::Spread { root }, _) => over_time::spread(windows, *root, out),
            (Self::Quantile(q), _) => quantile::over_time(windows, |i| q.at(i), &mut scratch.numbers, out),
            (Self::Deviation, _) => quantile::deviation(windows, &mut scratch.numbers, out),
            (Self::Deriv, _) => regression::deriv(windows, out),
            (Self::Predict(ahead, grid), _) => {
                regression::predict(windows, |i| grid.time(i), |i| ahead.at(i), out);
            }
            (Self::Smooth(level, trend), _) => {
                regression::smooth(windows, |i| (level.at(i), trend.at(i)), out);
            }
        }
    }
}

fn seconds(windows: &Windows<'_>, index: usize) -> f64 {
    windows.timestamps[index] as f64 / 1000.0
}

fn newest(windows: &Windows<'_>, of: impl Fn(usize, f64) -> f64, out: &mut Column) {
    windows.each(1, |step, _, end| {
        let value = windows.values[end - 1];
        if !is_stale(value) {
            out.set(step, of(end - 1, value));
        }
    });
}
