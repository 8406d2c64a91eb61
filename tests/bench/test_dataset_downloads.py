"""Data sets that are not at hand: said, downloaded when asked for, verified and kept."""

from __future__ import annotations

import dataclasses
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.datasets import (
    DataUnavailable,
    load_split,
    split_hash,
)
from bench.datasets.files import DATASETS, TIMEOUT_S, DatasetSpec, download_path, find_file, git_blob_sha1, require_file
from tests.bench.small_perov5 import TEXTS

PEROV5 = DATASETS["perov5"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[DatasetSpec]:
    """A data set whose first location has nothing and whose second serves the files; `hits` counts requests."""
    folder = tmp_path / "served" / "perov_5"
    folder.mkdir(parents=True)
    for split, content in TEXTS.items():
        (folder / f"{split}.csv").write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    blobs = {split: ("0" * 40, git_blob_sha1(content)) for split, content in TEXTS.items()}
    yield dataclasses.replace(PEROV5, urls=(f"{base}/nothing", base), blobs=blobs)
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("no_data")
def test_a_server_that_never_answers_is_waited_for_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.datasets.files.TIMEOUT_S", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(DataUnavailable, match=r"val\.csv \(timed out\) or .*val\.csv \(the same host\)"):
            require_file(dataclasses.replace(PEROV5, urls=(f"{base}/a", f"{base}/b")), "val")
        assert time.monotonic() - started < 5
    assert sum(TIMEOUT_S) < 20


@pytest.mark.usefixtures("no_data")
def test_without_data_and_network_one_line_says_what_was_tried_and_where_to_put_it() -> None:
    unreachable = dataclasses.replace(PEROV5, urls=("http://127.0.0.1:9/a", "http://127.0.0.1:9/b"))
    with pytest.raises(DataUnavailable) as caught:
        require_file(unreachable, "test")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("127.0.0.1:9/a/perov_5/test.csv (no connection)", "9/b/perov_5", "$BENCH_DATA_DIR/perov_5", "(unset)"):
        assert part in text


@pytest.mark.usefixtures("no_data")
def test_crystals_that_are_not_at_hand_are_not_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.datasets.files._download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(DataUnavailable, match="python -m bench data mp20"):
        load_split("mp20", "train", download=False)
    with pytest.raises(DataUnavailable):
        split_hash("mp20", "train")


@pytest.mark.usefixtures("no_data")
def test_a_download_goes_on_to_the_next_location_is_verified_and_kept(served: DatasetSpec) -> None:
    file = require_file(served, "val")
    assert file.published
    assert file.content == TEXTS["val"]
    assert file.path == download_path(served, "val")
    offline = dataclasses.replace(served, urls=())
    assert require_file(offline, "val") == file
    assert [entry.name for entry in file.path.parent.iterdir()] == ["val.csv"]


@pytest.mark.usefixtures("no_data")
def test_a_download_with_other_bytes_is_refused_and_not_kept(served: DatasetSpec) -> None:
    changed = dataclasses.replace(served, blobs=dict.fromkeys(TEXTS, ("0" * 40,)))
    with pytest.raises(DataUnavailable, match=f"git blob {git_blob_sha1(TEXTS['val'])} instead of {'0' * 40}"):
        require_file(changed, "val")
    assert not list(download_path(changed, "val").parent.iterdir())


@pytest.mark.usefixtures("no_data")
def test_a_kept_download_that_was_changed_is_fetched_again(served: DatasetSpec) -> None:
    path = require_file(served, "test").path
    path.write_bytes(b"changed")
    assert find_file(served, "test") is None
    assert require_file(served, "test").content == TEXTS["test"]
