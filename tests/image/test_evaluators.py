"""The evaluators tell real from noise, new from copied, and right labels from wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Evaluator, Example
from suffuse_image import evaluators
from suffuse_image.classifier import label_indices
from suffuse_image.digits import Digits
from suffuse_image.evaluators import KID, PRDC, ClassifierAccuracy, Memorisation
from suffuse_image.features import features


class Part:
    """Some examples of a data set."""

    def __init__(self, dataset, rows):
        self.dataset, self.rows = dataset, list(rows)

    @property
    def conditions(self):
        return self.dataset.conditions

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.dataset[self.rows[index]]


TRAIN = Digits("train")
HELD_OUT = Digits("test")
TEST = Part(HELD_OUT, range(0, 539, 2))
REAL = [HELD_OUT[i] for i in range(1, 539, 2)]  # held out too, and not in TEST: a perfect model
COPIES = [TRAIN[i] for i in range(269)]


def noise(seed=0, n=269):
    rng = np.random.default_rng(seed)
    return [
        Example(
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)), {"label": str(i % 10)}
        )
        for i in range(n)
    ]


def evaluate(evaluator, samples, **options):
    return evaluator.evaluate(samples, **{"test": TEST, "train": TRAIN, "seed": 0, **options})


def in_order(metric):
    return (
        metric.low <= metric.value <= metric.high
        and metric.floor_low <= metric.floor <= metric.floor_high
    )


EVERY = {
    "kid": KID(),
    "kid on pixels": KID("pixels"),
    "prdc": PRDC(),
    "prdc on pixels": PRDC("pixels", k=3),
    "accuracy": ClassifierAccuracy(),
    "memorisation": Memorisation(),
    "memorisation on features": Memorisation("classifier"),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_has_its_interval_and_its_floor(name):
    evaluator = EVERY[name]
    assert isinstance(evaluator, Evaluator)
    metrics = evaluate(evaluator, REAL)
    assert evaluate(evaluator, REAL) == metrics
    for metric in metrics:
        assert in_order(metric)
        assert metric.n == len(REAL)
        assert metric.note.endswith(".")
        assert "/1" in metric.name


@pytest.mark.parametrize("features", ["classifier", "pixels"])
def test_kid_is_at_the_floor_for_real_pictures_and_far_off_for_noise(features):
    (real,) = evaluate(KID(features), REAL)
    (fake,) = evaluate(KID(features), noise())
    assert real.floor_low - 0.02 < real.value < real.floor_high
    assert fake.low > 20 * real.floor_high
    assert real.better == "lower"


def test_kid_grows_with_the_share_of_noise():
    for look in ("classifier", "pixels"):
        figures = [evaluate(KID(look), REAL[k:] + noise(n=k))[0] for k in (0, 27, 54, 269)]
        assert [f.value for f in figures] == sorted(f.value for f in figures)
        assert figures[2].value > figures[2].floor_high


def test_missing_classes_show():
    (some,) = evaluate(KID(), [e for e in REAL if e.conditions["label"] not in "0138"])
    assert some.value > some.floor_high
    without = [e for e in REAL if e.conditions["label"] not in "38"]
    _, recall, _, coverage = evaluate(PRDC(), without)
    assert recall.high < recall.floor_low
    assert coverage.value < coverage.floor_low


@pytest.mark.parametrize("features", ["classifier", "pixels"])
def test_prdc_is_at_the_floor_for_real_pictures_and_far_off_for_noise(features):
    for metric in evaluate(PRDC(features), REAL):
        assert metric.floor_low - 0.05 < metric.value < metric.floor_high + 0.05
        assert metric.better == "higher"
    precision, _, density, coverage = evaluate(PRDC(features), noise())
    assert precision.high < precision.floor_low
    assert density.high < density.floor_low
    assert coverage.high < 0.5


def test_few_pictures_over_and_over_have_precision_without_recall():
    precision, recall, _, coverage = evaluate(PRDC(), (REAL[:9] * 30)[:269])
    assert precision.value > precision.floor_low - 0.05
    assert recall.high < recall.floor_low / 2
    assert coverage.high < coverage.floor_low / 2


def test_the_accuracy_is_that_of_the_classifier_for_real_pictures():
    (real,) = evaluate(ClassifierAccuracy(), REAL)
    assert real.unit == "%"
    assert real.value > 97
    assert real.floor > 97
    (all_held_out,) = evaluate(ClassifierAccuracy(), list(HELD_OUT), test=HELD_OUT)
    assert all_held_out.value == all_held_out.floor >= 98.5
    assert f"recognises {all_held_out.floor:.1f} % of 539 held-out ones" in all_held_out.note


def test_wrong_labels_fail_the_accuracy():
    labels = [e.conditions["label"] for e in REAL]
    shuffled = np.random.default_rng(0).permutation(labels)
    pairs = zip(REAL, shuffled, strict=True)
    (wrong,) = evaluate(ClassifierAccuracy(), [Example(e.data, {"label": s}) for e, s in pairs])
    assert wrong.high < 20
    (fake,) = evaluate(ClassifierAccuracy(), noise())
    assert fake.high < 30


def test_labels_may_be_numbers_and_samples_without_one_do_not_count():
    numbers = [Example(e.data, {"label": int(e.conditions["label"])}) for e in REAL[:20]]
    (metric,) = evaluate(ClassifierAccuracy(), [*numbers, Example(REAL[0].data)])
    assert metric.n == 20
    assert metric.value > 90
    with pytest.raises(SuffuseError, match="condition 'label'"):
        evaluate(ClassifierAccuracy(), [Example(REAL[0].data)])


def test_labels_are_found_by_name_first():
    assert label_indices(["b", "a", None, "c", 1, 2, True, "1"], ["a", "b"]).tolist() == [
        *(1, 0, -1, -1, 1, -1, -1, -1)
    ]
    assert label_indices([3, "1", 0], ["3", "1"]).tolist() == [0, 1, -1]


def test_held_out_pictures_are_not_memorised_and_copies_are():
    copies, near, auroc = evaluate(Memorisation(), REAL)
    assert copies.value == 0
    assert near.floor_low <= near.value <= near.floor_high
    assert auroc.low < 0.5 < auroc.high
    assert auroc.floor == 0.5

    copies, near, auroc = evaluate(Memorisation(), COPIES)
    assert copies.value == 100
    assert near.low > near.floor_high
    assert auroc.value == 1


def test_copies_with_a_little_noise_are_flagged():
    rng = np.random.default_rng(0)
    changed = [
        Example(
            Image.fromarray(
                (np.asarray(e.data) + rng.normal(0, 8, (8, 8))).clip(0, 255).astype("uint8")
            )
        )
        for e in COPIES
    ]
    _, near, auroc = evaluate(Memorisation(), changed)
    assert near.low > near.floor_high
    assert auroc.low > auroc.floor_high


def test_a_tenth_of_copies_is_counted():
    copies, near, _ = evaluate(Memorisation(), COPIES[:27] + REAL[27:])
    assert copies.value == pytest.approx(100 * 27 / 269)
    assert copies.low > copies.floor_high
    assert near.value > near.floor_high


def test_the_floor_of_memorisation_is_what_real_pictures_get():
    """Random halves of the held-out pictures lie within it as often as they should."""
    inside = []
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(539)
        rows, others = order[:269], order[269:]
        metrics = Memorisation().evaluate(
            [HELD_OUT[i] for i in rows], test=Part(HELD_OUT, others), train=TRAIN, seed=seed
        )
        inside.append([m.floor_low <= m.value <= m.floor_high for m in metrics[1:]])
    assert np.mean(inside, axis=0).min() > 0.8


# Sizes, kinds, and data sets that will not do


def test_real_pictures_are_brought_to_the_size_of_the_made_ones():
    large = [Example(e.data.resize((24, 24), Image.Resampling.NEAREST)) for e in HELD_OUT]
    samples = [Example(e.data.resize((8, 8), Image.Resampling.BOX)) for e in large[::2]]

    class Large(Part):
        conditions = HELD_OUT.conditions

        def __getitem__(self, index):
            return large[self.rows[index]]

    test, train = Large(None, range(1, 539, 4)), Large(None, range(3, 539, 4))
    (metric,) = KID("pixels").evaluate(samples, test=test, train=train, seed=0)
    assert metric.value < metric.floor_high


def test_large_pictures_are_looked_at_in_at_most_32_pixels_a_side():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 48, 80, 3), dtype=np.uint8)
    pictures = [Example(Image.fromarray(p)) for p in pixels]

    class Pictures(Part):
        conditions = {}  # noqa: RUF012

        def __getitem__(self, index):
            return pictures[self.rows[index]]

    found = features(
        "pixels", pictures[:2], test=Pictures(None, range(30)), train=Pictures(None, range(30, 60))
    )
    assert found.name == "pixels/1"
    assert found.train.shape == (30, 3 * 19 * 32)
    assert found(pixels_of(pictures[:5])).shape == (5, 3 * 19 * 32)


def pixels_of(examples):
    return [example.data for example in examples]


def test_pictures_without_labels_need_the_pixel_features():
    class Unlabelled(Part):
        conditions = {"label": Condition("category", ("picture",))}  # noqa: RUF012

    for conditions in ({}, {"label": Condition("text")}, Unlabelled.conditions):
        Unlabelled.conditions = conditions
        train = Unlabelled(TRAIN, range(200))
        for evaluator in (KID(), PRDC(), ClassifierAccuracy()):
            with pytest.raises(SuffuseError, match="pixels"):
                evaluator.evaluate(REAL, test=TEST, train=train, seed=0)
    (metric,) = KID("pixels").evaluate(REAL, test=TEST, train=train, seed=0)
    assert metric.value < metric.floor_high
    assert "the floor is 234 real pictures" in metric.note


@pytest.mark.parametrize("name", ["kid on pixels", "prdc on pixels", "memorisation"])
def test_too_few_pictures_give_no_figure_and_a_warning(name, caplog):
    for samples, test in ((REAL[:1], TEST), (REAL, Part(HELD_OUT, [0, 1, 2])), ([], TEST)):
        caplog.clear()
        assert evaluate(EVERY[name], samples, test=test) == []
        (record,) = caplog.records
        assert f"there are {len(samples)} and {len(test)}" in record.getMessage()


def test_misuse_is_named():
    with pytest.raises(SuffuseError, match="k is at least 1"):
        PRDC(k=0)
    with pytest.raises(SuffuseError, match="did you mean 'classifier'"):
        evaluate(KID("clasifier"), REAL)


# The classifier


def brief(monkeypatch):
    monkeypatch.setattr("suffuse_image.classifier._STEPS", 20)
    monkeypatch.setattr("suffuse_image.classifier._classifiers", {})


def test_the_classifier_is_repeatable(monkeypatch):
    brief(monkeypatch)
    looks = []
    for seed, threads in ((0, 1), (1, 2)):
        torch.manual_seed(seed)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        look = features("classifier", REAL, test=TEST, train=Part(TRAIN, range(200)))
        torch.set_num_threads(before)
        looks.append(look(pixels_of(REAL[:5])))
        monkeypatch.setattr("suffuse_image.classifier._classifiers", {})
    assert torch.equal(*looks)


def test_classifier_features_are_white_over_the_training_split():
    white = features("classifier", REAL, test=TEST, train=TRAIN).train
    assert white.shape == (1258, 32)
    assert white.mean(0).abs().max() < 1e-4
    assert (white.T.cov() - torch.eye(32)).abs().max() < 1e-3


def test_a_folder_of_two_small_classes_has_classifier_features(monkeypatch):
    brief(monkeypatch)

    class Two(Part):
        conditions = {"label": Condition("category", ("0", "1"))}  # noqa: RUF012

    rows = [i for i in range(60) if TRAIN[i].conditions["label"] in "01"]
    found = features("classifier", REAL, test=Two(TRAIN, rows), train=Two(TRAIN, rows))
    assert torch.isfinite(found.train).all()
    assert found.train.shape[1] < len(rows)


def test_the_classifier_leaves_no_trace(monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    brief(monkeypatch)
    features("classifier", REAL, test=TEST, train=Part(TRAIN, range(300)))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_the_classifier_is_trained_once_per_data_set(monkeypatch):
    evaluate(KID(), REAL)
    monkeypatch.setattr("suffuse_image.classifier.trained_classifier", None)
    evaluate(KID(), REAL, train=Digits("train"), test=HELD_OUT)
    evaluate(ClassifierAccuracy(), REAL, train=Digits("train"))


def test_evaluators_are_all_registered():
    assert set(evaluators.__all__) == {type(e).__name__ for e in EVERY.values()}
