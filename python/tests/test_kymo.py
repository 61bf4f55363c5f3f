"""The Python package through its own door."""

import threading
import time

import numpy as np
import pytest

import kymo


def fill(db, name="m", series=2, count=100):
    times = np.arange(count, dtype=np.int64) * 1000
    for i in range(series):
        report = db.append({"__name__": name, "i": str(i)}, times, times.astype(np.float64))
        assert report == {"accepted": count, "refused": 0, "refusals": []}
    return times


def test_arrays_go_in_and_come_out():
    db = kymo.Database()
    times = fill(db)
    found = list(db.select("m"))
    assert [labels["i"] for labels, _, _ in found] == ["0", "1"]
    for labels, got_times, got_values in found:
        assert labels["__name__"] == "m"
        assert got_times.dtype == np.int64 and got_values.dtype == np.float64
        np.testing.assert_array_equal(got_times, times)
        np.testing.assert_array_equal(got_values, times)
    assert len(db.select("m", 5000, 7000)) == 2
    assert next(db.select("m", 5000, 7000))[1].tolist() == [5000, 6000]


def test_bits_come_back():
    values = np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, np.nan])
    db = kymo.Database()
    db.append({"__name__": "m"}, np.arange(6), values)
    (_, _, got), = db.select("m")
    assert got.view(np.uint64).tolist() == values.view(np.uint64).tolist()


def test_lists_and_strided_arrays_are_taken():
    db = kymo.Database()
    db.append({"__name__": "list"}, [1, 2, 3], [1, 2, 3])
    grid = np.arange(20, dtype=np.int64).reshape(10, 2)
    db.append({"__name__": "strided"}, grid[:, 0], grid[:, 1].astype(float)[::1])
    assert next(db.select("list"))[2].tolist() == [1.0, 2.0, 3.0]
    assert next(db.select("strided"))[1].tolist() == list(range(0, 20, 2))
    with pytest.raises(kymo.Error) as raised:
        db.append({"__name__": "m"}, [1, 2], [1.0])
    assert raised.value.kind == "invalid"


def test_promql_gives_columns():
    db = kymo.Database()
    fill(db)
    answer = db.query_range("sum by (i) (m) * 2", 0, 3000, 1000)
    assert answer.kind == "matrix"
    columns = answer.columns()
    assert list(columns) == ["i", "timestamp", "value"]
    assert columns["i"] == ["0"] * 4 + ["1"] * 4
    assert columns["timestamp"].tolist() == [0, 1000, 2000, 3000] * 2
    assert columns["value"].tolist() == [0.0, 2000.0, 4000.0, 6000.0] * 2
    assert [len(values) for _, _, values in answer.series()] == [4, 4]
    assert db.query("sum(m)", 2000).value == 4000.0
    assert db.query('"text"', 0).text == "text"
    assert db.query("vector(1)", 0).kind == "vector"
    assert any("counter" in info for info in db.query("rate(m[10s])", 50_000).infos)
    assert "matrix" in repr(answer)


def test_errors_have_kinds():
    db = kymo.Database()
    with pytest.raises(kymo.Error, match="1:5") as raised:
        db.query("sum(", 0)
    assert raised.value.kind == "invalid"
    with pytest.raises(kymo.Error) as raised:
        kymo.Database("/nowhere/at/all", read_only=True)
    assert raised.value.kind == "not_found"
    with pytest.raises(ValueError):
        kymo.Database(durability="sometimes")


def test_an_appender_commits_or_rolls_back():
    db = kymo.Database()
    with db.appender() as appender:
        a, b = (appender.series({"__name__": "m", "i": str(i)}) for i in range(2))
        appender.append(a, [1, 2], [1.0, 2.0])
        appender.append_row([a, b], 3, [3.0, 4.0])
        assert len(appender) == 4
    assert db.stats()["samples_accepted"] == 4
    with pytest.raises(RuntimeError):
        with db.appender() as appender:
            appender.append(a, [9], [9.0])
            raise RuntimeError("the caller fails")
    assert db.query("sum(m)", 9).value == 7.0
    with pytest.raises(kymo.Error) as raised:
        with db.appender() as appender:
            appender.append(a, [3], [99.0])
    assert raised.value.kind == "duplicate"
    late = db.appender()
    late.append(b, [0], [1.0])
    assert late.commit(durable=True)["accepted"] == 1


def test_a_database_outlives_its_process_and_has_readers(tmp_path):
    with kymo.Database(tmp_path / "data", durability=0.5) as db:
        fill(db)
        with pytest.raises(kymo.Error) as raised:
            kymo.Database(tmp_path / "data")
        assert raised.value.kind == "unavailable"
        reader = kymo.Database(tmp_path / "data", read_only=True)
        fill(db, "other")
        assert reader.labels() == ["__name__", "i"] and reader.label_values("__name__") == ["m"]
        reader.refresh()
        assert reader.label_values("__name__") == ["m", "other"]
        assert reader.series(["other"]) == [{"__name__": "other", "i": i} for i in "01"]
        snapshot = db.snapshot(tmp_path / "snapshots")
        assert db.delete(["other"]) == 2
        assert db.verify() == []
    assert len(kymo.Database(snapshot).select("other")) == 2
    db = kymo.Database(tmp_path / "data")
    assert len(db.select("m")) == 2 and len(db.select("other")) == 0


def test_blocks_of_prometheus(tmp_path):
    db = kymo.Database()
    fill(db)
    assert len(db.export_blocks(tmp_path)) == 1
    other = kymo.Database()
    assert other.import_blocks(tmp_path)["samples"] == 200
    assert other.import_blocks(tmp_path)["known"] == 200


def test_other_threads_run_meanwhile():
    db = kymo.Database()
    fill(db, series=50, count=2000)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    while time.monotonic() - began < 0.3:
        db.query_range("sum(quantile_over_time(0.9, m[5m]))", 0, 2_000_000, 1000)
    ended = time.monotonic()
    stop.set()
    thread.join()
    assert sum(began < tick < ended for tick in ticks) > 20


def test_a_query_has_a_time_limit():
    db = kymo.Database()
    fill(db, series=50, count=2000)
    with pytest.raises(kymo.Error) as raised:
        db.query_range("sum(quantile_over_time(0.9, m[30m]))", 0, 2_000_000, 200, timeout=0.001)
    assert raised.value.kind == "deadline"
