"""`linear_from`, `estimator_from` and `fit_head`: layers equal estimators."""

from __future__ import annotations

import numpy as np
import pytest
from optional import required
from sklearn.linear_model import LogisticRegression, Ridge

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, SGDClassifier

torch = required("torch")
from torch import nn  # noqa: E402

from fastlsgd.torch import estimator_from, fit_head, linear_from  # noqa: E402

LABELS = {
    "integers": np.array([3, 7, 9]),
    "strings": np.array(["a", "b", "c"]),
    "two": np.array(["no", "yes"]),
}


def rows(n=200, d=5, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return X.astype(dtype), X @ rng.normal(size=(d, 3)) + rng.normal(size=(n, 3)) + 2.0


# ------------------------------------------------------------------ layers from estimators


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("estimator", [LeastSquaresClassifier(), SGDClassifier()])
def test_the_largest_output_is_the_predicted_class(dtype, labels, estimator):
    X, scores = rows(dtype=dtype)
    model = estimator.fit(X, labels[scores[:, : len(labels)].argmax(1)])
    linear = linear_from(model)
    assert linear.weight.dtype == torch.from_numpy(X).dtype
    outputs = linear(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_array_equal(model.classes_[outputs.argmax(1)], model.predict(X))
    back = estimator_from(linear, classes=model.classes_)
    np.testing.assert_array_equal(back.coef_, model.coef_)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    np.testing.assert_allclose(
        back.decision_function(X), model.decision_function(X), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("one_target", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_regressors_and_back(one_target, fit_intercept):
    X, y = rows()
    y = y[:, 0] if one_target else y
    model = LeastSquaresRegressor(fit_intercept=fit_intercept).fit(X, y)
    linear = linear_from(model)
    assert (linear.bias is not None) == fit_intercept
    outputs = linear(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(outputs.reshape(y.shape), model.predict(X), rtol=1e-12)
    back = estimator_from(linear)
    assert back.predict(X).shape == y.shape
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="the weights of this estimator were given"):
        back.summary()
    np.testing.assert_array_equal(back.fit(X, y).coef_, model.coef_)


def test_a_layer_from_scikit_learn_draws_no_random_numbers():
    X, y = rows()
    state = torch.get_rng_state()
    linear = linear_from(Ridge().fit(X, y), dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert linear.weight.dtype == torch.float32
    assert linear.weight.requires_grad
    two = linear_from(LogisticRegression().fit(X, y[:, 0] > 2))
    assert two.out_features == 2


def test_labels_that_do_not_exclude_each_other():
    X, y = rows()
    model = LeastSquaresClassifier().fit(X, (y > 2).astype(int))
    outputs = linear_from(model)(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_array_equal(outputs > 0, model.predict(X))


def test_errors_of_conversion():
    X, y = rows()
    with pytest.raises(ValueError, match="fit"):
        linear_from(LeastSquaresRegressor())
    with pytest.raises(ValueError, match="must be a linear model, got type list"):
        linear_from([1.0])
    with pytest.raises(ValueError, match=r"overflow torch\.float16"):
        linear_from(LeastSquaresRegressor().fit(X, y * 1e9), dtype=torch.float16)
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Linear, got type ReLU"):
        estimator_from(nn.ReLU())
    with pytest.raises(ValueError, match="3 outputs, but there are 2 classes"):
        estimator_from(nn.Linear(2, 3), classes=[0, 1])
    with pytest.raises(ValueError, match="ascending order"):
        estimator_from(nn.Linear(2, 3), classes=[0, 2, 1])


def test_one_output_for_two_classes_and_half_precision():
    linear = nn.Linear(4, 1, dtype=torch.bfloat16)
    model = estimator_from(linear, classes=["no", "yes"])
    assert model.coef_.dtype == np.float32
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    outputs = nn.functional.linear(torch.from_numpy(X), linear.weight.float(), linear.bias.float())
    np.testing.assert_array_equal(model.predict(X) == "yes", outputs[:, 0].detach().numpy() > 0)


# ------------------------------------------------------------------------------------- heads


class Network(nn.Module):
    """A body with dropout and batch normalisation, and a head of its own name."""

    def __init__(self, n_outputs, d=5, width=12, dtype=torch.float32, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(d, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(width, n_outputs, bias=bias)
        self.to(dtype)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(-1)

    def features(self, x):
        with torch.no_grad():
            return self.eval().body(x).float().numpy()


def batches(*tensors, size=32):
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def data(dtype=torch.float32):
    X, y = rows()
    return torch.from_numpy(X).to(dtype), torch.from_numpy(y).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_fitted_regression_head_equals_the_estimator(dtype, n_outputs):
    X, y = data(dtype)
    y = y[:, 0] if n_outputs == 1 else y
    s = torch.rand(len(X)) + 0.1
    model = Network(n_outputs, dtype=dtype)
    estimator = fit_head(model, batches(X, y, s), alpha=1e-3)
    Z = model.features(X)
    expected = LeastSquaresRegressor(alpha=1e-3).fit(Z, y.numpy(), s.numpy())
    np.testing.assert_allclose(estimator.coef_, expected.coef_, rtol=2e-4, atol=2e-5)
    assert torch.equal(model.head.weight, torch.tensor(np.atleast_2d(estimator.coef_)).to(dtype))
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-4}.get(dtype, 0.1)
    with torch.no_grad():
        outputs = model(X).double().numpy()
    np.testing.assert_allclose(outputs, estimator.predict(Z), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_fitted_classification_head_equals_the_estimator(n_outputs, bias):
    X, y = data()
    labels = y[:, : max(2, n_outputs)].argmax(1)
    model = Network(n_outputs, bias=bias)
    estimator = fit_head(model, batches(X, labels), head="head")
    Z = model.features(X)
    expected = LeastSquaresClassifier(fit_intercept=bias).fit(Z, labels.numpy())
    np.testing.assert_allclose(estimator.coef_, expected.coef_, rtol=1e-4, atol=1e-5)
    outputs = model(X).detach()
    found = (outputs > 0).long() if n_outputs == 1 else outputs.argmax(1)
    np.testing.assert_array_equal(found, estimator.predict(Z))
    np.testing.assert_array_equal(found, expected.predict(Z))


def test_rows_of_weight_zero_are_as_if_absent_and_may_lack_a_class():
    X, y = data()
    labels = y.argmax(1)
    s = (torch.arange(len(X)) % 4 != 0).float()
    kept, without = Network(3), Network(3)
    fit_head(kept, batches(X, torch.where(s == 0, -100, labels), s))
    fit_head(without, batches(X[s > 0], labels[s > 0], size=17))
    torch.testing.assert_close(kept.head.weight, without.head.weight, rtol=1e-4, atol=1e-5)


def test_labels_of_tokens_and_named_inputs():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Linear(5, 3)
            self.unused = nn.Linear(2, 2)

        def forward(self, embedded, *, scale):
            return self.classifier(embedded * scale)

    X, y = data()
    tokens, tags, model = X.reshape(20, 10, 5), y.argmax(1).reshape(20, 10), Tagger()
    loader = [({"embedded": tokens, "scale": 2.0}, tags)]
    estimator = fit_head(model, loader, head=model.classifier)
    expected = LeastSquaresClassifier().fit(2.0 * X.numpy(), tags.reshape(-1).numpy())
    np.testing.assert_allclose(estimator.coef_, expected.coef_, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="once per forward pass, not 0 times"):
        fit_head(model, loader)  # the last linear layer is not called


def broken(batches):
    yield from batches
    raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was(fails):
    X, y = data()
    model = Network(3).train()
    model.body[1].eval()  # a module whose mode differs from the model's
    before = {name: value.clone() for name, value in model.state_dict().items()}
    head_parameters = list(model.head.parameters())
    if fails:
        with pytest.raises(KeyboardInterrupt):
            fit_head(model, broken(batches(X, y)))
    else:
        fit_head(model, batches(X, y))
    assert torch.is_grad_enabled()
    assert model.training
    assert model.body[0].training
    assert not model.body[1].training
    assert not model.head._forward_pre_hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(a is b for a, b in zip(model.head.parameters(), head_parameters, strict=True))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (fails or not name.startswith("head"))


def test_features_that_depend_on_each_other():
    """Units that are always zero are common behind a ReLU; equal units need a penalty or "qr"."""
    X, y = data(torch.float64)
    model = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3)).double()  # rank 5 of 8
    with pytest.raises(ValueError, match="depend on each other"):
        fit_head(model, batches(X, y.double()))
    estimator = fit_head(model, batches(X, y.double()), factor="qr")
    expected = LeastSquaresRegressor().fit(X.numpy(), y.double().numpy())
    Z = model[0](X).detach().numpy()
    np.testing.assert_allclose(estimator.predict(Z), expected.predict(X.numpy()), atol=1e-9)
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = 0.0, 0.0
    fit_head(model, batches(X, y.double()))


@pytest.mark.parametrize(
    ("loader", "options", "message"),
    [
        ([], {}, "loader has no rows"),
        ([torch.ones(4, 5)], {}, r"loader must yield \(inputs, targets\)"),
        ([(torch.ones(4, 5), [1])], {}, "targets must be tensors, got type list"),
        ([(torch.ones(4, 5), torch.ones(4))], {}, r"Batch 0 of loader: targets must have shape"),
        ([(torch.ones(4, 5), torch.full((4,), 3))], {}, "class numbers from 0 to 2, got 3"),
        ([(torch.ones(4, 5), torch.ones(4))], {"task": "classification"}, "an integer dtype"),
        ([(torch.ones(4, 5), torch.ones(4, 3), torch.ones(3))], {}, "sample_weight must have sha"),
        ([(torch.full((4, 5), torch.nan), torch.ones(4, 3))], {}, "Batch 0 of loader: .*(NaN|nan)"),
        ([], {"head": "tail"}, "head='tail' is no module of the Network"),
        ([], {"head": "body"}, r"head must be a torch\.nn\.Linear, got type Sequential"),
        ([], {"head": nn.Linear(2, 2)}, "head must be a module of model"),
        ([], {"alpha": -1.0}, "alpha"),
        ([], {"task": "ranking"}, "task"),
    ],
)
def test_errors_of_fit_head(loader, options, message):
    with pytest.raises(ValueError, match=message):
        fit_head(Network(3), loader, **options)
