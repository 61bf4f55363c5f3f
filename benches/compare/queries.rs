//! The ten queries.

/// Name, PromQL, and whether it is asked over the whole range (in 120 steps) or at its end.
pub(crate) type Query = (&'static str, &'static str, bool);

/// For the fleet of captures.
pub(crate) const REAL: [Query; 10] = [
    ("count all, instant", "count({job=~\".+\"})", false),
    ("count by name, instant", "count by (__name__) ({cluster=\"eu-west-1\"})", false),
    ("rate sum by job, instant", "sum by (job) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))", false),
    ("rate sum by instance", "sum by (instance) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))", true),
    ("rate sum, 1h window", "sum(rate(namedprocess_namegroup_context_switches_total[1h]))", true),
    (
        "gauge sum by group",
        "sum by (groupname) (namedprocess_namegroup_memory_bytes{memtype=\"resident\"})",
        true,
    ),
    (
        "max of max_over_time 30m",
        "max by (instance) (max_over_time(namedprocess_namegroup_num_threads[30m]))",
        true,
    ),
    (
        "topk of rates",
        "topk(5, sum by (groupname) (rate(namedprocess_namegroup_read_bytes_total[5m])))",
        true,
    ),
    (
        "ratio with matching",
        "sum by (instance) (rate(vm_http_request_errors_total[5m])) / on (instance) sum by (instance) (rate(vm_http_requests_total[5m]))",
        true,
    ),
    ("quantile over regex", "quantile by (job) (0.9, {__name__=~\"go_memstats_.*_bytes\"})", true),
];

/// For the synthetic load.
pub(crate) const SYNTHETIC: [Query; 10] = [
    ("count all, instant", "count({job=~\".+\"})", false),
    ("count by name, instant", "count by (__name__) ({cluster=\"eu-west-1\"})", false),
    ("rate sum by job, instant", "sum by (job) (rate(load_metric_1_total[5m]))", false),
    ("rate sum by instance", "sum by (instance) (rate(load_metric_2_total[5m]))", true),
    ("rate sum, 1h window", "sum(rate(load_metric_3_total[1h]))", true),
    ("gauge sum by instance", "sum by (instance) (load_metric_4)", true),
    ("max of max_over_time 30m", "max by (instance) (max_over_time(load_metric_5[30m]))", true),
    ("topk of rates", "topk(5, sum by (instance) (rate(load_metric_6_total[5m])))", true),
    (
        "ratio with matching",
        "sum by (instance) (load_metric_7) / on (instance) sum by (instance) (load_metric_8)",
        true,
    ),
    ("quantile over regex", "quantile by (job) (0.9, {__name__=~\"load_metric_9.\"})", true),
];
