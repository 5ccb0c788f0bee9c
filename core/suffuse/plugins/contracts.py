"""What the core and a domain's plugin say to each other.

A domain brings raw objects (pictures, clips, molecules); the core sees tensors. These protocols are
the border between the two: a plugin implements them by shape, without inheriting from anything.

* A **dataset** is a sequence of examples: a raw object with the raw values of its conditions.
* An **encoder** turns raw objects into states (tensors) and back.
* A **conditioner** turns the raw values of one condition into an embedding.
* An **evaluator** compares made examples with real ones and answers with metrics.
* A **renderer** draws raw objects and writes them to files.
* A **launcher** runs commands: on this machine, on a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from suffuse.diffusion.noise import Noise

__all__ = [
    "Condition",
    "Conditioner",
    "Dataset",
    "Encoder",
    "Evaluator",
    "Example",
    "Launcher",
    "Metric",
    "RaggedEncoder",
    "Renderer",
    "Shape",
    "Split",
    "named",
]

Split = Literal["train", "test"]
"""The splits of a data set."""

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""The shape of one state; by name where states are mappings."""


@dataclass(frozen=True)
class Condition:
    """What a condition's values are.

    Attributes:
        kind: "category" (one of `names`), "number", "text", or "state": a raw object like those
            that the model makes, for instance the noisy sound to a clean one.
        names: the categories in the order of their indices; empty for other kinds.
    """

    kind: Literal["category", "number", "text", "state"]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """A raw object with the raw values of its conditions, for instance ``{"label": "7"}``."""

    data: Any
    conditions: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Dataset(Protocol):
    """One split of a data set, by index. Nothing is decoded before it is asked for.

    It may have a string `licence`, which goes onto the cards of models that are trained on it, and
    a method ``name(index)``: what people know the example by, for instance its file.
    """

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """What each condition of the examples is, by its name."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


def named(dataset: Dataset, index: int) -> str:
    """What people find a training example again by: its number, and its name where it has one."""
    name = getattr(dataset, "name", None)
    return f"training example {index}" + (f" ({name(index)})" if name is not None else "")


@runtime_checkable
class Encoder(Protocol):
    """Raw objects to states and back, with `decode(encode(objects))` close to `objects`.

    A state is a tensor, of numbers or (int64) of tokens, or a mapping of names to such tensors.
    Where the distance of two states says little of two objects, as of two numberings of a graph,
    an encoder may have `embed(objects)`: vectors [B, D], float32, whose distance does. One whose
    `decode` repairs what is no sound object has `raw()`: the same without repair.
    """

    @property
    def shape(self) -> Shape:
        """The shape of one state, without the batch axis; a mapping for a mapping."""

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """Measure what encoding needs (size, mean, scale) on the training split.

        Returns:
            Options for this encoder's factory, plain JSON values. The model keeps them, so that an
            encoder built from them needs no data.
        """

    def encode(self, objects: Sequence[Any]) -> Any:
        """States of shape [B, *shape]; numbers are float32 and about standardised."""

    def decode(self, x: Any) -> list[Any]:
        """Raw objects from states of shape [B, *shape]."""


@runtime_checkable
class RaggedEncoder(Protocol):
    """An encoder of objects of several sizes, whose states are padded to one shape.

    Beside `shape`, `fit` and `encode` of an `Encoder`:
    """

    def sizes(self, objects: Sequence[Any]) -> Tensor:
        """How many elements each object has, int64 [B]: atoms, frames, ..."""

    def mask(self, sizes: Tensor) -> Any:
        """True where an element belongs to the state, over the leading axes of a state [B, ...].

        For mappings a mapping; a part that is never padded may be missing.
        """

    def draw_sizes(self, noise: Noise) -> Tensor:
        """Sizes for new objects, int64 [B], as they are distributed in the training data."""

    def decode(self, x: Any, sizes: Tensor) -> list[Any]:
        """Raw objects of these sizes, from states [B, *shape]."""


@runtime_checkable
class Conditioner(Protocol):
    """A module that embeds the values of one condition.

    One whose attribute `always` is True is never dropped in training, nor by guidance. One that can
    say that something must not be there has a method `without(value, negative)`: a raw value that
    keeps away from another, and what of that, or None, is left for guidance to lead away from.
    """

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Raw values, None where a value is not given, to a tensor with one row a value."""

    def __call__(self, prepared: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Embeddings [B, width], or several things by what the network takes them for.

        "vector" [B, width] is added up over conditions; "tokens" [B, L, D] with "token_mask"
        [B, L] (False is padding) are put one after the other; "concat" [B, C, *size] goes to the
        channels of the input.
        """


class Estimate(Protocol):
    """A figure between two bounds: `suffuse.stats.Interval`, `suffuse.stats.Floor`."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Metric:
    """One measured figure.

    Attributes:
        name: what was measured, for instance "KID (digit features)".
        value: the estimate.
        low, high: its 95 % confidence interval.
        better: whether lower or higher is better.
        n: how many made examples it rests on.
        floor, floor_low, floor_high: the same figure for real against real, where it exists.
        target: what a good model reaches, where that can be said.
        unit: for instance "%", "dB"; empty for a pure number.
        note: one sentence for the reader of a report.
    """

    name: str
    value: float
    low: float
    high: float
    better: Literal["lower", "higher"]
    n: int
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    target: float | None = None
    unit: str = ""
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        found: Estimate,
        better: Literal["lower", "higher"],
        n: int,
        *,
        floor: Estimate | None = None,
        scale: float = 1.0,
        target: float | None = None,
        unit: str = "",
        note: str = "",
    ) -> Metric:
        """From an interval, and another of real against real, as `suffuse.stats` answers with.

        Args:
            scale: multiplies the estimate, the floor and their bounds; `target` is taken as given.
        """
        return cls(
            name,
            scale * found.value,
            scale * found.low,
            scale * found.high,
            better,
            n,
            floor=None if floor is None else scale * floor.value,
            floor_low=None if floor is None else scale * floor.low,
            floor_high=None if floor is None else scale * floor.high,
            target=target,
            unit=unit,
            note=note,
        )

    @classmethod
    def share(
        cls,
        name: str,
        hits: Iterable[Any],
        real: Iterable[Any] = (),
        *,
        better: Literal["lower", "higher"] = "higher",
        target: float | None = None,
        note: str = "",
    ) -> Metric:
        """How many of `hits` are true, in percent, with Wilson's interval (`stats.proportion`).

        >>> figure = Metric.share("in tune", [True, True, True, False], real=[True] * 4)
        >>> figure.value, figure.n, figure.floor, figure.unit
        (75.0, 4, 100.0, '%')

        Args:
            hits: for each made example whether it is as it should be; one at least.
            real: the same for real examples, the floor; there may be none.
            target: in percent.
        """
        from suffuse import stats  # brings torch, which the contracts alone need not

        made, held = [[bool(each) for each in group] for group in (hits, real)]
        return cls.of(
            name,
            stats.proportion(sum(made), len(made)),
            better,
            len(made),
            floor=stats.proportion(sum(held), len(held)) if held else None,
            scale=100,
            target=target,
            unit="%",
            note=note,
        )

    def plain(self) -> dict[str, Any]:
        """As JSON has it: None for numbers that are not finite.

        >>> Metric("pitch", float("nan"), 0.0, 1.0, "lower", 3).plain()["value"] is None
        True
        """
        fields = asdict(self).items()
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields}


@runtime_checkable
class Evaluator(Protocol):
    """Compares made examples with real ones.

    One with ``make(model, examples, *, seed, **settings)`` makes the samples that it compares
    itself, of these held-out examples, with the settings of `Model.sample`: frames from other
    frames, what was hidden. To others samples are given that `Model.sample` made under the
    conditions of the examples.
    """

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Figures of `samples` against data not trained on, beside the real-against-real floor."""


@runtime_checkable
class Renderer(Protocol):
    """Draws raw objects and writes them to files.

    One with the attribute `reads` reads files of further suffixes, of which it may write none. One
    with ``whole(path)`` reads folders of which that answers True, each as one object.

    One with the attribute `collections`, suffixes of files that hold many objects (.csv, .sdf), has
    ``write_all(objects, path, metadata)``, with a mapping of metadata for each object, and perhaps
    ``read_all(path)``: all objects of a file, each a pair of its name there and itself.

    One with ``compose(model, names)`` answers with what makes the wholes that conditions of these
    names ask for out of the model's parts (sentences of words, melodies of notes): something with
    the model's `sample`, `conditions`, `recipe`, `renderer` and `path`; else with the model itself.

    One with ``unasked(model, n, seed)`` answers with values of conditions, n each, for samples of
    which nothing was asked on the command line: those of examples like the training data's.

    One with ``players(objects, captions)`` answers with HTML to hear or watch them by, for pages.
    """

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File suffixes that it writes and reads; the first is what a folder gets."""

    def write(self, data: Any, path: Path, metadata: Mapping[str, str]) -> None:
        """Write one raw object, with `metadata` inside the file where its format can hold text."""

    def read(self, path: Path) -> Any:
        """One raw object. Raises SuffuseError, naming the file, where it cannot be read."""

    def metadata(self, path: Path) -> Mapping[str, str]:
        """The text that `write` put into the file; empty where there is none."""

    def sheet(
        self, objects: Sequence[Any], captions: Sequence[str] | None = None, columns: int = 0
    ) -> bytes:
        """All objects on one PNG, row by row; `columns` 0 makes it about square."""


@runtime_checkable
class Launcher(Protocol):
    """Runs commands of Suffuse somewhere."""

    def launch(
        self, commands: Sequence[Sequence[str]], tell: Callable[[str], None]
    ) -> Sequence[int]:
        """Run all commands, at the same time or not, and answer their exit statuses in order.

        Args:
            commands: the words after ``suffuse``. Each works in the present folder, whose files it
                reads and writes, on whatever machine it runs.
            tell: is given what the commands print, line by line.
        """
