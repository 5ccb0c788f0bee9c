"""In the company of scikit-learn's other parts."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from suffuse_anomaly import DiffusionDetector, DiffusionImputer


@pytest.fixture
def frame(rng):
    table = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)})
    table["c"] = rng.choice(["u", "v"], 120)
    return table


def test_clone_and_pipeline(frame):
    detector = DiffusionDetector(n_neighbors=3, random_state=0)
    assert clone(detector).get_params() == detector.get_params()
    numbers = frame[["a", "b"]]
    piped = make_pipeline(StandardScaler(), detector).fit(numbers)
    assert piped.predict(numbers).shape == (120,)
    assert (piped.score_samples(numbers) <= 0).all()


def test_a_grid_search_over_settings(frame, rng):
    y = np.arange(120) % 6 == 0
    frame.loc[y, "a"] += 6
    search = GridSearchCV(
        DiffusionDetector(random_state=0),
        {"contamination": [0.2, 0.3], "method": ["auto", "knn-time"]},
        scoring=lambda model, X, y: roc_auc_score(y, -model.score_samples(X)),
        cv=3,
        error_score="raise",
    ).fit(frame, y)
    assert search.best_score_ > 0.6
    assert search.predict(frame).shape == (120,)


def test_columns_are_completed_in_a_column_transformer_with_names(frame, rng):
    holed = frame.mask(rng.random(frame.shape) < 0.1)
    imputer = ColumnTransformer(
        [("filled", DiffusionImputer(random_state=0), ["a", "b"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    filled = imputer.fit_transform(holed)
    assert list(filled.columns) == ["a", "b", "c"]
    assert not filled[["a", "b"]].isna().any(axis=None)
    assert filled["a"].dtype == float


def test_set_output_keeps_names_and_index(frame):
    frame.index = [f"row {i}" for i in range(120)]
    frame.iloc[3, 0] = np.nan
    filled = DiffusionImputer(random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert list(filled.columns) == ["a", "b", "c"]
    assert filled.index.equals(frame.index)
    assert np.isfinite(float(filled.iloc[3, 0]))


def test_metadata_passes_by(frame, rng):
    y = frame["a"] > 0
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(
            DiffusionImputer(random_state=0),
            LogisticRegression().set_fit_request(sample_weight=True),
        )
        numbers = frame[["a", "b"]].to_numpy()
        model.fit(numbers, y, sample_weight=np.ones(120))
        assert model.score(numbers, y) > 0.8


def test_names_of_columns_are_held_to(frame):
    detector = DiffusionDetector(random_state=0).fit(frame)
    assert_array_equal(detector.feature_names_in_, ["a", "b", "c"])
    with pytest.raises(ValueError, match="feature names"):
        detector.predict(frame.rename(columns={"a": "z"}))
