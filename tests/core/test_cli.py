"""The command line, as a user types it; on the toy domain."""

import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

import suffuse
from suffuse import storage
from suffuse.cli import _COMMANDS, cli, main

TINY = ["--set", "training.steps=4", "--set", "denoiser.width=8", "--set", "dataset.n=40"]


def run(*words):
    """Exit status, output and error output of a command run here."""
    runner = CliRunner()
    code, sentence = 0, ""
    with runner.isolation() as (out, err, _):
        try:
            main(list(words))
        except SystemExit as e:
            code = e.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        text = out.getvalue().decode()
        sentence = err.getvalue().decode()
    return code, text, sentence


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps, made once."""
    return tmp_path_factory.mktemp("cli") / "run"


@pytest.fixture
def made(toy, trained):
    if not (trained / "config.json").exists():
        assert run("train", "toy/spiral", "--out", str(trained), *TINY)[0] == 0
    return trained


def test_version_and_help():
    assert run("--version")[1].strip() == f"suffuse, version {suffuse.__version__}"
    code, text, _ = run("--help")
    assert code == 0
    for name in ("train", "sample", "evaluate", "plugins", "recipes", "completion"):
        assert name in text


@pytest.mark.parametrize("name", cli.list_commands(None))
def test_every_command_has_help(name):
    code, text, _ = run(name, "--help")
    assert code == 0
    assert "Usage:" in text


def test_help_and_import_bring_no_torch():
    code = (
        "import sys, suffuse\nfrom suffuse.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'pydantic', 'matplotlib', 'accelerate'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith("set()")


def test_as_a_module():
    told = subprocess.run(
        [sys.executable, "-m", "suffuse", "--version"], capture_output=True, text=True, check=True
    )
    assert suffuse.__version__ in told.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    code, text, _ = run("completion", shell)
    assert code == 0
    assert "_SUFFUSE_COMPLETE" in text


@pytest.mark.parametrize("plural", ["recipes", "models", "datasets", "solvers", "evaluators"])
def test_lists(toy, plural):
    code, text, _ = run(plural, "list", "--json")
    assert code == 0
    rows = json.loads(text)
    assert all({"name", "summary", "distribution", "version"} == row.keys() for row in rows)
    plain = run(plural, "list")[1]
    assert all(row["name"] in plain for row in rows)
    if plural == "recipes":
        assert [row["name"] for row in rows] == ["toy/spiral"]


def test_showing_a_solver(tmp_path):
    picture = tmp_path / "plan.svg"
    words = ["solvers", "show", "ddim", "--steps", "3", "--set", "eta=1", "--plot", str(picture)]
    code, text, _ = run(*words)
    assert code == 0
    assert text.startswith("ddim: 3 network calls")
    assert "0.66667" in text
    assert picture.read_text().startswith("<svg")
    assert json.loads(run(*words[:7], "--json")[1])["options"] == {"eta": 1.0}
    text = run("solvers", "show", "dpmpp-3m", "--steps", "4", "--plot")[1]
    assert "step in λ" in text
    assert "####" in text
    assert "an error of 1 in every estimate" in text
    assert run("solvers", "show", "remask", "--steps", "4", "--plot")[0] == 0


def test_print_config_is_a_recipe_that_trains(toy, tmp_path):
    code, text, _ = run("train", "toy/spiral", *TINY, "--seed", "5", "--print-config")
    assert code == 0
    assert "seed = 5" in text
    (tmp_path / "mine.toml").write_text(text)
    out = tmp_path / "run"
    assert run("train", str(tmp_path / "mine.toml"), "--out", str(out))[0] == 0
    assert json.loads((out / "config.json").read_text())["recipe"]["training"]["seed"] == 5


def test_pairs_behind_set_need_no_second_one(toy):
    words = ["train", "toy/spiral", "--print-config"]
    apart = run(*words, "--set", "training.steps=7", "--set", "training.batch=3")
    pairs = ["training.steps=7", "training.batch=3"]
    assert run(*words, "--set", *pairs)[:2] == apart[:2]
    assert run(*words, *pairs)[:2] == apart[:2]
    assert "steps = 7" in apart[1]
    assert "batch = 3" in apart[1]


def test_sampling_into_a_folder_and_making_one_again(made, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run("sample", str(made), "-n", "3", "--arm", "left,right", "-o", str(out))
    assert code == 0
    assert text.startswith("3 samples")
    names = sorted(p.name for p in out.iterdir())
    assert names == ["00000.json", "00001.json", "00002.json", "grid.png"]
    files = [json.loads((out / name).read_text()) for name in names[:3]]
    record = json.loads(files[1]["metadata"]["suffuse"])
    assert record["conditions"] == {"arm": "right"}
    assert (record["seed"], record["index"]) == (0, 1)
    again = tmp_path / "again.json"
    assert run("sample", "--from", str(out / "00001.json"), "-o", str(again))[0] == 0
    found = json.loads(again.read_text())["point"]
    assert found == pytest.approx(files[1]["point"], abs=1e-5)


def test_guidance_and_solver_with_options_are_kept_in_the_file(made, tmp_path):
    out = tmp_path / "out"
    words = ["--guidance", "3", "--guidance-by", "apg,largest=0.5", "--guidance-by", "rescale"]
    words += ["--solver", "heun,churn=4", "--steps", "6", "--arm", "left"]
    code, _, told = run("sample", str(made), "-n", "2", *words, "-o", str(out))
    assert code == 0, told
    first = json.loads((out / "00001.json").read_text())
    kept = json.loads(first["metadata"]["suffuse"])["settings"]
    assert kept["guidance_by"] == [{"name": "apg", "largest": 0.5}, {"name": "rescale"}]
    assert kept["solver"] == {"name": "heun", "churn": 4}
    again = tmp_path / "again.json"
    assert run("sample", "--from", str(out / "00001.json"), "-o", str(again))[0] == 0
    found = json.loads(again.read_text())["point"]
    assert found == pytest.approx(first["point"], abs=1e-5)


def test_samples_take_their_steps_as_the_recipe_spreads_them(toy, tmp_path):
    spread = ["--set", "sampling.grid.name=balanced", "--set", "sampling.grid.shift=4"]
    where, one, again = (tmp_path / name for name in ("run", "one.json", "again.json"))
    assert run("train", "toy/spiral", "--out", str(where), *TINY, *spread)[0] == 0
    words = ["--steps", "4", "--arm", "left", "-n", "1"]
    assert run("sample", str(where), *words, "-o", str(one))[0] == 0
    model = suffuse.load(where)
    point = json.loads(one.read_text())["point"]
    assert point == pytest.approx(list(model.sample(1, steps=4, arm="left")[0]), abs=1e-5)
    usual = model.sample(1, steps=4, arm="left", grid="balanced")[0]
    assert point != pytest.approx(list(usual), abs=1e-5)
    assert run("sample", "--from", str(one), "-o", str(again))[0] == 0
    assert json.loads(again.read_text())["point"] == pytest.approx(point, abs=1e-5)


def test_a_file_is_remade_only_with_the_weights_that_made_it(made, tmp_path):
    one = tmp_path / "one.json"
    assert run("sample", str(made), "-n", "1", "-o", str(one))[0] == 0
    moved = tmp_path / "moved"
    shutil.copytree(made, moved)
    again = tmp_path / "again.json"
    assert run("sample", str(moved), "--from", str(one), "-o", str(again))[0] == 0
    weights = moved / "model.safetensors"
    tensors = storage.load_tensors(weights)
    storage.save_tensors(weights, {name: tensor + 1 for name, tensor in tensors.items()})
    code, _, told = run("sample", str(moved), "--from", str(one), "-o", str(again))
    assert (code, "other weights" in told) == (1, True)
    text = json.loads(one.read_text())
    record = json.loads(text["metadata"]["suffuse"])
    for key, value in [("model", 5), ("seed", -1), ("conditions", {"arm": []}), ("settings", {})]:
        text["metadata"]["suffuse"] = json.dumps({**record, key: value})
        one.write_text(json.dumps(text))
        code, _, told = run("sample", "--from", str(one), "-o", str(again))
        assert (code, "does not say how it was made" in told) == (1, True)


def test_sampling_onto_one_sheet(made, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert run("sample", str(made), "-n", "4", "--arm=all", "-o", str(sheet))[0] == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_several_samples_in_a_file_of_one_are_refused_before_they_are_made(made, tmp_path):
    one = tmp_path / "one.json"
    code, _, told = run("sample", str(made), "-n", "4", "--arm=all", "-o", str(one))
    assert (code, one.exists()) == (1, False)
    assert "4 samples on one sheet are written as .png, not .json" in told


def test_an_option_given_as_a_condition_is_told_as_an_option(made, tmp_path):
    code, _, told = run("sample", str(made), "--set", "steps=2", "-o", str(tmp_path / "o"))
    assert (code, "'steps' is an option and no condition: --steps 2" in told) == (1, True)


def test_a_warning_is_said_once(monkeypatch, tmp_path, capsys):
    (tmp_path / "suffuse_repeating.py").write_text(
        "import logging, click\n\n\n@click.command()\ndef repeat():\n"
        "    for word in ('a', 'b', 'a', 'a'):\n"
        "        logging.getLogger('some').warning('no word %s', word)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(_COMMANDS, "repeat", ("suffuse_repeating:repeat", ""))
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.lastResort, "filters", [])
    with pytest.raises(SystemExit):
        main(["repeat"])
    assert capsys.readouterr().err == "no word a\nno word b\n"


def test_a_page_of_the_samples(made, tmp_path):
    page, out = tmp_path / "page.html", tmp_path / "out"
    words = ["-n", "2", "--arm", "left,right", "--seed", "5", "-o", str(out)]
    code, told, _ = run("sample", str(made), *words, "--report", str(page))
    assert (code, f"the page is {page}" in told) == (0, True)
    text = page.read_text()
    for said in ("2 samples", "left", "right", "guidance", "data:image/png"):
        assert said in text
    again = tmp_path / "again.html"
    words = ["--from", str(out / "00001.json"), "-o", str(tmp_path / "one.json")]
    assert run("sample", *words, "--report", str(again))[0] == 0
    assert "right" in again.read_text()
    code, _, told = run("sample", str(made), "--report", str(tmp_path / "page.txt"))
    assert (code, "--report is a page, .html" in told) == (1, True)


def test_nothing_is_raw_where_nothing_is_repaired(made, tmp_path):
    code, _, told = run("sample", str(made), "--raw", "-o", str(tmp_path / "one.json"))
    assert (code, "nothing is repaired in this model's domain" in told) == (1, True)


def test_set_gives_conditions_as_well(made, tmp_path):
    for words in (["--set", "arm=left"], ["--arm", "left"], ["--arm=left"]):
        out = tmp_path / "one.json"
        assert run("sample", str(made), "-n", "1", *words, "-o", str(out))[0] == 0
        record = json.loads(json.loads(out.read_text())["metadata"]["suffuse"])
        assert record["conditions"] == {"arm": "left"}


def test_evaluating(made, tmp_path):
    out = tmp_path / "figures.json"
    code, text, _ = run("evaluate", str(made), "-n", "20", "--json", "-o", str(out))
    assert code == 0
    assert json.loads(text) == json.loads(out.read_text())
    assert json.loads(text)[0]["name"] == "distance"
    assert "distance" in run("evaluate", str(made), "-n", "20")[1]
    by = ("--by", "toy/distance,resamples=3")
    other = json.loads(run("evaluate", str(made), "-n", "20", *by, "--json")[1])[0]
    assert other["value"] == json.loads(text)[0]["value"]
    assert other["low"] != json.loads(text)[0]["low"]
    assert "no evaluator 'toy/distanc'" in run("evaluate", str(made), "--by", "toy/distanc")[2]


def test_figures_that_are_no_numbers_are_null(made, tmp_path, monkeypatch):
    from suffuse.model import Model
    from suffuse.plugins.contracts import Metric

    nothing = Metric("spread", float("nan"), float("-inf"), 1.0, "lower", 1)
    monkeypatch.setattr(Model, "evaluate", lambda self, *given, **settings: [nothing])
    out = tmp_path / "figures.json"
    assert run("evaluate", str(made), "--json", "-o", str(out))[0] == 0
    (figure,) = json.loads(out.read_text())
    assert (figure["value"], figure["low"], figure["high"]) == (None, None, 1.0)


def test_two_processes_make_what_one_makes(made, tmp_path, toy_environment):
    one, two = tmp_path / "one", tmp_path / "two"
    words = [
        "sample",
        str(made),
        "-n",
        "5",
        "--arm",
        "all",
        "--seed",
        "3",
        "--solver",
        "ddpm",
        "-o",
    ]
    assert run(*words, str(one))[0] == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {**toy_environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    port = str(20000 + os.getpid() % 20000)
    told = subprocess.run(
        [*torchrun, "--master-port", port, "-m", "suffuse", *words, str(two)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert told.stdout.count("samples in") == 1, "only one process writes, so they know each other"
    for i in range(5):
        a, b = (json.loads((d / f"{i:05d}.json").read_text()) for d in (one, two))
        assert a["point"] == pytest.approx(b["point"], abs=1e-5)
        assert a["metadata"] == b["metadata"]


MISTAKES = [
    (["trian"], "no command 'trian'; did you mean 'train'"),
    (["train", "toy/spirl"], "did you mean 'toy/spiral'"),
    (["train", "toy/spiral", "--set", "training.stepz=1"], "did you mean 'training.steps'"),
    (["train", "toy/spiral", "--set", "training.steps"], "key=value"),
    (["train", "toy/spiral", "training"], "key=value"),
    (["train", "toy/spiral", "--data", "x", "--print-config"], "dataset.path"),
    (["solvers", "show", "dimm"], "did you mean 'ddim'"),
    (["solvers", "show", "ddim", "--schedule", "cosin"], "did you mean 'cosine'"),
    (["solvers", "show", "ddim", "--set", "etta=1"], "did you mean 'solver.eta'"),
    (["sample"], "sample needs a model"),
    (["sample", "nowhere"], "no model or run directory 'nowhere'"),
    (["sample", "RUN", "--arm", "up"], "no "),
    (["sample", "RUN", "--am", "left"], "did you mean 'arm'"),
    (["sample", "RUN", "--arm"], "needs a value"),
    (["sample", "RUN", "--arm", "left", "--arm=right"], "given twice"),
    (["sample", "RUN", "--guidance", "nan"], "--guidance is a number"),
    (["sample", "RUN", "--steps", "100000001"], "up to 100,000"),
    (["sample", "--from", "RUN/config.json", "--steps", "3"], "give no conditions or settings"),
    (["sample", "RUN", "left"], "unexpected argument 'left'"),
    (["sample", "RUN", "-n", "0"], "1 or more"),
    (["sample", "RUN", "--set", "arm"], "condition=value"),
    (["sample", "RUN", "--solver", "dimm"], "did you mean 'ddim'"),
    (["sample", "RUN", "--solver", "ddim,eat=1"], "did you mean 'solver.eta'"),
    (["sample", "RUN", "--guidance-by", "agp"], "did you mean 'apg'"),
    (["sample", "RUN", "--guidance-by", "apg,large=1"], "did you mean 'guidance_by.largest'"),
    (["sample", "RUN", "--guidance-by", "cfg-plus-plus", "--guidance", "2"], "between 0 and 1"),
    (["sample", "--from", "RUN/config.json"], "config.json"),
    (["sample", "--from", "RUN/metrics.jsonl"], "does not say how it was made"),
    (["evaluate", "nowhere"], "no model or run directory"),
    (["report", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v)[:40])
def test_mistakes_end_in_one_sentence(made, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, told = run(*(w.replace("RUN", str(made)) for w in words))
    assert code == 1
    assert message in told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1
