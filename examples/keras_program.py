"""
The Keras program and its PyTorch twin
======================================

One dense unit, stochastic gradient descent, mean squared error, 1,000 epochs in batches of 32: the
first program of many courses. Here it is in Keras, in PyTorch and in fastlsgd, with equal weights
and very different times.

Run: ``python examples/keras_program.py`` (some ten seconds with PyTorch; ``--small`` does fewer
epochs there). It prints its results, and leaves one picture in the current folder.

Where TensorFlow is not installed, Keras is represented by recorded numbers. This renews them, from
an environment of its own: ``python bench/record_keras.py``.
"""

# %%
# The data
# --------
# A thousand rows with one feature, and a target that is nearly :math:`3x + 2`.

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from fastlsgd import SGDRegressor, sgd_epoch

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
EPOCHS, BATCH_SIZE, RATE = 1000, 32, 0.01

rng = np.random.default_rng(0)
X = rng.uniform(-1.0, 1.0, (1000, 1)).astype(np.float32)
y = (3.0 * X[:, 0] + 2.0 + 0.1 * rng.standard_normal(1000)).astype(np.float32)

# %%
# In Keras
# --------
# The numbers of a run are in ``keras_program.json``. Their script is ``bench/record_keras.py``.
#
# .. code-block:: python
#
#    import keras
#
#    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
#    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
#    model.set_weights([np.full((1, 1), 0.5, np.float32), np.zeros(1, np.float32)])
#    model.fit(X, y, batch_size=32, epochs=1000, verbose=0)

record = HERE / "keras_program.json"
if not record.exists():
    sys.exit(f"This program reads {record.name} beside it: copy that file of examples/ here, too.")
recorded = json.loads(record.read_text("utf-8"))
print(f"Keras, recorded: {recorded['versions']}; {recorded['machine']}")

# %%
# In fastlsgd
# -----------
# Keras' ``mse`` is twice our loss, so that our rate is twice Keras' rate. There is no penalty in
# the program, so that ``alpha`` is 0; and no early end, so that ``tol`` is None.


def fit(shuffle, epochs=EPOCHS):
    model = SGDRegressor(
        learning_rate="constant",
        eta0=2 * RATE,
        batch_size=BATCH_SIZE,
        max_iter=epochs,
        tol=None,
        alpha=0.0,
        shuffle=shuffle,
        random_state=0,
    )
    return model.fit(X, y, coef_init=[0.5])


# %%
# The rows in their order, without shuffling: the weights after 1, 10, 100 and 1,000 epochs are
# those of Keras.

for epochs, (w, b) in recorded["weights in order"].items():
    model = fit(shuffle=False, epochs=int(epochs))
    off = max(abs(model.coef_[0] - w), abs(model.intercept_[0] - b))
    print(f"{epochs:>5} epochs in order: w = {model.coef_[0]:.6f}, b = {model.intercept_[0]:.6f}")
    print(f"      Keras          w = {w:.6f}, b = {b:.6f}, difference {off:.0e}")
    assert off < 1e-5

# %%
# Shuffled rows give equal weights too, if the orders are equal. ``sgd_epoch`` takes the order as an
# argument; Keras was given rows in the same orders.


def shuffled_orders(epochs):
    generator = np.random.default_rng(1)
    return [generator.permutation(len(X)) for _ in range(epochs)]


coef, intercept = np.array([0.5], np.float32), 0.0
for order in shuffled_orders(20):
    coef, intercept, _ = sgd_epoch(
        X, y, coef, intercept, learning_rate=2 * RATE, batch_size=BATCH_SIZE, order=order
    )
w, b = recorded["weights shuffled"]
off = max(abs(coef[0] - w), abs(intercept - b))
print(f"   20 epochs shuffled, the same orders as in Keras: difference {off:.0e}")
assert off < 1e-5

# %%
# In PyTorch
# ----------
# The twin in PyTorch: a linear layer, ``MSELoss`` and ``SGD``. It is given the same orders, and
# ends with the same weights. Instead of a ``DataLoader``, which would take longer, rows are
# selected directly.


def now():
    """Seconds on the clock, and seconds that this process had a processor."""
    return np.array([time.perf_counter(), time.process_time()])


def fit_torch(orders):
    import torch

    torch.set_num_threads(1)  # the quickest for so few numbers
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 0.5)
    torch.nn.init.zeros_(layer.bias)
    optimizer, loss_of = torch.optim.SGD(layer.parameters(), lr=RATE), torch.nn.MSELoss()
    rows, targets = torch.from_numpy(X), torch.from_numpy(y[:, None])
    start = now()
    for order in orders:
        for batch in torch.from_numpy(order).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss_of(layer(rows[batch]), targets[batch]).backward()
            optimizer.step()
    seconds = now() - start
    return layer.weight.item(), layer.bias.item(), seconds / len(orders)


seconds_of = {
    "Keras": np.array([recorded["seconds of fit"], recorded["processor seconds of fit"]]),
}
if find_spec("torch"):
    w, b, _ = fit_torch(shuffled_orders(20))
    off = max(abs(coef[0] - w), abs(intercept - b))
    print(f"   20 epochs shuffled, PyTorch: difference {off:.0e}")
    assert off < 1e-5
    *_, per_epoch = fit_torch(shuffled_orders(5 if SMALL else EPOCHS))
    seconds_of["PyTorch"] = per_epoch * EPOCHS
else:
    print('PyTorch is left out, since it is not installed: pip install "fastlsgd[torch]"')

# %%
# How long it takes
# -----------------
# All 1,000 epochs in batches of 32, imports left out; for ours the best of ten fits. Other programs
# that run at the same time lengthen the time on the clock, but hardly the time of a processor: a
# comparison by the clock is fair where the two columns are nearly equal. The numbers of Keras are
# from the computer named above: renew them for a comparison on yours.


def seconds(function, repeats=2 if SMALL else 10):
    times = []
    for _ in range(repeats):
        start = now()
        function()
        times.append(now() - start)
    return min(times, key=lambda spent: spent[0])


seconds_of["fastlsgd, shuffled"] = seconds(lambda: fit(shuffle=True))
seconds_of["fastlsgd, in order"] = seconds(lambda: fit(shuffle=False))
seconds_of['fastlsgd, "auto"'] = seconds(lambda: SGDRegressor(alpha=0.0).fit(X, y))
ours = seconds_of["fastlsgd, shuffled"][0]
print(f"{'milliseconds':22} {'clock':>10} {'processor':>10}   clock, ours shuffled = 1")
for name, (clock, processor) in seconds_of.items():
    print(f"{name:22} {1e3 * clock:10.2f} {1e3 * processor:10.2f} {clock / ours:12.2f}")

# %%
# The default needs neither rate nor epochs: one epoch, in less time, to the exact minimum.

exact = SGDRegressor(alpha=0.0).fit(X, y)
slope, constant = np.polyfit(X[:, 0].astype(float), y.astype(float), 1)
print(f"exact: w = {slope:.6f}, b = {constant:.6f}; ", end="")
print(f'"auto": w = {exact.coef_[0]:.6f}, b = {exact.intercept_[0]:.6f}')

# %%
# With imports, from the start of Python to its end, both take longer, and differ less:

program = """
import numpy as np
from fastlsgd import SGDRegressor

rng = np.random.default_rng(0)
X = rng.uniform(-1.0, 1.0, (1000, 1)).astype(np.float32)
y = (3.0 * X[:, 0] + 2.0 + 0.1 * rng.standard_normal(1000)).astype(np.float32)
SGDRegressor(learning_rate="constant", eta0=0.02, batch_size=32, max_iter=1000, tol=None,
             alpha=0.0, shuffle=False).fit(X, y, coef_init=[0.5])
"""
start = time.perf_counter()
subprocess.run([sys.executable, "-c", program], check=True)
whole = time.perf_counter() - start
keras = recorded["seconds of imports"] + recorded["seconds of fit"]
print(f"with imports: Keras {keras:.1f} s, fastlsgd {whole:.1f} s, {keras / whole:.0f} x")

# %%
# The axis of the picture is logarithmic.

figure, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
names = list(seconds_of)
clocks = [1e3 * seconds_of[name][0] for name in names]
bars = ax.barh(names, clocks, color="#1f6fb2")
ax.bar_label(bars, [f"{clock:,.1f} ms" for clock in clocks], padding=4)
ax.invert_yaxis()
ax.set(xscale="log", xlabel='milliseconds for 1,000 epochs; "auto" needs 1', title="One program")
ax.set_xlim(right=40 * max(clocks))
figure.savefig("keras_program.png", dpi=120)
print("wrote keras_program.png")
