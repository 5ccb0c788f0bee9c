"""scikit-learn's own checks, with no expected failure."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from suffuse_anomaly import DiffusionDetector, DiffusionImputer


@parametrize_with_checks([DiffusionDetector(), DiffusionImputer()])
def test_scikit_learn(estimator, check):
    check(estimator)
