"""The model card: README.md of a run, for whoever is handed the model."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined

from suffuse.model import Model
from suffuse.training.progress import duration

__all__ = ["Facts", "machine", "render"]

_TEMPLATE = """\
# {{ title }}

A diffusion model made with Suffuse {{ versions.suffuse }}.

```python
import suffuse

model = suffuse.load("path/to/this/folder")
samples = model.sample(4, seed=0{{ example }})
```

## Data

`{{ recipe.dataset.name }}`{% if options %} ({{ options }}){% endif %}, \
{{ "{:,}".format(facts.examples) }} training examples.
Licence: {{ facts.licence or "not stated by the data set" }}.
{% for name, c in conditions.items() %}
Condition `{{ name }}`: {{ c.kind }}\
{% if c.names %}, {{ c.names | length }} of them ({{ c.names[:12] | join(", ") }}\
{{ ", …" if c.names | length > 12 }}){% endif %}.
{% endfor %}
## Training

Made by

```
{{ facts.command }}
```

| | |
|---|---|
| network | `{{ recipe.denoiser.name }}`, {{ "{:,}".format(parameters) }} parameters |
{% if flops -%}
| compute | {{ flops }} for one example, forward |
{% endif -%}
| process | `{{ recipe.process.name }}`, schedule `{{ recipe.schedule.name }}` |
| steps | {{ "{:,}".format(facts.step) }} of {{ training.batch }} examples |
| seed | {{ training.seed }} |
| precision | {{ training.precision }} |
| averaged weights | relative width {{ training.ema_std }} |
| time | {{ duration(facts.seconds) }} (h:mm:ss) on {{ facts.machine }} |
| cost | {{ "{:,.0f}".format(facts.core_seconds) }} core-seconds\
{% if facts.joules is not none %}, {{ "{:,.1f}".format(facts.joules / 3600) }} Wh taken by the \
machine{% endif %} |
| final loss | {{ "%.4g" | format(facts.loss) if facts.loss is not none else "not measured" }} |

## Metrics

{% if metrics -%}
On {{ "{:,}".format(metrics[0].n) }} samples, against held-out data, with 95 % intervals; the \
floor is real data against real data.

| metric | value | interval | floor | better |
|---|---|---|---|---|
{% for m in metrics -%}
| {{ m.name }} | {{ number(m.value) }}{{ unit(m) }} | {{ number(m.low) }} to {{ number(m.high) }} \
| {% if m.floor is not none %}{{ number(m.floor) }} \
({{ number(m.floor_low) }} to {{ number(m.floor_high) }}){% else %}–{% endif %} | {{ m.better }} |
{% endfor %}
{%- else -%}
No evaluator is named in the recipe.
{% endif %}
## Versions

{% for name, version in versions.items() -%}
- {{ name }} {{ version }}
{% endfor -%}
"""


@dataclass(frozen=True)
class Facts:
    """What a run knows of itself at its end.

    Attributes:
        command: what makes it again.
        examples: in the training split.
        licence: of the data; None where the data set states none.
        step: the steps done.
        seconds: of training, on the wall clock, without sampling and evaluation.
        core_seconds: of all processor cores, with everything.
        joules: that the machine took; None where nothing counts them.
        machine: what it ran on.
        loss: the last one measured.
        metrics: the fields of `suffuse.plugins.contracts.Metric`.
    """

    command: str
    examples: int
    licence: str | None
    step: int
    seconds: float
    core_seconds: float
    joules: float | None
    machine: str
    loss: float | None
    metrics: Sequence[Mapping[str, Any]]


def render(model: Model, facts: Facts) -> str:
    """The card of a trained model, in Markdown."""
    recipe = model.recipe
    # Markdown for people, not HTML: nothing is to be escaped.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    options = ", ".join(f"{k} {v!r}" for k, v in recipe.dataset.items() if k != "name")
    example = "".join(
        f", {name}={c.names[0]!r}"
        for name, c in model.conditions.items()
        if c.kind == "category" and c.names
    )
    return environment.from_string(_TEMPLATE).render(
        title=recipe.summary or recipe.dataset["name"],
        recipe=recipe,
        training=recipe.training,
        conditions=model.conditions,
        options=options,
        example=example,
        facts=facts,
        parameters=sum(p.numel() for p in model.network.parameters()),
        flops=_flops(model),
        metrics=facts.metrics,
        versions=_versions(model),
        duration=duration,
        number=_number,
        unit=lambda metric: f" {metric['unit']}" if metric["unit"] else "",
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _flops(model: Model) -> str:
    """What the network computes for one example, where it can tell."""
    count = getattr(model.network.backbone, "flops", None)
    if count is None:
        return ""
    value = float(count())
    for scale, name in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if value >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value:,.0f} FLOP"


def _versions(model: Model) -> dict[str, str]:
    config = model.config()
    return {
        "suffuse": config["suffuse"],
        **config["plugins"],
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def machine(device: torch.device, ranks: int) -> str:
    """The hardware of a run, in words: "2 processes, each on 1 core of a ... processor"."""
    if device.type == "cuda":
        each = torch.cuda.get_device_name(device)
    else:
        cores = torch.get_num_threads()
        each = f"{cores} {'core' if cores == 1 else 'cores'} of {_processor()}"
    return each if ranks == 1 else f"{ranks} processes, each on {each}"


def _processor() -> str:
    try:
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M
        )
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
