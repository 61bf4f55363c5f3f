//! The parts of the language that can be switched on and off, under the names Prometheus gives them.

use super::EngineOptions;
use std::fmt;
use std::str::FromStr;

/// A part of the language that has a switch.
#[derive(Debug)]
pub struct Feature {
    /// Its name, that of Prometheus' `--enable-feature`.
    pub name: &'static str,
    /// Whether it is on unless something else is said. Off are those that change answers of queries without them.
    pub default: bool,
    /// One sentence for the documentation page.
    pub doc: &'static str,
    switch: fn(&mut EngineOptions) -> &mut bool,
}

/// All of them, sorted by name.
pub static FEATURES: &[Feature] = &[
    Feature {
        name: "promql-binop-fill-modifiers",
        default: true,
        doc: "`fill`, `fill_left` and `fill_right` of binary operators.",
        switch: |options| &mut options.fill_modifiers,
    },
    Feature {
        name: "promql-delayed-name-removal",
        default: false,
        doc: "Names of metrics are dropped at the end of a query instead of at each operation.",
        switch: |options| &mut options.delayed_name_removal,
    },
    Feature {
        name: "promql-duration-expr",
        default: true,
        doc: "Arithmetic in the durations of ranges, subqueries and offsets.",
        switch: |options| &mut options.duration_expressions,
    },
    Feature {
        name: "promql-experimental-functions",
        default: true,
        doc: "Functions and aggregators that may still change.",
        switch: |options| &mut options.experimental_functions,
    },
    Feature {
        name: "promql-extended-range-selectors",
        default: true,
        doc: "The modifiers `anchored` and `smoothed`.",
        switch: |options| &mut options.extended_ranges,
    },
    Feature {
        name: "type-and-unit-labels",
        default: false,
        doc: "Whether `rate` and `increase` suit a metric is told by its label `__type__`, not by its name.",
        switch: |options| &mut options.type_and_unit_labels,
    },
    Feature {
        name: "use-start-timestamps",
        default: false,
        doc: "`rate`, `increase`, `irate` and `resets` know since when each sample counts, and `start_timestamp` tells.",
        switch: |options| &mut options.use_start_timestamps,
    },
];

/// Which features are switched, and how: a list such as `use-start-timestamps,no-promql-duration-expr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    named: Vec<(&'static str, bool)>,
}

impl Switches {
    /// `options` with the features of the list switched; of two mentions of one the later counts.
    pub fn apply(&self, mut options: EngineOptions) -> EngineOptions {
        for (name, on) in &self.named {
            for feature in FEATURES.iter().filter(|feature| feature.name == *name) {
                *(feature.switch)(&mut options) = *on;
            }
        }
        options
    }
}

/// A name that no feature has. `Display` lists those there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFeature {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown feature {:?}; known are", self.name)?;
        for (index, feature) in FEATURES.iter().enumerate() {
            let (comma, default) =
                (if index == 0 { "" } else { "," }, if feature.default { "on" } else { "off" });
            write!(f, "{comma} {} ({default})", feature.name)?;
        }
        write!(f, "; no-NAME switches one off")
    }
}

impl std::error::Error for UnknownFeature {}

impl FromStr for Switches {
    type Err = UnknownFeature;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let mut named = Vec::new();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, on) = word.strip_prefix("no-").map_or((word, true), |name| (name, false));
            let feature = FEATURES.iter().find(|feature| feature.name == name);
            let feature = feature.ok_or_else(|| UnknownFeature { name: name.to_owned() })?;
            named.push((feature.name, on));
        }
        Ok(Self { named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_engine() {
        assert!(FEATURES.is_sorted_by_key(|feature| feature.name));
        let mut options = EngineOptions::default();
        for feature in FEATURES {
            assert_eq!(*(feature.switch)(&mut options), feature.default, "{}", feature.name);
        }
    }

    #[test]
    fn a_list_switches() {
        let switched = |list: &str| list.parse::<Switches>().unwrap().apply(EngineOptions::default());
        for feature in FEATURES {
            let mut on = switched(feature.name);
            assert!(*(feature.switch)(&mut on), "{}", feature.name);
            let mut off = switched(&format!("{0}, no-{0} ,", feature.name));
            assert!(!*(feature.switch)(&mut off), "{}", feature.name);
        }
        assert!(!switched("").use_start_timestamps);
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = "promql-binop-fill-modifiers,no-promql-foo".parse::<Switches>().unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("unknown feature \"promql-foo\"; known are promql-binop-fill-modifiers (on), ")
        );
        assert!(text.ends_with(" use-start-timestamps (off); no-NAME switches one off"), "{text}");
    }
}
