//! The one table of functions and aggregators: parser, checker, planner and documentation all read it.

use crate::value_type::ValueType;
use ValueType::{Matrix, Scalar, String as Text, Vector};

/// What there is to know about a function without calling it.
#[derive(Debug)]
pub struct Function {
    /// Which one.
    pub id: FunctionId,
    /// Its name in queries.
    pub name: &'static str,
    /// Types of the arguments; arguments past the end have the type of the last.
    pub args: &'static [ValueType],
    /// The fewest arguments it takes.
    pub args_min: usize,
    /// The most arguments it takes; `None` means any number.
    pub args_max: Option<usize>,
    /// What it yields.
    pub returns: ValueType,
    /// Whether it may still change or go away.
    pub experimental: bool,
    /// One sentence for the documentation page.
    pub doc: &'static str,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Function {}

impl Function {
    /// The function of this name (names are case-sensitive).
    pub fn by_name(name: &str) -> Option<&'static Self> {
        let at = FUNCTIONS.binary_search_by_key(&name, |f| f.name).ok()?;
        FUNCTIONS.get(at)
    }

    /// The type the argument at `index` must have, `None` if the function takes no arguments at all.
    pub fn arg(&self, index: usize) -> Option<ValueType> {
        self.args.get(index).or(self.args.last()).copied()
    }
}

macro_rules! functions {
    ($($id:ident, $name:literal, [$($arg:ident),*], $min:literal, $max:expr, $returns:ident, $experimental:literal, $doc:literal;)*) => {
        /// Which function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FunctionId {
            $(#[doc = $doc] $id,)*
        }

        /// All functions, sorted by name.
        pub static FUNCTIONS: &[Function] = &[
            $(Function {
                id: FunctionId::$id,
                name: $name,
                args: &[$($arg),*],
                args_min: $min,
                args_max: $max,
                returns: $returns,
                experimental: $experimental,
                doc: $doc,
            },)*
        ];
    };
}

// Identifier, name, argument types, fewest and most arguments, result, experimental, sentence.
functions! {
    Abs, "abs", [Vector], 1, Some(1), Vector, false, "The absolute value of each sample.";
    Absent, "absent", [Vector], 1, Some(1), Vector, false, "1 if the vector is empty, else nothing.";
    AbsentOverTime, "absent_over_time", [Matrix], 1, Some(1), Vector, false, "1 if no series has a sample in the window, else nothing.";
    Acos, "acos", [Vector], 1, Some(1), Vector, false, "The arc cosine of each sample, in radians.";
    Acosh, "acosh", [Vector], 1, Some(1), Vector, false, "The inverse hyperbolic cosine of each sample.";
    Asin, "asin", [Vector], 1, Some(1), Vector, false, "The arc sine of each sample, in radians.";
    Asinh, "asinh", [Vector], 1, Some(1), Vector, false, "The inverse hyperbolic sine of each sample.";
    Atan, "atan", [Vector], 1, Some(1), Vector, false, "The arc tangent of each sample, in radians.";
    Atanh, "atanh", [Vector], 1, Some(1), Vector, false, "The inverse hyperbolic tangent of each sample.";
    AvgOverTime, "avg_over_time", [Matrix], 1, Some(1), Vector, false, "The mean of the samples in each window.";
    Ceil, "ceil", [Vector], 1, Some(1), Vector, false, "Each sample rounded up to an integer.";
    Changes, "changes", [Matrix], 1, Some(1), Vector, false, "How often the value changes within each window.";
    Clamp, "clamp", [Vector, Scalar, Scalar], 3, Some(3), Vector, false, "Each sample held between a lower and an upper bound.";
    ClampMax, "clamp_max", [Vector, Scalar], 2, Some(2), Vector, false, "Each sample held to at most the bound.";
    ClampMin, "clamp_min", [Vector, Scalar], 2, Some(2), Vector, false, "Each sample held to at least the bound.";
    Cos, "cos", [Vector], 1, Some(1), Vector, false, "The cosine of each sample, which is in radians.";
    Cosh, "cosh", [Vector], 1, Some(1), Vector, false, "The hyperbolic cosine of each sample.";
    CountOverTime, "count_over_time", [Matrix], 1, Some(1), Vector, false, "How many samples each window holds.";
    DayOfMonth, "day_of_month", [Vector], 0, Some(1), Vector, false, "The day of the month (1 to 31) of each sample taken as a Unix time, in UTC.";
    DayOfWeek, "day_of_week", [Vector], 0, Some(1), Vector, false, "The day of the week (0 is Sunday) of each sample taken as a Unix time, in UTC.";
    DayOfYear, "day_of_year", [Vector], 0, Some(1), Vector, false, "The day of the year (1 to 366) of each sample taken as a Unix time, in UTC.";
    DaysInMonth, "days_in_month", [Vector], 0, Some(1), Vector, false, "How many days the month has of each sample taken as a Unix time, in UTC.";
    Deg, "deg", [Vector], 1, Some(1), Vector, false, "Radians to degrees.";
    Delta, "delta", [Matrix], 1, Some(1), Vector, false, "The difference between the borders of each window of a gauge, extrapolated.";
    Deriv, "deriv", [Matrix], 1, Some(1), Vector, false, "The slope per second of each window of a gauge, by linear regression.";
    DoubleExponentialSmoothing, "double_exponential_smoothing", [Matrix, Scalar, Scalar], 3, Some(3), Vector, true, "Each window smoothed with a level factor and a trend factor.";
    End, "end", [], 0, Some(0), Scalar, true, "The Unix time of the last step of the query.";
    Exp, "exp", [Vector], 1, Some(1), Vector, false, "e to the power of each sample.";
    FirstOverTime, "first_over_time", [Matrix], 1, Some(1), Vector, false, "The oldest sample in each window.";
    Floor, "floor", [Vector], 1, Some(1), Vector, false, "Each sample rounded down to an integer.";
    HistogramAvg, "histogram_avg", [Vector], 1, Some(1), Vector, false, "The mean observation of each native histogram.";
    HistogramCount, "histogram_count", [Vector], 1, Some(1), Vector, false, "The number of observations of each native histogram.";
    HistogramFraction, "histogram_fraction", [Scalar, Scalar, Vector], 3, Some(3), Vector, false, "The estimated share of observations between two bounds.";
    HistogramQuantile, "histogram_quantile", [Scalar, Vector], 2, Some(2), Vector, false, "The estimated quantile of each histogram, classic or native.";
    HistogramQuantiles, "histogram_quantiles", [Vector, Text, Scalar], 3, Some(12), Vector, true, "Several quantiles of each histogram, told apart by the label named second.";
    HistogramStddev, "histogram_stddev", [Vector], 1, Some(1), Vector, false, "The estimated standard deviation of the observations of each native histogram.";
    HistogramStdvar, "histogram_stdvar", [Vector], 1, Some(1), Vector, false, "The estimated variance of the observations of each native histogram.";
    HistogramSum, "histogram_sum", [Vector], 1, Some(1), Vector, false, "The sum of observations of each native histogram.";
    Hour, "hour", [Vector], 0, Some(1), Vector, false, "The hour (0 to 23) of each sample taken as a Unix time, in UTC.";
    Idelta, "idelta", [Matrix], 1, Some(1), Vector, false, "The difference of the last two samples of each window.";
    Increase, "increase", [Matrix], 1, Some(1), Vector, false, "How much a counter grew over each window, extrapolated to its borders.";
    Info, "info", [Vector, Vector], 1, Some(2), Vector, true, "Each series with the labels of its info series added.";
    Irate, "irate", [Matrix], 1, Some(1), Vector, false, "The growth per second of a counter between the last two samples of each window.";
    LabelJoin, "label_join", [Vector, Text, Text, Text], 3, None, Vector, false, "Each series with a label set to other labels joined by a separator.";
    LabelReplace, "label_replace", [Vector, Text, Text, Text, Text], 5, Some(5), Vector, false, "Each series with a label set from a regular expression match on another.";
    LastOverTime, "last_over_time", [Matrix], 1, Some(1), Vector, false, "The newest sample in each window.";
    Ln, "ln", [Vector], 1, Some(1), Vector, false, "The natural logarithm of each sample.";
    Log10, "log10", [Vector], 1, Some(1), Vector, false, "The decimal logarithm of each sample.";
    Log2, "log2", [Vector], 1, Some(1), Vector, false, "The binary logarithm of each sample.";
    MadOverTime, "mad_over_time", [Matrix], 1, Some(1), Vector, true, "The median absolute deviation of each window.";
    MaxOf, "max_of", [Scalar, Scalar], 2, Some(2), Scalar, true, "The greater of two scalars.";
    MaxOverTime, "max_over_time", [Matrix], 1, Some(1), Vector, false, "The greatest sample in each window.";
    MinOf, "min_of", [Scalar, Scalar], 2, Some(2), Scalar, true, "The smaller of two scalars.";
    MinOverTime, "min_over_time", [Matrix], 1, Some(1), Vector, false, "The smallest sample in each window.";
    Minute, "minute", [Vector], 0, Some(1), Vector, false, "The minute (0 to 59) of each sample taken as a Unix time, in UTC.";
    Month, "month", [Vector], 0, Some(1), Vector, false, "The month (1 to 12) of each sample taken as a Unix time, in UTC.";
    Pi, "pi", [], 0, Some(0), Scalar, false, "The number pi.";
    PredictLinear, "predict_linear", [Matrix, Scalar], 2, Some(2), Vector, false, "The value a gauge will have so many seconds from now, by linear regression.";
    PresentOverTime, "present_over_time", [Matrix], 1, Some(1), Vector, false, "1 for each series with a sample in the window.";
    QuantileOverTime, "quantile_over_time", [Scalar, Matrix], 2, Some(2), Vector, false, "The quantile of the samples in each window.";
    Rad, "rad", [Vector], 1, Some(1), Vector, false, "Degrees to radians.";
    Range, "range", [], 0, Some(0), Scalar, true, "The seconds from the first step of the query to the last.";
    Rate, "rate", [Matrix], 1, Some(1), Vector, false, "The growth per second of a counter over each window, extrapolated to its borders.";
    Resets, "resets", [Matrix], 1, Some(1), Vector, false, "How often a counter was reset within each window.";
    Round, "round", [Vector, Scalar], 1, Some(2), Vector, false, "Each sample rounded to the nearest multiple (of 1 unless given).";
    Scalar, "scalar", [Vector], 1, Some(1), Scalar, false, "The value of the only series of a vector, else NaN.";
    Sgn, "sgn", [Vector], 1, Some(1), Vector, false, "The sign of each sample: -1, 0 or 1.";
    Sin, "sin", [Vector], 1, Some(1), Vector, false, "The sine of each sample, which is in radians.";
    Sinh, "sinh", [Vector], 1, Some(1), Vector, false, "The hyperbolic sine of each sample.";
    Sort, "sort", [Vector], 1, Some(1), Vector, false, "The series by value, smallest first.";
    SortByLabel, "sort_by_label", [Vector, Text], 1, None, Vector, true, "The series by the values of labels, in natural order.";
    SortByLabelDesc, "sort_by_label_desc", [Vector, Text], 1, None, Vector, true, "The series by the values of labels, in reverse natural order.";
    SortDesc, "sort_desc", [Vector], 1, Some(1), Vector, false, "The series by value, greatest first.";
    Sqrt, "sqrt", [Vector], 1, Some(1), Vector, false, "The square root of each sample.";
    Start, "start", [], 0, Some(0), Scalar, true, "The Unix time of the first step of the query.";
    StartTimestamp, "start_timestamp", [Vector], 1, Some(1), Vector, true, "The Unix time at which the counter of each sample began.";
    StddevOverTime, "stddev_over_time", [Matrix], 1, Some(1), Vector, false, "The population standard deviation of each window.";
    StdvarOverTime, "stdvar_over_time", [Matrix], 1, Some(1), Vector, false, "The population variance of each window.";
    Step, "step", [], 0, Some(0), Scalar, true, "The seconds between two steps of the query.";
    SumOverTime, "sum_over_time", [Matrix], 1, Some(1), Vector, false, "The sum of the samples in each window.";
    Tan, "tan", [Vector], 1, Some(1), Vector, false, "The tangent of each sample, which is in radians.";
    Tanh, "tanh", [Vector], 1, Some(1), Vector, false, "The hyperbolic tangent of each sample.";
    Time, "time", [], 0, Some(0), Scalar, false, "The Unix time of the step.";
    Timestamp, "timestamp", [Vector], 1, Some(1), Vector, false, "The Unix time of each sample itself.";
    TsOfFirstOverTime, "ts_of_first_over_time", [Matrix], 1, Some(1), Vector, true, "The Unix time of the oldest sample in each window.";
    TsOfLastOverTime, "ts_of_last_over_time", [Matrix], 1, Some(1), Vector, true, "The Unix time of the newest sample in each window.";
    TsOfMaxOverTime, "ts_of_max_over_time", [Matrix], 1, Some(1), Vector, true, "The Unix time of the last greatest sample in each window.";
    TsOfMinOverTime, "ts_of_min_over_time", [Matrix], 1, Some(1), Vector, true, "The Unix time of the last smallest sample in each window.";
    Vector, "vector", [Scalar], 1, Some(1), Vector, false, "The scalar as a vector of one series without labels.";
    Year, "year", [Vector], 0, Some(1), Vector, false, "The year of each sample taken as a Unix time, in UTC.";
}

/// What there is to know about an aggregator without running it.
#[derive(Debug)]
pub struct Aggregator {
    /// Which one.
    pub id: AggregatorId,
    /// Its name in queries, lower case (queries may write it in any case).
    pub name: &'static str,
    /// The type of its parameter, if it takes one.
    pub param: Option<ValueType>,
    /// Whether it may still change or go away.
    pub experimental: bool,
    /// One sentence for the documentation page.
    pub doc: &'static str,
}

impl PartialEq for Aggregator {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Aggregator {}

impl Aggregator {
    /// The aggregator of this name in any case.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        AGGREGATORS.iter().find(|a| a.name.eq_ignore_ascii_case(name))
    }
}

macro_rules! aggregators {
    ($($id:ident, $name:literal, $param:expr, $experimental:literal, $doc:literal;)*) => {
        /// Which aggregator.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum AggregatorId {
            $(#[doc = $doc] $id,)*
        }

        /// All aggregators, sorted by name.
        pub static AGGREGATORS: &[Aggregator] = &[
            $(Aggregator {
                id: AggregatorId::$id,
                name: $name,
                param: $param,
                experimental: $experimental,
                doc: $doc,
            },)*
        ];
    };
}

// Identifier, name, parameter, experimental, sentence.
aggregators! {
    Avg, "avg", None, false, "The mean of each group.";
    Bottomk, "bottomk", Some(Scalar), false, "The k series with the smallest values of each group.";
    Count, "count", None, false, "How many series each group has.";
    CountValues, "count_values", Some(Text), false, "How many series have the same value, the value in the label named.";
    Group, "group", None, false, "1 for each group.";
    LimitRatio, "limit_ratio", Some(Scalar), true, "A share of the series of each group, always the same ones.";
    Limitk, "limitk", Some(Scalar), true, "Any k series of each group.";
    Max, "max", None, false, "The greatest value of each group.";
    Min, "min", None, false, "The smallest value of each group.";
    Quantile, "quantile", Some(Scalar), false, "The quantile over the values of each group.";
    Stddev, "stddev", None, false, "The population standard deviation of each group.";
    Stdvar, "stdvar", None, false, "The population variance of each group.";
    Sum, "sum", None, false, "The sum of each group.";
    Topk, "topk", Some(Scalar), false, "The k series with the greatest values of each group.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_consistent() {
        assert!(FUNCTIONS.is_sorted_by_key(|f| f.name));
        assert!(AGGREGATORS.is_sorted_by_key(|a| a.name));
        assert_eq!(FUNCTIONS.len(), 90);
        for f in FUNCTIONS {
            assert_eq!(Function::by_name(f.name), Some(f));
            assert!(f.args_max.is_none_or(|max| max >= f.args_min && max >= f.args.len()), "{}", f.name);
            assert!(f.args_min <= f.args.len() && f.doc.ends_with('.'), "{}", f.name);
        }
        assert_eq!(Aggregator::by_name("TopK").map(|a| a.id), Some(AggregatorId::Topk));
        assert!(Function::by_name("holt_winters").is_none());
    }
}
