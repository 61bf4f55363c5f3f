//! The queries of the suite, as data.

/// Which fleet a case is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Many series over an hour.
    Wide,
    /// Fewer series over a day.
    Long,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// A query at the end of the fleet.
    Instant(&'static str),
    /// A query over all of the fleet, in so many steps.
    Range(&'static str, i64),
    /// A path below `/api/v1/` and the selector it is restricted to, if any.
    Labels(&'static str, &'static str),
}

/// One case.
pub(crate) struct Case {
    /// Its class in the table.
    pub(crate) class: &'static str,
    /// Whom it asks.
    pub(crate) on: On,
    /// What.
    pub(crate) ask: Ask,
}

impl Case {
    /// What the table shows.
    pub(crate) fn text(&self) -> String {
        match self.ask {
            Ask::Instant(query) | Ask::Range(query, _) => query.to_owned(),
            Ask::Labels(path, "") => path.to_owned(),
            Ask::Labels(path, selector) => format!("{path}?match[]={selector}"),
        }
    }
}

const fn instant(class: &'static str, on: On, query: &'static str) -> Case {
    Case { class, on, ask: Ask::Instant(query) }
}

const fn range(class: &'static str, on: On, query: &'static str, steps: i64) -> Case {
    Case { class, on, ask: Ask::Range(query, steps) }
}

const fn labels(on: On, path: &'static str, selector: &'static str) -> Case {
    Case { class: "label APIs", on, ask: Ask::Labels(path, selector) }
}

const INSTANT: &str = "instant";
const DASHBOARD: &str = "dashboard";
const FLEET: &str = "fleet-wide";
const REGEX: &str = "regex";
const LONG: &str = "long windows";
const SUBQUERY: &str = "subquery";
const HISTOGRAM: &str = "histogram quantile";
const JOIN: &str = "join";

use On::{Long, Wide};

/// All cases.
pub(crate) const CASES: &[Case] = &[
    instant(INSTANT, Wide, "count({job=~\".+\"})"),
    instant(INSTANT, Wide, "count by (__name__) ({cluster=\"eu-west-1\"})"),
    instant(INSTANT, Wide, "namedprocess_namegroup_num_procs"),
    instant(INSTANT, Wide, "sum by (job) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))"),
    instant(INSTANT, Wide, "topk(10, namedprocess_namegroup_memory_bytes{memtype=\"resident\"})"),
    range(DASHBOARD, Wide, "namedprocess_namegroup_memory_bytes{instance=\"10.1.0.2:9256\"}", 120),
    range(DASHBOARD, Wide, "sum by (instance) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))", 120),
    range(
        DASHBOARD,
        Wide,
        "sum by (groupname) (namedprocess_namegroup_memory_bytes{memtype=\"resident\"})",
        120,
    ),
    range(
        DASHBOARD,
        Wide,
        "topk(5, sum by (groupname) (rate(namedprocess_namegroup_read_bytes_total[5m])))",
        120,
    ),
    range(DASHBOARD, Long, "sum by (zone) (rate(namedprocess_namegroup_cpu_seconds_total[10m]))", 288),
    range(DASHBOARD, Long, "avg by (path) (irate(vm_http_requests_total[5m]))", 288),
    range(FLEET, Wide, "count by (job, zone) ({cluster=\"eu-west-1\"})", 60),
    range(FLEET, Wide, "sum by (zone) (flag)", 120),
    range(FLEET, Wide, "quantile by (job) (0.9, namedprocess_namegroup_open_filedesc)", 120),
    range(FLEET, Wide, "stddev by (groupname) (namedprocess_namegroup_num_threads)", 120),
    range(FLEET, Long, "max by (job) ({__name__=~\"go_memstats_.+\"})", 288),
    instant(REGEX, Wide, "count by (instance) ({groupname=~\".*sh|k.*|.*d\"})"),
    range(
        REGEX,
        Wide,
        "sum by (groupname) (rate(namedprocess_namegroup_cpu_seconds_total{groupname=~\"[a-m].*\"}[5m]))",
        120,
    ),
    range(
        REGEX,
        Long,
        "sum by (instance) (rate(vm_http_requests_total{path!~\"/api/.+|/metrics\"}[10m]))",
        288,
    ),
    range(LONG, Long, "sum(rate(namedprocess_namegroup_context_switches_total[1h]))", 288),
    range(LONG, Long, "max by (instance) (max_over_time(namedprocess_namegroup_num_threads[6h]))", 288),
    range(
        LONG,
        Long,
        "avg by (groupname) (avg_over_time(namedprocess_namegroup_memory_bytes{memtype=\"resident\"}[6h]))",
        96,
    ),
    range(
        LONG,
        Long,
        "max by (instance) (quantile_over_time(0.95, namedprocess_namegroup_open_filedesc[1h]))",
        48,
    ),
    instant(LONG, Long, "sum by (instance) (increase(vm_http_requests_total[1d]))"),
    instant(LONG, Long, "sum by (groupname) (avg_over_time(namedprocess_namegroup_memory_bytes[1d]))"),
    instant(LONG, Long, "max by (groupname) (stddev_over_time(namedprocess_namegroup_num_threads[1d]))"),
    range(
        SUBQUERY,
        Long,
        "max_over_time(sum by (instance) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))[1h:1m])",
        288,
    ),
    instant(
        SUBQUERY,
        Long,
        "max by (groupname) (max_over_time(rate(namedprocess_namegroup_cpu_seconds_total[5m])[1d:5m]))",
    ),
    range(SUBQUERY, Wide, "avg_over_time((sum by (zone) (namedprocess_namegroup_num_threads))[10m:1m])", 60),
    instant(
        HISTOGRAM,
        Wide,
        "histogram_quantile(0.99, sum by (le, zone) (rate(go_sched_latencies_seconds_bucket[5m])))",
    ),
    range(HISTOGRAM, Wide, "histogram_quantile(0.9, rate(go_gc_pauses_seconds_bucket[10m]))", 120),
    range(
        HISTOGRAM,
        Long,
        "histogram_quantile(0.99, sum by (le, instance) (rate(go_sched_latencies_seconds_bucket[10m])))",
        288,
    ),
    range(
        JOIN,
        Wide,
        "sum by (instance) (rate(vm_http_request_errors_total[5m])) / on (instance) sum by (instance) (rate(vm_http_requests_total[5m]))",
        120,
    ),
    range(
        JOIN,
        Wide,
        "rate(namedprocess_namegroup_cpu_seconds_total{mode=\"user\"}[5m]) / on (instance, groupname) group_left () namedprocess_namegroup_num_procs",
        60,
    ),
    range(
        JOIN,
        Wide,
        "count by (zone) (namedprocess_namegroup_num_threads and on (instance, groupname) (namedprocess_namegroup_num_procs > 2))",
        120,
    ),
    labels(Wide, "labels", ""),
    labels(Wide, "labels", "{job=\"vm\"}"),
    labels(Wide, "label/__name__/values", ""),
    labels(Wide, "label/groupname/values", ""),
    labels(Wide, "label/instance/values", "namedprocess_namegroup_num_procs"),
    labels(Wide, "series", "namedprocess_namegroup_cpu_seconds_total"),
];
