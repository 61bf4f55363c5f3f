"""Records with the OpenTelemetry SDK, exports by OTLP over HTTP, and prints what was recorded.

Usage: opentelemetry_sdk.py URL cumulative|delta [gzip]

Prints one JSON object: `instant`, queries and the series each must find, as {query: [[labels, value], ...]};
`observed`, the values behind each native histogram; `exemplars`, the trace of each by query.
"""

import json
import logging
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.metrics import Observation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

url, temporality, *rest = sys.argv[1:]
complaints = []


class Complaints(logging.Handler):
    """What the SDK only logs, such as a partial success, is a failure here."""

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            complaints.append(record.getMessage())


logging.getLogger().addHandler(Complaints())
results = []


class Exporter(OTLPMetricExporter):
    def export(self, *arguments, **named):
        results.append(super().export(*arguments, **named))
        return results[-1]


preferred = {}
if temporality == "delta":
    delta = AggregationTemporality.DELTA
    preferred = {Counter: delta, ObservableCounter: delta, Histogram: delta}
exporter = Exporter(
    endpoint=url,
    timeout=20,
    compression=Compression.Gzip if rest else Compression.NoCompression,
    preferred_temporality=preferred,
)
# Only `force_flush` exports.
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
bounds = [0.1, 0.5, 1]
provider = MeterProvider(
    [reader],
    resource=Resource({
        "service.name": "shop",
        "service.namespace": "eu",
        "service.instance.id": temporality,
        "host.name": "machine-1",
        "cloud.zones": ["a", "b"],
    }),
    views=[
        View(instrument_name="request.duration", aggregation=ExplicitBucketHistogramAggregation(bounds)),
        View(instrument_name="payload", aggregation=ExponentialBucketHistogramAggregation()),
    ],
)
meter = provider.get_meter("library", "1.2")
rounds = [0]
orders = meter.create_counter("orders", unit="1", description="Orders taken.")
sent = meter.create_counter("net.sent", unit="By")
queue = meter.create_up_down_counter("queue.length", unit="{items}")
heat = meter.create_gauge("oven.heat", unit="Cel")
meter.create_observable_counter("cpu.time", [lambda _: [Observation(1.5 * rounds[0], {"cpu": "0"})]], "s")
meter.create_observable_gauge("load", [lambda _: [Observation(0.25, {"name with blanks": "é\n"})]], "1")
meter.create_observable_up_down_counter("fans", [lambda _: [Observation(-2)]])
duration = meter.create_histogram("request.duration", unit="s")
payload = meter.create_histogram("payload", unit="By")
tracer = TracerProvider(shutdown_on_exit=False).get_tracer("library")

durations = [[0.05, 0.3, 0.3, 0.75], [0.5, 2.0, 7.5]]
payloads = [[0, 1, 3, 1000.5], [1, 65_536, 1e-3]]
exemplars = []
for turn in range(2):
    rounds[0] += 1
    orders.add(3, {"paid": True, "items": 2})
    orders.add(2 + turn, {"paid": False, "items": 2})
    sent.add(1024.5)
    queue.add(5 - 8 * turn)
    heat.set(180.5 + turn)
    with tracer.start_as_current_span("order") as span:
        duration.record(durations[turn][0], {"http.route": "/a/{b}"})
        context = span.get_span_context()
        exemplars.append([format(context.trace_id, "032x"), format(context.span_id, "016x"), durations[turn][0]])
    for value in durations[turn][1:]:
        duration.record(value, {"http.route": "/a/{b}"})
    for value in payloads[turn]:
        payload.record(value)
    if not provider.force_flush(30_000):
        complaints.append("force_flush failed")

every = [value for turn in durations for value in turn]
taken = [value for turn in payloads for value in turn]
here = {"job": "eu/shop", "instance": temporality}
route = {**here, "http_route": "/a/{b}"}


def bucket(bound):
    below = sum(value <= bound for value in every)
    return [{"__name__": "request_duration_seconds_bucket", **route, "le": f"{bound:g}"}, below]


instant = {
    "orders_total": [
        [{"__name__": "orders_total", **here, "paid": "true", "items": "2"}, 6],
        [{"__name__": "orders_total", **here, "paid": "false", "items": "2"}, 5],
    ],
    "net_sent_bytes_total": [[{"__name__": "net_sent_bytes_total", **here}, 2049]],
    "queue_length": [[{"__name__": "queue_length", **here}, 2]],
    "oven_heat_celsius": [[{"__name__": "oven_heat_celsius", **here}, 181.5]],
    "cpu_time_seconds_total": [[{"__name__": "cpu_time_seconds_total", **here, "cpu": "0"}, 3]],
    "load_ratio": [[{"__name__": "load_ratio", **here, "name_with_blanks": "é\n"}, 0.25]],
    "fans": [[{"__name__": "fans", **here}, -2]],
    "request_duration_seconds_bucket": [
        *map(bucket, bounds),
        [{"__name__": "request_duration_seconds_bucket", **route, "le": "+Inf"}, len(every)],
    ],
    "request_duration_seconds_count": [[{"__name__": "request_duration_seconds_count", **route}, len(every)]],
    "request_duration_seconds_sum": [[{"__name__": "request_duration_seconds_sum", **route}, sum(every)]],
    "histogram_count(payload_bytes)": [[here, len(taken)]],
    "histogram_sum(payload_bytes)": [[here, sum(taken)]],
    "target_info": [
        [{"__name__": "target_info", **here, "host_name": "machine-1", "cloud_zones": '["a","b"]'}, 1],
    ],
}
provider.shutdown()
if complaints or not results or any(r != MetricExportResult.SUCCESS for r in results):
    sys.exit(f"{results}: {complaints}")
json.dump(
    {
        "instant": instant,
        "observed": {"payload_bytes": taken},
        "exemplars": {"request_duration_seconds_bucket": exemplars},
    },
    sys.stdout,
)
