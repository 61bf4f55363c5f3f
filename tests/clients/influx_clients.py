"""Writes lines with the client libraries of InfluxDB 1 and 2, and prints what was written.

Usage: influx_clients.py 1|2 HOST PORT MILLISECONDS

The time is that of the newest sample. Prints one JSON list of series, as [labels, [[milliseconds, value], ...]].
"""

import json
import sys
from datetime import datetime, timezone

version, host, port, now = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
# No backslash: client 1 doubles it, which InfluxDB keeps as two, and client 2 does not.
odd = "a b,c=d é"
written = []


def version_1():
    from influxdb import InfluxDBClient

    client = InfluxDBClient(host, port, username="someone", password="secret", database="telemetry", gzip=True)
    assert client.ping().startswith("1.8"), client.ping()
    points = [
        {
            "measurement": "cpu load",
            "tags": {"host": odd, "none": None},
            "time": now - 1000 * i,
            "fields": {"usage": 0.5 + i, "cores": 8, "up": True, "note": 'said "so"'},
        }
        for i in range(3)
    ]
    assert client.write_points(points, time_precision="ms", tags={"region": "eu"})
    tags = {"db": "telemetry", "host": odd, "region": "eu"}
    times = [now - 1000 * i for i in (2, 1, 0)]
    for field, values in {"usage": [2.5, 1.5, 0.5], "cores": [8, 8, 8], "up": [1, 1, 1]}.items():
        written.append([{"__name__": f"cpu load_{field}", **tags}, list(zip(times, values))])
    # In batches, as lines, in whole seconds, and into another database.
    lines = [f"disk,path=/{i} used={i}i {now // 1000}" for i in range(25)]
    assert client.write_points(lines, database="other", time_precision="s", batch_size=10, protocol="line")
    for i in range(25):
        labels = {"__name__": "disk_used", "db": "other", "path": f"/{i}"}
        written.append([labels, [[now // 1000 * 1000, i]]])
    client.close()


def version_2():
    from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
    from influxdb_client.client.write_api import SYNCHRONOUS

    failures = []
    with InfluxDBClient(f"http://{host}:{port}", token="any", org="own", enable_gzip=True) as client:
        assert client.ping()
        at = datetime.fromtimestamp(now / 1000, timezone.utc)
        point = Point("weather").tag("place", odd).field("heat", 21.25).field("open", False).field("n", 7)
        with client.write_api(SYNCHRONOUS) as api:
            # A time object has nanoseconds.
            api.write(bucket="house", record=point.time(at, WritePrecision.NS))
            api.write("house", record={"measurement": "m", "fields": {"v": -3}, "time": now}, write_precision="ms")
            api.write("house", record="plain v=1.5\n", write_precision=WritePrecision.S)
        for field, value in {"heat": 21.25, "open": 0, "n": 7}.items():
            labels = {"__name__": f"weather_{field}", "db": "house", "place": odd}
            written.append([labels, [[now, value]]])
        written.append([{"__name__": "m_v", "db": "house"}, [[now, -3]]])
        # Without a time it is the server's.
        written.append([{"__name__": "plain_v", "db": "house"}, [[None, 1.5]]])
        # In the background, in batches.
        options = WriteOptions(batch_size=100, flush_interval=500)
        api = client.write_api(options, error_callback=lambda _, data, error: failures.append(str(error)))
        for i in range(1_000):
            record = Point("batch").tag("i", i % 10).field("v", i).time(now - 999 + i, WritePrecision.MS)
            api.write("house/weekly", record=record)
        api.close()
        for rest in range(10):
            labels = {"__name__": "batch_v", "db": "house/weekly", "i": str(rest)}
            written.append([labels, [[now - 999 + i, i] for i in range(rest, 1_000, 10)]])
    assert not failures, failures


version_1() if version == "1" else version_2()
json.dump(written, sys.stdout)
