"""Tables in files: a detector fitted on one, and the scores of another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from suffuse import storage
from suffuse_anomaly import decisions
from suffuse_anomaly.detector import DiffusionDetector
from suffuse_anomaly.imputer import DiffusionImputer
from suffuse_anomaly.table import TableError

__all__ = [
    "fit_file",
    "impute_file",
    "read_table",
    "refresh_file",
    "scorer",
    "threshold_file",
    "warned",
    "write_scores",
]


def read_table(path: Path) -> pd.DataFrame:
    """The table in a CSV (also gzipped, or with semicolons or tabs) or Parquet file.

    Columns of text whose values all read as ISO dates become dates, in UTC where they have offsets.

    Raises:
        TableError: naming the file, where it holds no table.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
        else:
            frame = _read_text(path)
    except UnicodeDecodeError as error:
        raise TableError(
            f"cannot read a table from {path}: it is no text in UTF-8, as CSV is to be"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise TableError(f"cannot read a table from {path}: {error}") from error
    if not len(frame) or not len(frame.columns):
        raise TableError(f"the table in {path} has no rows")
    frame.columns = frame.columns.map(str)  # those of Parquet may be numbers
    for name in frame.columns:
        if pd.api.types.is_string_dtype(frame[name]) and _are_dates(frame[name]):
            # in UTC: summer time changes the offset within a column
            dates = pd.to_datetime(frame[name], format="ISO8601", utc=True)
            frame[name] = dates.dt.tz_localize(None)
    return frame


def _read_text(path: Path) -> pd.DataFrame:
    """CSV, or what is separated by semicolons or tabs, then perhaps with decimal commas."""
    frame = pd.read_csv(path)
    for sign in ";\t":
        if len(frame.columns) == 1 and sign in str(frame.columns[0]):
            frame = pd.read_csv(path, sep=sign)
            texts = frame.select_dtypes(["object", "string"])
            if any(texts[c].dropna().astype(str).str.fullmatch(r"-?\d+,\d+").all() for c in texts):
                frame = pd.read_csv(path, sep=sign, decimal=",")
    return frame


def _are_dates(values: pd.Series) -> bool:
    known = values.dropna()
    if not len(known) or not known.str.match(r"\d{4}-\d{2}-\d{2}").all():
        return False
    try:
        pd.to_datetime(known, format="ISO8601", utc=True)
    except ValueError:
        return False
    return True


def fit_file(
    data: Path,
    out: Path,
    *,
    method: str | Sequence[str] = "auto",
    contamination: float | None = None,
    drop: Sequence[str] = (),
    normal: str | None = None,
    seed: int = 0,
) -> str:
    """Fit a detector on a file and save it; what was done, in a sentence."""
    frame = read_table(data)
    if normal is not None:
        name, sign, value = normal.partition("=")
        if not sign:
            raise TableError(f"--normal is COLUMN=VALUE, and {normal!r} has no =")
        _known(name, frame, data)
        kept = frame[name].astype(str) == value
        if not kept.any() and pd.api.types.is_numeric_dtype(frame[name]):
            # with gaps a column of 0 and 1 reads as 0.0 and 1.0
            kept = frame[name] == pd.to_numeric(value, errors="coerce")
        if not kept.any():
            values = ", ".join(sorted(frame[name].astype(str).unique())[:8])
            raise TableError(f"no row of {data} has {name} = {value!r}; there are: {values}")
        frame = frame[kept].drop(columns=name)
    for name in drop:
        _known(name, frame, data)
    frame = frame.drop(columns=list(drop))
    for name in frame.columns:
        values = frame[name].dropna()
        if pd.api.types.is_string_dtype(values) and values.nunique() > max(50, 0.9 * len(values)):
            dates = values.str.match(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}").all()
            raise TableError(
                f"the text in {name!r} differs in nearly every row, and nothing can be learned of "
                f"it: leave it out with --drop {name}"
                + (", or write dates as 2026-01-31" if dates else "")
            )
    detector = DiffusionDetector(
        method,
        contamination="auto" if contamination is None else contamination,
        random_state=seed,
    )
    with warned() as told:
        detector.fit(frame)
    detector.save(out)
    return (
        f"learned from {len(frame)} rows of {len(frame.columns)} "
        f"column{'s' if len(frame.columns) > 1 else ''}; "
        f"{detector.method_}: {detector.why_}; saved in {out}."
        + decisions.if_few(len(detector._held))
        + "".join(told)
    )


def refresh_file(model: Path, data: Path) -> str:
    """Let a saved detector learn from a further file; what was done, in a sentence."""
    detector, frame = DiffusionDetector.load(model), read_table(data)
    detector.partial_fit(_columns(detector, frame, data)).save(model)
    return f"learned from {len(frame)} further rows; saved in {model}"


def threshold_file(
    model: Path,
    *,
    budget: float | None,
    per: float,
    known: Path | None,
    costs: dict[str, float],
) -> str:
    """Put a saved detector's threshold; what was done, in a sentence."""
    if (budget is None) == (known is None):
        raise TableError(
            "a threshold comes from --budget or from --known (with --false-alarm, --miss and "
            f"--share); give one of them, and not {'both' if known else 'none'}"
        )
    detector = DiffusionDetector.load(model)
    if known is not None:
        odd = _columns(detector, read_table(known), known)
        detector.threshold_by_cost(odd, **costs)
    elif budget is not None:
        detector.threshold_by_budget(budget, per)
    detector.save(model)
    return f"alarms are rows with scores above {-detector.offset_:.4g}; saved in {model}"


def impute_file(data: Path, out: Path, *, draws: int = 0, seed: int = 0) -> str:
    """Fill the gaps of a file by its own rows; what was done, in a sentence."""
    if draws < 0:
        raise TableError(f"--draws is 0 or more; given {draws}")
    frame = read_table(data)
    gaps = int(frame.isna().sum().sum())
    if len(frame) < 2:
        raise TableError(f"{data} has one row, and gaps are filled by other rows")
    imputer = DiffusionImputer(max(1, draws), random_state=seed)
    with warned() as told:
        imputer.fit(frame)
    tables = imputer.impute(frame) if draws else [imputer.transform(frame)]
    truths = [name for name in frame if {*frame[name].dropna().map(type)} == {bool}]
    for i, table in enumerate(tables):
        path = out.with_name(f"{out.stem}-{i}{out.suffix}") if draws else out
        filled = pd.DataFrame(table, columns=frame.columns)
        filled[truths] = filled[truths].astype(float) >= 0.5
        storage.write_text(path, filled.to_csv(index=False))
        gaps -= int(filled.isna().sum().sum()) if not i else 0
    numbered = f", {draws} times, numbered" if draws else ""
    return f"{gaps} gaps filled in {out}{numbered}." + "".join(told)


@contextmanager
def warned() -> Iterator[list[str]]:
    """What is warned of inside, as sentences, each after a space, for an answer to end with."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield told
    for one in caught:
        sentence = str(one.message)
        told.append(f" {sentence[:1].upper()}{sentence[1:]}.")


def _known(name: str, frame: pd.DataFrame, path: Path) -> None:
    if name not in frame.columns:
        raise TableError(f"{path} has no column {name!r}; there are: {', '.join(frame.columns)}")


def scorer(model: Path) -> Callable[..., str]:
    """What `suffuse score` calls for a detector of tables (see the hook `open_scorer`)."""
    detector = DiffusionDetector.load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        if source.is_dir():
            raise TableError(f"{source} is a folder; this model scores the rows of one table")
        frame = read_table(source)
        seen = _columns(detector, frame, source)
        unusual = -detector.score_samples(seen)
        alarm = unusual > -detector.offset_
        table = pd.DataFrame({"row": np.arange(len(frame)), "score": unusual})
        table["p_value"] = decisions.p_values(unusual, detector._held)
        table["alarm"] = alarm.astype(int)
        contributions = detector.explain(seen) if explain or report is not None else None
        if explain and contributions is not None:
            names = np.asarray(contributions.columns)
            table["because"] = names[contributions.to_numpy().argmax(1)]
            table = table.join(contributions.add_prefix("from "))
        said = write_scores(table, out)
        if report is not None and contributions is not None:
            from suffuse_anomaly.report import write_report

            write_report(report, detector, frame, table, contributions, source)
            said += f"; report in {report}"
        return said

    return score


def write_scores(table: pd.DataFrame, out: Path) -> str:
    """Write scores with their alarms as CSV; how many there are, in a sentence."""
    storage.write_text(out, table.to_csv(index=False, float_format="%.6g"))
    return f"{len(table)} scores in {out}, {int(table['alarm'].sum())} alarms"


def _columns(detector: DiffusionDetector, frame: pd.DataFrame, source: Path) -> pd.DataFrame:
    """The columns that the detector was fitted on, in its order; others are left out."""
    missing = [name for name in detector.table_.names if name not in frame.columns]
    if missing:
        raise TableError(
            f"{source} lacks what the model was fitted on: {', '.join(missing)}; it has: "
            f"{', '.join(frame.columns)}"
        )
    return frame[detector.table_.names]
