"""Exposes every kind of metric of the Python client of Prometheus, and prints what that is.

Usage: prometheus_client_exposition.py print
       prometheus_client_exposition.py serve PORT

Prints one JSON object: `samples`, all there are, as [name, labels, value]; `exemplars`, as [name, labels, labels of the
exemplar, its value]; `created`, when each began, as [name of the sample, labels, seconds]; `families`, as {name: [type, help]};
and with `print` the two formats, `text` and `openmetrics`. With `serve` it answers scrapes on the port of 127.0.0.1 until it is
ended, for two minutes at most.
"""

import json
import math
import sys
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    start_http_server,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

registry = CollectorRegistry()
odd = 'quote " backslash \\ line\nbreak é'

requests = Counter("shop_requests", 'Requests, "all" of them.\nBackslash \\ too.', ["code", "path"], registry=registry)
requests.labels("200", "/").inc(7, exemplar={"trace_id": "abc123", "span_id": "é"})
requests.labels("500", odd).inc(0.5)
bare = Counter("shop_bare_seconds", "A counter without labels.", registry=registry, unit="seconds")
bare.inc(1e300)
gauge = Gauge("shop_level", "", ["kind"], registry=registry)
for kind, value in [("nan", math.nan), ("inf", math.inf), ("minus", -math.inf), ("small", 5e-324), ("tenth", 0.1)]:
    gauge.labels(kind).set(value)
latency = Histogram("shop_latency", "Latency.", ["zone"], registry=registry, unit="seconds", buckets=(0.1, 1, 2.5))
latency.labels("a").observe(0.05, exemplar={"trace_id": "fast"})
latency.labels("a").observe(2, exemplar={"trace_id": "slow"})
latency.labels("a").observe(99)
latency.labels("b")
size = Summary("shop_size", "Size.", registry=registry, unit="bytes")
size.observe(3)
size.observe(4.5)
Info("shop_build", "Build.", registry=registry).info({"version": "1.2", "odd": odd})
Enum("shop_state", "State.", ["door"], states=["open", "shut"], registry=registry).labels("front").state("shut")

samples, exemplars, created, families = [], [], [], {}
# OpenMetrics tells of the creation what text says in samples of their own.
begun = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "summary": ["_count", "_sum"]}
for family in registry.collect():
    families[family.name] = [family.type, family.documentation]
    for sample in family.samples:
        value = sample.value if math.isfinite(sample.value) else str(sample.value)
        if sample.name == f"{family.name}_created":
            created.append([[family.name + end for end in begun[family.type]], sample.labels, value])
            continue
        samples.append([sample.name, sample.labels, value])
        if sample.exemplar:
            exemplars.append([sample.name, sample.labels, sample.exemplar.labels, sample.exemplar.value])

told = {"samples": samples, "exemplars": exemplars, "created": created, "families": families}
if sys.argv[1] == "serve":
    start_http_server(int(sys.argv[2]), "127.0.0.1", registry)
else:
    told["text"] = generate_latest(registry).decode()
    told["openmetrics"] = openmetrics.generate_latest(registry).decode()
print(json.dumps(told), flush=True)
if sys.argv[1] == "serve":
    time.sleep(120)
