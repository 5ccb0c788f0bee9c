"""Checks of data sets and of encoders."""

from __future__ import annotations

import json
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from suffuse import plugins
from suffuse.diffusion.noise import Noise
from suffuse.diffusion.process import State
from suffuse.plugins import Entry
from suffuse.plugins.contracts import Condition, Example
from suffuse.testing.workbench import EXAMPLES, Few, Workbench, close, refused, rows


def has_examples(bench: Workbench, entry: Entry) -> None:
    """Each split has examples, with a value of the right kind for each condition."""
    for split in ("train", "test"):
        few = bench.few(entry, split)
        assert len(few), f"the {split} split is empty"
        for i in range(len(few)):
            example = few[i]
            assert isinstance(example, Example), f"{split}[{i}] is no Example: {example!r:.80}"
            assert set(example.conditions) <= set(few.conditions), (
                f"{split}[{i}] has conditions that the data set does not name: "
                f"{set(example.conditions) - set(few.conditions)}"
            )
            for name, value in example.conditions.items():
                kind = few.conditions[name]
                assert _fits(kind, value), f"{split}[{i}]: {name} = {value!r} is no {kind}"
    licence = getattr(bench.dataset(entry, "train"), "licence", "")
    assert licence is None or isinstance(licence, str), f"its licence is no text: {licence!r}"


def _fits(condition: Condition, value: Any) -> bool:
    if value is None or condition.kind == "state":
        return True
    if condition.kind == "category":
        return value in condition.names
    return isinstance(value, str) if condition.kind == "text" else float(value) == float(value)


def ends(bench: Workbench, entry: Entry) -> None:
    """Past its end it raises IndexError, so that a loop over it ends."""
    dataset = bench.dataset(entry, "test")
    try:
        dataset[len(dataset)]
    except IndexError:
        return
    raise AssertionError(f"dataset[{len(dataset)}] is answered, and there are {len(dataset)}")


def is_the_same_again(bench: Workbench, entry: Entry) -> None:
    """The same index gives the same example, in this and in another instance."""
    model = bench.model(entry)
    whole = bench.dataset(entry, "train")
    first, again = Few.spread(whole, 4), Few.spread(whole, 4)
    other = Few.spread(bench.dataset(entry, "train"), 4)
    encoded = [
        model.encode([few[i].data for i in range(len(few))]) for few in (first, again, other)
    ]
    conditions = [[dict(few[i].conditions) for i in range(len(few))] for few in (first, other)]
    assert close(encoded[0], encoded[1]), "the same index gives another object when asked again"
    assert close(encoded[0], encoded[2]), "another instance has other objects"
    if all(c.kind != "state" for c in whole.conditions.values()):
        assert conditions[0] == conditions[1], "another instance has other conditions"


def has_two_splits(bench: Workbench, entry: Entry) -> None:
    """The test split is not the training split."""
    model = bench.model(entry)
    train, test = bench.few(entry, "train"), bench.few(entry, "test")
    n = min(len(train), len(test))
    a, b = (model.encode([few[i].data for i in range(n)]) for few in (train, test))
    same = all(close(rows(a, [i]), rows(b, [i])) for i in range(n))
    assert not same, f"{n} examples of the training split are those of the test split"
    whole = [bench.dataset(entry, split) for split in ("train", "test")]
    n = min(n, *map(len, whole))
    a, b = (model.encode([each[i].data for i in range(n)]) for each in whole)
    same = all(close(rows(a, [i]), rows(b, [i])) for i in range(n))
    assert not same, f"the first {n} examples of the training split are those of the test split"


# Encoders


def _each(x: State) -> dict[str, Tensor]:
    return {"": x} if isinstance(x, Tensor) else dict(x)


def has_shape(bench: Workbench, entry: Entry) -> None:
    """States have the shape that it states, finite numbers (float32) or tokens (int64)."""
    model = bench.model(entry)
    shapes = model.shape if isinstance(model.shape, dict) else {"": model.shape}
    for n in (1, 2, 3):
        found = _each(model.encoder.encode(bench.objects(entry, n)))
        assert set(found) == set(shapes), f"parts {set(found)}, and it states {set(shapes)}"
        n = min(n, len(bench.few(entry, "train")))
        for name, x in found.items():
            expected = (n, *shapes[name])
            assert tuple(x.shape) == expected, (
                f"the states {name} of {n} objects are {list(x.shape)}, not {list(expected)}"
            )
            assert x.dtype in (torch.float32, torch.int64), f"states {name} are of {x.dtype}"
            assert bool(torch.isfinite(x).all()), f"states {name} have values that are not finite"


def comes_back(bench: Workbench, entry: Entry) -> None:
    """What is decoded and encoded again is what it was, to a tenth of its deviation."""
    model = bench.model(entry)
    objects = bench.objects(entry)
    x = model.encode(objects)
    back = model.decode(x, model.sizes(objects))
    assert len(back) == len(objects), f"{len(objects)} states are decoded to {len(back)} objects"
    for (name, before), after in zip(
        _each(x).items(), _each(model.encode(back)).values(), strict=True
    ):
        if before.is_floating_point():
            error = float((after - before).square().mean().sqrt() / (before.std() + 1e-6))
            assert error <= 0.1, f"states {name} come back with an error of {error:.2g} deviations"
        else:
            share = float((after == before).double().mean())
            assert share >= 0.99, f"only {share:.1%} of the tokens {name} come back"


def tells_apart(bench: Workbench, entry: Entry) -> None:
    """Different objects have different states."""
    x = bench.model(entry).encode(bench.objects(entry))
    n = len(next(iter(_each(x).values())))
    if n < 2:
        raise SkipTest("there is one example")
    assert not all(close(rows(x, [0]), rows(x, [i])) for i in range(1, n)), (
        f"{n} objects have the same state"
    )


def is_standardised(bench: Workbench, entry: Entry) -> None:
    """Numbers have about zero mean and unit deviation: |mean| < 2, deviation 0.2 to 5."""
    numbers = [
        x
        for x in _each(bench.model(entry).encode(bench.objects(entry))).values()
        if x.is_floating_point()
    ]
    if not numbers:
        raise SkipTest("its states are tokens")
    for x in numbers:
        mean, std = float(x.mean()), float(x.std())
        assert abs(mean) < 2 and 0.2 < std < 5, f"states have mean {mean:.2g}, deviation {std:.2g}"


def encodes_each_alone(bench: Workbench, entry: Entry) -> None:
    """An object's state does not depend on the others of its batch, nor on their order."""
    model, objects = bench.model(entry), bench.objects(entry, 4)
    x = model.encode(objects)
    for i, each in enumerate(objects):
        assert close(rows(x, [i]), model.encode([each])), f"object {i} alone has another state"
    turned = rows(model.encode(objects[::-1]), list(range(len(objects)))[::-1])
    assert close(x, turned), "in another order the objects have other states"


def needs_no_data(bench: Workbench, entry: Entry) -> None:
    """What fitting measures is JSON, and an encoder made from it encodes the same."""
    model, objects = bench.model(entry), bench.objects(entry, 4)
    fitted = model.recipe.encoder
    try:
        plain = json.loads(json.dumps(fitted, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the fitted options are no JSON: {error}") from None
    plain = plugins.resolve("encoder", plain)
    other = plugins.build("encoder", plain)
    assert plugins.resolve("encoder", plain) == plain, "the fitted options resolve to others"
    assert close(model.encoder.encode(objects), other.encode(objects)), (
        "an encoder made from the fitted options encodes otherwise"
    )


def keeps_sizes(bench: Workbench, entry: Entry) -> None:
    """Where objects differ in size: sizes, masks and decoded objects agree, sizes by seed."""
    model, objects = bench.model(entry), bench.objects(entry)
    sizes = model.sizes(objects)
    if sizes is None:
        raise SkipTest("its states are of one size")
    encoder = model.encoder
    assert sizes.dtype == torch.int64 and tuple(sizes.shape) == (len(objects),), (
        f"sizes are int64 [{len(objects)}], not {sizes.dtype} {list(sizes.shape)}"
    )
    back = encoder.sizes(encoder.decode(encoder.encode(objects), sizes))
    assert torch.equal(back, sizes), (
        f"objects of sizes {sizes.tolist()} come back as {back.tolist()}"
    )
    for name, mask in _each(encoder.mask(sizes)).items():
        assert mask.dtype == torch.bool and len(mask) == len(objects), (
            f"the mask {name} is {mask.dtype} {list(mask.shape)}"
        )
    drawn = encoder.draw_sizes(Noise(3, EXAMPLES))
    parts = [encoder.draw_sizes(Noise(3, 1, first=i)) for i in range(EXAMPLES)]
    assert torch.equal(drawn, torch.cat(parts)), "the size of a sample depends on its batch"
    assert drawn.dtype == torch.int64 and int(drawn.min()) >= 1, f"sizes drawn: {drawn.tolist()}"


class _Stranger:
    """An object of no domain."""


def refuses_strangers(bench: Workbench, entry: Entry) -> None:
    """An object that is none of its domain's is refused with a sentence."""
    model = bench.model(entry)
    refused(lambda: model.encoder.encode([_Stranger()]), "encoding an object of another kind")
