"""The example that serves a pipeline, asked over a socket as its users ask it."""

import json
import os
import runpy
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optional import required

from fastlsgd.datasets import load_house_sales

required("fastapi")
required("uvicorn")

PROGRAM = Path(__file__).parents[2] / "examples" / "serve_http.py"
BUNCH = load_house_sales()


def as_sale(house):
    return dict(zip(BUNCH.feature_names, house.tolist(), strict=True))


@pytest.fixture(scope="module")
def server():
    """The program as a process, and its address."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[1].startswith("serving on http://127.0.0.1:"), process.stderr.read()
        yield process, lines[1].split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def asked(url, content, path="/predict"):
    data = (
        content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    )
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_answers_are_those_of_the_pipeline(server, monkeypatch):
    _, url = server
    assert asked(url, None, "/health")[1]["status"] == "ok"
    monkeypatch.setattr(sys, "argv", [str(PROGRAM)])
    pipeline = runpy.run_path(str(PROGRAM))["pipeline"]
    houses = BUNCH.data[::2000]
    expected = pipeline.predict(houses).tolist()
    sales = [as_sale(house) for house in houses]
    assert asked(url, {"sales": sales}) == (200, {"prices": expected})
    with ThreadPoolExecutor(8) as threads:  # many at a time
        answers = list(threads.map(lambda sale: asked(url, {"sales": [sale]}), sales * 3))
    assert answers == [(200, {"prices": [price]}) for price in expected * 3]


def test_what_is_refused_is_named(server):
    _, url = server
    sale = as_sale(BUNCH.data[0])
    for change, field in (
        ({"wall": "straw"}, "wall"),
        ({"wall": None}, "wall"),
        ({"beds": "many"}, "beds"),
        ({"beds": None}, "beds"),
        ({"sale_date": "1996-02-31"}, "sale_date"),
        ({"colour": "red"}, "colour"),
    ):
        status, answer = asked(url, {"sales": [{**sale, **change}]})
        assert (status, answer["detail"][0]["loc"][-1]) == (422, field)
    missing = {name: value for name, value in sale.items() if name != "rooms"}
    status, answer = asked(url, {"sales": [missing]})
    assert (status, answer["detail"][0]["loc"][-1]) == (422, "rooms")
    infinite = json.dumps({"sales": [{**sale, "beds": "x"}]}).replace('"x"', "1e999").encode()
    for content in ({"sales": []}, {}, b"{", infinite):
        assert asked(url, content)[0] == 422
    assert asked(url, None, "/nothing")[0] == 404


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_the_server(server):
    process, url = server
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    with pytest.raises(OSError, match="refused"):
        asked(url, None, "/health")
