"""
Handwritten digits
==================

Images into classes: first by their raw pixels, then by random convolutional features with a
least-squares head. No backward pass, no epochs, no learning rate.

Run: ``python examples/handwritten_digits.py`` (about two minutes on Fashion-MNIST; ``--small`` uses
the digits that come with scikit-learn, and takes seconds). It prints its results, and leaves one
picture in the current folder.

Fashion-MNIST has the format of MNIST: 60,000 images of 28 x 28 pixels to train and 10,000 to test,
but of clothes, which are harder. On Debian and Ubuntu, ``apt install dataset-fashion-mnist`` brings
it. ``MNIST_FOLDER=/some/folder`` names another folder with the four files of either. Where there is
none, the program takes scikit-learn's digits.
"""

import gzip
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from fastlsgd import LeastSquaresClassifier

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"

# %%
# The images
# ----------
# The files of MNIST are bytes behind a header of 16 (images) or 8 bytes (labels). Pixels stay the
# uint8 numbers that they are: fastlsgd converts a block of rows at a time.

FOLDER = Path(os.environ.get("MNIST_FOLDER", "/usr/share/datasets/fashion-mnist"))
CLOTHES = ["T-shirt", "trousers", "pullover", "dress", "coat"]
CLOTHES += ["sandal", "shirt", "sneaker", "bag", "boot"]


def read(name, header):
    return np.frombuffer(gzip.decompress((FOLDER / name).read_bytes()), np.uint8, offset=header)


if not SMALL and (FOLDER / "train-images-idx3-ubyte.gz").exists():
    train = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    test = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    y_train = read("train-labels-idx1-ubyte.gz", 8)
    y_test = read("t10k-labels-idx1-ubyte.gz", 8)
    source = str(FOLDER)
    classes = CLOTHES if "fashion" in str(FOLDER) else [str(digit) for digit in range(10)]
    filter_size, n_filters, n_cells = 6, 150, 4
else:
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    train, test, y_train, y_test = train_test_split(images, digits.target, random_state=0)
    classes, source = [str(digit) for digit in range(10)], "scikit-learn's digits"
    filter_size, n_filters, n_cells = 4, 80, 3
size = train.shape[1]
print(f"{source}: {size} x {size} pixels of {train.dtype}", end=", ")
print(f"{len(train):,} images to train, {len(test):,} to test")

# %%
# Raw pixels
# ----------
# A row per image, a column per pixel. A linear model asks how much each pixel speaks for each
# class.

flat_train, flat_test = train.reshape(len(train), -1), test.reshape(len(test), -1)
start = time.perf_counter()
raw = LeastSquaresClassifier().fit(flat_train, y_train)
seconds = time.perf_counter() - start
print(f"raw pixels: accuracy {raw.score(flat_test, y_test):.4f}, trained in {seconds:.2f} s")

# %%
# Random convolutional features
# -----------------------------
# What a small image patch looks like says more than a pixel, wherever in the image it lies. So:
#
# 1. take random patches of the training images, normalise their brightness and contrast, and whiten
#    them: these are the filters, which nobody has trained;
# 2. compare each patch of an image with each filter, and keep what exceeds a threshold (a ReLU);
# 3. average over the cells of a grid.
#
# That is the first half of a convolutional network with random weights. It is a kernel method in
# disguise, as are random Fourier features, and ROCKET does the same to time series: random
# features, and a linear model on top. The method, with filters from patches, is that of Coates, Lee
# and Ng ("An analysis of single-layer networks in unsupervised feature learning", 2011).

CONTRAST, WHITENING, THRESHOLD = 10.0, 0.1, 0.25


def normalised(patches):
    patches -= patches.mean(axis=1, keepdims=True)
    square = np.einsum("ij,ij->i", patches, patches) / patches.shape[1]
    patches /= np.sqrt(square + CONTRAST)[:, None]
    return patches


def random_filters(images, rng):
    n = 20_000
    of, row, column = (
        rng.integers(0, high, n)
        for high in (len(images), size - filter_size + 1, size - filter_size + 1)
    )
    windows = sliding_window_view(images, (filter_size, filter_size), axis=(1, 2))
    patches = normalised(windows[of, row, column].reshape(n, -1).astype(np.float32))
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    whitening = (vectors / np.sqrt(values + WHITENING)) @ vectors.T
    mean = patches.mean(axis=0)
    white = (patches - mean) @ whitening
    length = np.linalg.norm(white, axis=1)
    chosen = np.flatnonzero(length > np.median(length))[:n_filters]  # not the empty background
    filters = whitening @ (white[chosen] / length[chosen, None]).T
    return filters.astype(np.float32), (mean @ filters + THRESHOLD).astype(np.float32)


def features(images, filters, threshold):
    """An array of shape (n_images, n_cells^2 n_filters), made in parallel by two threads."""
    n = size - filter_size + 1
    in_cell = np.arange(n) * n_cells // n == np.arange(n_cells)[:, None]
    average = (in_cell / in_cell.sum(axis=1, keepdims=True)).astype(np.float32)
    average = np.kron(average, average)  # (n_cells^2, n^2)
    found = np.empty((len(images), n_cells**2 * n_filters), np.float32)

    def do(first):
        these = images[first : first + 8]  # few images, so that all of this stays in cache
        windows = sliding_window_view(these, (filter_size, filter_size), axis=(1, 2))
        patches = normalised(windows.reshape(-1, filter_size**2).astype(np.float32))
        activity = np.maximum(patches @ filters, threshold)  # max(z, c) - c is the ReLU of z - c
        cells = average @ activity.reshape(len(these), n * n, n_filters) - threshold
        found[first : first + 8] = cells.reshape(len(these), -1)

    with threadpool_limits(1), ThreadPoolExecutor(2) as threads:
        list(threads.map(do, range(0, len(images), 8)))
    return found


start, busy = time.perf_counter(), time.process_time()
filters, threshold = random_filters(train, np.random.default_rng(0))
X_train = features(train, filters, threshold)
alpha = 0.01 * float(np.mean(np.square(X_train[:1000])))
model = LeastSquaresClassifier(alpha=alpha).fit(X_train, y_train)
trained_in, busy = time.perf_counter() - start, time.process_time() - busy
X_test = features(test, filters, threshold)
prediction = model.predict(X_test)
accuracy = np.mean(prediction == y_test)
print(f"{X_train.shape[1]:,} random convolutional features: accuracy {accuracy:.4f}")
print(f"  trained in {trained_in:.1f} s ({busy:.1f} s of a processor), features included")

# %%
# Which classes are confused
# --------------------------
# Precision is the share of right answers among all answers of a class; recall is the share of a
# class that was found.

print(classification_report(y_test, prediction, target_names=classes, digits=3))
matrix = confusion_matrix(y_test, prediction)
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
axes[0].imshow(np.log1p(matrix), cmap="Blues")
for (i, j), count in np.ndenumerate(matrix):
    if count:
        color = "white" if np.log1p(count) > 0.6 * np.log1p(matrix.max()) else "black"
        axes[0].text(j, i, count, ha="center", va="center", fontsize=7, color=color)
axes[0].set_xticks(range(10), classes, rotation=60, ha="right")
axes[0].set_yticks(range(10), classes)
axes[0].set(xlabel="predicted", ylabel="true", title="Confusion matrix")
wrong = np.flatnonzero(prediction != y_test)[:25]
tiles = np.zeros((5 * (size + 2), 5 * (size + 2)))
for place, i in enumerate(wrong):
    row, column = divmod(place, 5)
    top, left = row * (size + 2) + 1, column * (size + 2) + 1
    tiles[top : top + size, left : left + size] = test[i]
axes[1].imshow(tiles, cmap="gray_r")
axes[1].set_axis_off()
axes[1].set_title(f"{len(wrong)} of the {np.sum(prediction != y_test):,} errors")
figure.savefig("handwritten_digits.png", dpi=120)
print("wrote handwritten_digits.png")

# %%
# Beside a small network
# ----------------------
# A convolutional network in PyTorch, trained for as many seconds of a processor: two convolutions,
# two linear layers, Adam. With more time it gets better than random features. With as much time it
# depends on the machine: on a busy one, 29 seconds were 0.9 epochs of Fashion-MNIST and an accuracy
# of 0.857, where random features have 0.908.


def train_network(seconds):
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)  # a second thread would spend seconds on waiting
    half = size // 4
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * half * half, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    scale = 1.0 / float(train.max())
    rows = torch.from_numpy(train[:, None] * np.float32(scale))
    targets = torch.from_numpy(y_train.astype(np.int64))
    end, epochs = time.process_time() + seconds, 0.0
    while time.process_time() < end:
        for batch in torch.randperm(len(rows)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(rows[batch]), targets[batch]).backward()
            optimizer.step()
            epochs += len(batch) / len(rows)
            if time.process_time() >= end:
                break
    with torch.no_grad():
        parts = torch.from_numpy(test[:, None] * np.float32(scale)).split(500)
        answers = torch.cat([network(part).argmax(dim=1) for part in parts]).numpy()
    return np.mean(answers == y_test), epochs


if find_spec("torch") and not SMALL:
    accuracy, epochs = train_network(busy)
    print(f"a network trained for {busy:.1f} s, {epochs:.1f} epochs: accuracy {accuracy:.4f}")
else:
    print('The network is left out: it needs pip install "fastlsgd[torch]", and the full setting.')
