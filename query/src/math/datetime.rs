//! Parts of a UTC date, for any Unix time.

use kymo_storage::model::Timestamp;

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatePart {
    Minute,
    Hour,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

/// Proleptic Gregorian year, month and day of a day counted from 1970-01-01, after Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days before each month of a common year, and of the whole year.
const DAYS_BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// Before this second the calendar of Go, which Prometheus uses, goes round and continues 2^64 seconds later.
const FIRST_SECOND: i128 = -9_223_372_028_741_760_000;

/// Whole seconds as Prometheus gets them on x86-64: what no `i64` can hold, `NaN` too, becomes the smallest of them.
fn whole(seconds: f64) -> i128 {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&seconds);
    let seconds = if fits { seconds as i128 } else { i128::from(i64::MIN) };
    if seconds < FIRST_SECOND { seconds + (1 << 64) } else { seconds }
}

/// The part of the date `seconds` after the epoch (a fraction is cut off).
pub(crate) fn part(seconds: f64, part: DatePart) -> f64 {
    let seconds = whole(seconds);
    let days = seconds.div_euclid(86_400) as i64;
    let second_of_day = seconds.rem_euclid(86_400) as i64;
    let (year, month, day) = civil(days);
    let at = (month - 1).clamp(0, 11) as usize;
    let result = match part {
        DatePart::Minute => second_of_day / 60 % 60,
        DatePart::Hour => second_of_day / 3600,
        DatePart::DayOfMonth => day,
        DatePart::DayOfWeek => (days + 4).rem_euclid(7),
        DatePart::DayOfYear => DAYS_BEFORE[at] + day + i64::from(month > 2 && is_leap(year)),
        DatePart::DaysInMonth => {
            DAYS_BEFORE[at + 1] - DAYS_BEFORE[at] + i64::from(month == 2 && is_leap(year))
        }
        DatePart::Month => month,
        DatePart::Year => year,
    };
    result as f64
}

/// `2006-01-02T15:04:05Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let seconds = time.div_euclid(1000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        // 2024-02-29T23:59:58Z, a Thursday.
        let t = 1_709_251_198.0;
        let cases = [
            (DatePart::Minute, 59.0),
            (DatePart::Hour, 23.0),
            (DatePart::DayOfMonth, 29.0),
            (DatePart::DayOfWeek, 4.0),
            (DatePart::DayOfYear, 60.0),
            (DatePart::DaysInMonth, 29.0),
            (DatePart::Month, 2.0),
            (DatePart::Year, 2024.0),
        ];
        for (which, expected) in cases {
            assert_eq!(part(t, which), expected, "{which:?}");
        }
        assert_eq!(rfc3339(1_709_251_198_000), "2024-02-29T23:59:58Z");
        assert_eq!(part(-1.0, DatePart::Year), 1969.0);
        assert_eq!(part(-1.0, DatePart::DayOfYear), 365.0);
        for odd in [f64::NAN, f64::INFINITY, -1e300] {
            assert_eq!(part(odd, DatePart::Year), 292_277_026_596.0);
            assert_eq!((part(odd, DatePart::DayOfMonth), part(odd, DatePart::Minute)), (4.0, 30.0));
        }
        assert_eq!((part(-9e18, DatePart::DayOfYear), part(9e18, DatePart::Hour)), (256.0, 16.0));
    }
}
