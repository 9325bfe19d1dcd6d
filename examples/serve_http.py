"""
A pipeline over HTTP
====================

A fitted pipeline, from raw columns to dollars, as a service: FastAPI checks each request by the
columns of the data, and the pipeline predicts.

Run: ``python examples/serve_http.py serve --port 8000`` serves until Ctrl-C, and has its own
documentation at ``/docs``. Without arguments the program serves on a free port, asks itself, and
ends. It needs ``pip install fastapi uvicorn``.
"""

import argparse
import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from datetime import date
from typing import Annotated, Literal

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, ConfigDict, Field, create_model
except ModuleNotFoundError:
    sys.exit("This program needs FastAPI and a server: pip install fastapi uvicorn")

import fastlsgd
from fastlsgd import LeastSquaresRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales

# %%
# The pipeline
# ------------
# It is fitted when the program starts, in a fraction of a second, so that no pickle has to be
# trusted. Where a fit takes long, ``fastlsgd.save_model`` keeps the estimator in a file that
# executes nothing (docs/model_files.md).

bunch = load_house_sales()
pipeline = TransformedTargetRegressor(
    make_pipeline(house_sales_transformer(), LeastSquaresRegressor()),
    func=np.log,
    inverse_func=np.exp,
).fit(bunch.data, bunch.target)
print(f"R2 of the price on the rows of the fit: {pipeline.score(bunch.data, bunch.target):.3f}")

# %%
# What a request may hold
# -----------------------
# A field per column: numbers must be finite, a category one of those that were fitted, and a date
# one of the calendar. Whatever else a request has is refused, by an answer that names the field.


def kind_of(name, column):
    """The type of a column, as pydantic checks it."""
    if name == "sale_date":
        return date
    if isinstance(column[0], str):
        return Literal[tuple(sorted(set(column)))]
    return Annotated[float, Field(allow_inf_nan=False)]


columns = zip(bunch.feature_names, bunch.data.T, strict=True)
Sale = create_model(
    "Sale",
    __config__=ConfigDict(extra="forbid"),
    **{name: (kind_of(name, column), ...) for name, column in columns},
)


class Question(BaseModel):
    """Some houses, whose prices are asked for together."""

    sales: Annotated[list[Sale], Field(min_length=1, max_length=1000)]


class Answer(BaseModel):
    """Their prices, in the same order."""

    prices: list[float]


# %%
# The service
# -----------
# FastAPI runs functions without ``async`` in threads, and `predict` may run in many at a time.

app = FastAPI(title="House prices", version=fastlsgd.__version__)


@app.exception_handler(RequestValidationError)
def refused(request: Request, error: RequestValidationError) -> JSONResponse:
    """What is wrong, without the value, which may be a number that JSON has not."""
    wrong = [{name: told[name] for name in ("loc", "msg", "type")} for told in error.errors()]
    return JSONResponse({"detail": wrong}, status_code=422)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "fastlsgd": fastlsgd.__version__}


@app.post("/predict")
def predict(question: Question) -> Answer:
    rows = [list(sale.model_dump(mode="json").values()) for sale in question.sales]
    return Answer(prices=pipeline.predict(np.array(rows, dtype=object)).tolist())


def listening(port):
    """A server, and a socket on this machine; port 0 is any that is free."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()  # so that a question that comes before the server is ready waits for it
    return server, listener


if len(sys.argv) > 1:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--port", type=int, default=8000)
    server, listener = listening(parser.parse_args().port)
    print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])
    sys.exit()

# %%
# A question over the socket
# --------------------------
# The answer is that of the pipeline, to the last digit. A house of straw is refused.


def asked(url, sales):
    """The status and the answer to a question."""
    content = json.dumps({"sales": sales}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


server, listener = listening(0)
thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
thread.start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
houses = bunch.data[[0, 5000, 20000]]
sales = [dict(zip(bunch.feature_names, house, strict=True)) for house in houses.tolist()]
status, answer = asked(url, sales)
assert status == 200
assert answer["prices"] == pipeline.predict(houses).tolist()
print("asked over HTTP: " + ", ".join(f"${price:,.0f}" for price in answer["prices"]))
status, answer = asked(url, [{**sales[0], "wall": "straw"}])
print(f"a house of straw: {status}, {answer['detail'][0]['loc'][-1]}: {answer['detail'][0]['msg']}")
server.should_exit = True
thread.join()
