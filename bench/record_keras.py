"""Record what the tutorial's Keras program computes, and how long it takes.

It needs TensorFlow, which may stay in a virtual environment of its own:

    python3 -m venv /tmp/keras && /tmp/keras/bin/pip install tensorflow-cpu
    /tmp/keras/bin/python bench/record_keras.py

It writes examples/keras_program.json, with which examples/keras_program.py compares itself where
TensorFlow is not installed. --epochs 20 tries it out; nothing is written then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FILE = Path(__file__).parents[1] / "examples" / "keras_program.json"
EPOCHS, BATCH_SIZE, RATE = 1000, 32, 0.01
WEIGHTS_AFTER = (1, 10, 100, 1000)
SHUFFLED_EPOCHS = 20


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """The same rows as in examples/keras_program.py."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, (1000, 1)).astype(np.float32)
    y = (3.0 * X[:, 0] + 2.0 + 0.1 * rng.standard_normal(1000)).astype(np.float32)
    return X, y


def make_model(keras):
    """The program: one dense unit, SGD, mean squared error; it begins at w = 0.5, b = 0."""
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss="mse")
    model.set_weights([np.full((1, 1), 0.5, np.float32), np.zeros(1, np.float32)])
    return model


def weights(model) -> list[float]:
    return [float(part.ravel()[0]) for part in model.get_weights()]


def fit_in_order(keras, X, y, epochs: int) -> dict:
    """The program with the rows as they are stored: weights and times.

    The first epoch, which builds the graph, is part of the times. Record on a quiet computer: other
    programs lengthen the time on the clock, and the record names how many there were.
    """
    model, done, found = make_model(keras), 0, {}
    wall, processor = time.perf_counter(), time.process_time()
    for until in (n for n in WEIGHTS_AFTER if n <= epochs):
        model.fit(X, y, BATCH_SIZE, until - done, verbose=0, shuffle=False)
        done, found[str(until)] = until, weights(model)
    return {
        "weights in order": found,
        "seconds of fit": round(time.perf_counter() - wall, 3),
        "processor seconds of fit": round(time.process_time() - processor, 3),
    }


def weights_shuffled(keras, X, y) -> list[float]:
    """Rows in the orders that NumPy draws with seed 1, so that anybody can draw them again."""
    model, rng = make_model(keras), np.random.default_rng(1)
    for _ in range(SHUFFLED_EPOCHS):
        order = rng.permutation(len(X))
        model.fit(X[order], y[order], BATCH_SIZE, 1, verbose=0, shuffle=False)
    return weights(model)


def time_of_import() -> float:
    """Seconds of the clock for a new Python that imports Keras and ends."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import keras, tensorflow"], check=True)
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    epochs = parser.parse_args().epochs

    import keras
    import tensorflow

    X, y = make_data()
    busy = round(os.getloadavg()[0], 1)  # before this program keeps them busy itself
    record = {
        "recorded by": "bench/record_keras.py",
        "versions": f"Keras {keras.__version__}, TensorFlow {tensorflow.__version__}, "
        f"Python {platform.python_version()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **fit_in_order(keras, X, y, epochs),
        "weights shuffled": weights_shuffled(keras, X, y),
        "seconds of imports": round(time_of_import(), 3),
        "processes that wanted a processor": busy,
    }
    text = json.dumps(record, indent=2)
    print(text)
    if epochs == EPOCHS:
        FILE.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
