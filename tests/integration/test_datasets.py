"""The house sales in the package, and the features made from them."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastlsgd.datasets import house_sales_transformer, load_house_sales


@pytest.fixture(scope="module")
def sales():
    return load_house_sales()


def column(sales, name):
    return sales.data[:, sales.feature_names.index(name)]


def test_bunch_has_what_scikit_learn_loaders_have(sales):
    assert sales.data.shape == (25357, 16) == (len(sales.target), len(sales.feature_names))
    assert sales.target.dtype == np.float64
    assert sales.target_names == ["price"]
    assert sales.frame is None
    assert "CC0-1.0" in sales.DESCR
    assert all(name in sales.DESCR for name in sales.feature_names)


def test_columns_hold_what_their_names_say(sales):
    # One known row shows that no columns are interchanged.
    assert sales.target[1] == 92000.0
    assert dict(zip(sales.feature_names, sales.data[1], strict=True)) == {
        "year_built": 1957.0,
        "stories": "one",
        "living_area_sqft": 920.0,
        "wall": "metlvnyl",
        "beds": 2.0,
        "baths": 1.0,
        "half_baths": 0.0,
        "frontage_ft": 100.0,
        "depth_ft": 0.0,
        "garage": "detached",
        "garage_sqft": 308.0,
        "rooms": 4.0,
        "lot_sqft": 37900.0,
        "sale_date": "1997-04-21",
        "easting_m": 484875.6,
        "northing_m": 195301.3,
    }


def test_codes_are_as_the_notes_say(sales):
    assert np.count_nonzero(column(sales, "depth_ft") == 0) == 3878
    assert np.count_nonzero(column(sales, "frontage_ft") == 0) == 31
    no_garage = column(sales, "garage") == "no garage"
    np.testing.assert_array_equal(column(sales, "garage_sqft") == 0, no_garage)


def test_return_X_y(sales):
    data, target = load_house_sales(return_X_y=True)
    assert np.array_equal(data, sales.data)
    assert np.array_equal(target, sales.target)


def test_as_frame(sales):
    pytest.importorskip("pandas")
    as_frame = load_house_sales(as_frame=True)
    assert list(as_frame.data.columns) == sales.feature_names
    kinds = {name: dtype.kind for name, dtype in as_frame.frame.dtypes.items()}
    assert kinds["sale_date"] == "M"
    assert kinds["easting_m"] == "f"
    assert kinds["price"] == "i"
    assert as_frame.data["stories"].dtype.name == "category"
    np.testing.assert_array_equal(as_frame.target, sales.target)
    data, target = load_house_sales(as_frame=True, return_X_y=True)
    assert data.equals(as_frame.data)
    assert target.equals(as_frame.target)


def test_as_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        load_house_sales(as_frame=True)


def test_loading_needs_no_pandas():
    code = """if True:
        import sys
        class NoPandas:
            def find_spec(self, name, path=None, target=None):
                if name == "pandas":
                    raise ImportError(name)
        sys.meta_path.insert(0, NoPandas())
        from fastlsgd.datasets import house_sales_transformer, load_house_sales
        print(house_sales_transformer().fit_transform(load_house_sales().data).shape)
    """
    finished = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "(25357, 30)", finished.stderr


@pytest.mark.parametrize(("kind", "n_features"), [("raw", 30), ("products", 121)])
def test_transformer_makes_finite_dense_floats(sales, kind, n_features):
    transformer = house_sales_transformer(kind).fit(sales.data)
    X = transformer.transform(sales.data)
    assert X.shape == (25357, n_features)
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    assert np.isfinite(X).all()
    names = transformer.get_feature_names_out(sales.feature_names)
    assert len(set(names)) == n_features
    copy = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(copy.transform(sales.data[:100]), X[:100])


def test_raw_columns_keep_their_units(sales):
    transformer = house_sales_transformer().fit(sales.data)
    names = transformer.get_feature_names_out(sales.feature_names).tolist()
    X = transformer.transform(sales.data)
    for name in ("year_built", "living_area_sqft", "northing_m"):
        np.testing.assert_array_equal(X[:, names.index(name)], column(sales, name).astype(float))
    years = X[:, names.index("sale_date")]
    whole_years = [int(date[:4]) for date in column(sales, "sale_date")]
    # Years have 365.2425 days here, so that the first day of a year may be off by one day.
    assert np.abs(years - whole_years - 0.5).max() < 0.5 + 1 / 365


def test_unrecorded_lot_sides_become_the_mean_and_are_marked(sales):
    transformer = house_sales_transformer().fit(sales.data)
    names = transformer.get_feature_names_out(sales.feature_names).tolist()
    X = transformer.transform(sales.data)
    depth = column(sales, "depth_ft").astype(float)
    imputed = X[depth == 0, names.index("depth_ft")]
    np.testing.assert_allclose(imputed, depth[depth > 0].mean())
    marks = X[:, names.index("missingindicator_depth_ft")]
    np.testing.assert_array_equal(marks, depth == 0)


def test_raw_features_are_independent_of_each_other_and_of_the_intercept(sales):
    X = house_sales_transformer().fit_transform(sales.data)
    scaled = StandardScaler().fit_transform(X)
    assert np.linalg.matrix_rank(scaled) == X.shape[1]


def test_unknown_category_is_taken_as_a_rare_one(sales):
    transformer = house_sales_transformer().fit(sales.data)
    row = sales.data[:2].copy()
    row[0, 1], row[1, 1] = "two+half", "four"
    with pytest.warns(UserWarning, match="unknown categories"):
        X = transformer.transform(row)
    names = transformer.get_feature_names_out(sales.feature_names).tolist()
    assert X[:, names.index("stories_infrequent_sklearn")].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["raw", "products"])
def test_frame_gives_the_features_of_the_array(sales, kind):
    pytest.importorskip("pandas")
    frame = load_house_sales(as_frame=True).data
    transformer = house_sales_transformer(kind)
    np.testing.assert_array_equal(
        clone(transformer).fit_transform(frame), transformer.fit_transform(sales.data)
    )


@pytest.mark.parametrize(("kind", "r2"), [("raw", 0.709), ("products", 0.767)])
def test_exact_least_squares_gets_the_known_quality(sales, kind, r2):
    train, test, y_train, y_test = train_test_split(
        sales.data, np.log(sales.target), test_size=0.2, random_state=0
    )
    model = make_pipeline(house_sales_transformer(kind), StandardScaler(), LinearRegression())
    assert model.fit(train, y_train).score(test, y_test) == pytest.approx(r2, abs=0.001)


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of 'raw', 'products', got 'cubes'"):
        house_sales_transformer("cubes")
