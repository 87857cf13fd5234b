from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hf_chts.config import SparsityConfig
from hf_chts.translation.averaging import refuse_moving_links
from hf_chts.translation.data import DataSource
from hf_chts.translation.model import empty_model
from hf_chts.translation.recipe import Recipe, load_recipe
from hf_chts.translation.sections import DataSection, ModelSection, TrainingSection

BASE = """
data:
  train: {corpus: embedded}
  validation: {corpus: embedded, split: validation}
  test: {t: {corpus: embedded, split: test}}
training: {max_steps: 10}
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_defaults(write) -> None:
    recipe = load_recipe(write(BASE))
    assert recipe.training == TrainingSection(max_steps=10)
    assert recipe.sparsity == SparsityConfig()
    assert recipe.data.test == {"t": DataSource(corpus="embedded", split="test")}


def test_base_and_overrides(write) -> None:
    write(BASE + "sparsity: {sparsity: 0.5, initial: {rule: brf, r: 0.1}}\n", "deep/base.yaml")
    write("base: base.yaml\ntraining: {clip: 2.5, seed: 4}\n", "deep/middle.yaml")
    path = write(
        "base: deep/middle.yaml\ntraining: {seed: 5}\nsparsity: {initial: {rule: er}}\n", "r.yaml"
    )
    recipe = load_recipe(path)
    assert (recipe.training.max_steps, recipe.training.clip, recipe.training.seed) == (10, 2.5, 5)
    assert (recipe.sparsity.sparsity, recipe.sparsity.initial) == (0.5, {"rule": "er"})
    changed = load_recipe(
        path,
        ["training.seed=6", "sparsity.method=rigl", "model.config.d_model=32",
         "training.learning_rate=5e-4", "sparsity.include=[fc1, fc2]",
         "data.train.max_pairs=7", "sparsity.initial={rule: brf}"],
    )  # fmt: skip
    assert changed.training.seed == 6
    assert changed.training.learning_rate == 5e-4
    assert changed.model.config == {"d_model": 32}
    assert changed.data.train == DataSource(corpus="embedded", max_pairs=7)
    assert changed.sparsity == SparsityConfig(
        method="rigl", sparsity=0.5, include=("fc1", "fc2"), initial={"rule": "brf"}
    )
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainng.seed=1", "unknown key trainng: did you mean training"),
        ("training.max_step=1", r"unknown key training.max_step: did you mean training.max_steps"),
        ("sparsity.zetta=1", r"unknown key sparsity.zetta: did you mean sparsity.zeta"),
        ("data.train.coprus=1", r"unknown key data.train.coprus: did you mean data.train.corpus"),
        ("data.test.t.splitt=x", r"data.test.t: unknown key splitt: did you mean split\?"),
        ("tokenizer.vocabsize=9", r"did you mean tokenizer.vocab_size"),
        ("model.familly=t5", "did you mean model.family"),
        ("evaluation.beam=3", "did you mean evaluation.beams"),
        ("data.foo.bar=1", "unknown key data.foo: known: max_length"),
        ("training.seed=x", "training.seed takes an integer; got 'x'"),
        ("training.seed=1.5", "training.seed takes an integer; got 1.5"),
        ("training.seed=-1", "training.seed must be at least 0; got -1"),
        ("training.seed=4294967296", r"training.seed must be below 2\*\*32; got 4294967296"),
        ("training.clip=true", "training.clip takes a number; got True"),
        ("training.schedule=naom", "takes 'noam', 'inoam', .*; got 'naom'"),
        ("training.betas=[0.9]", r"betas takes two numbers in \[0, 1\); got \[0.9\]"),
        ("training.betas=[0.9, 1]", r"betas takes two numbers in \[0, 1\); got \[0.9, 1\]"),
        ("training.max_steps=0", "max_steps must be at least 1; got 0"),
        ("training.warmup_steps=-1", "warmup_steps must be at least 0; got -1"),
        ("training.learning_rate=0", r"learning_rate must lie in \(0, inf\); got 0"),
        ("training.learning_rate=.nan", r"learning_rate must lie in \(0, inf\); got nan"),
        ("training.clip=.inf", "clip must be at least 0; got inf"),
        ("training.label_smoothing=1", r"label_smoothing must lie in \[0, 1\); got 1"),
        ("evaluation.length_penalty=.nan", "evaluation.length_penalty must be finite; got nan"),
        ("training.average_last=1", "average_last takes 0, or at least 2"),
        ("training.average_last=2", "number of checkpoints, max_steps / evaluate_every = 1; got 2"),
        ("model.init_scale=0", "model.init_scale must be above 0; got 0"),
        ("tokenizer.vocab_size=0", "vocab_size must be at least 1; got 0"),
        ("evaluation.beams=0", "evaluation.beams must be at least 1; got 0"),
        ("data.max_length=0", "data.max_length must be at least 1; got 0"),
        ("data.test={}", "data.test takes at least one test set by name"),
        ("data.test={../x: {corpus: embedded}}", r"takes names of letters.*got '../x'"),
        ("data.test.t=3", "data.test.t: expected a mapping; got 3"),
        ("data.train.file=x.tsv", "exactly one of .*; got file, corpus"),
        ("data.train=", "data.train takes a mapping; got None"),
        ("model=", "is no override: write section.key=value"),
        ("sparsity.sparsity=1.0", r"sparsity must lie in \[0, 1\); got 1.0"),
        ("seed=1", "'seed=1' is no override: write section.key=value"),
        ("training.seed", "is no override"),
        (".seed=3", "is no override"),
        ("training.seed=[", "the value is not YAML"),
        ("training.seed.x=3", "seed holds 1, not a section"),
    ],
)
def test_bad_overrides(write, override, message) -> None:
    path = write(BASE.replace("max_steps: 10", "max_steps: 10, seed: 1"))
    with pytest.raises(ValueError, match=message) as raised:
        load_recipe(path, [override])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [", "is not YAML"),
        ("- a list\n", r"a recipe is a mapping of sections; got \['a list'\]"),
        ("", "a recipe is a mapping of sections; got None"),
        (BASE + "model:\n", "model takes a mapping; got None"),
        (BASE + "model: 3\n", "model takes a mapping; got 3"),
        (BASE.replace("training: {max_steps: 10}", "training: {}"), "max_steps"),
        (BASE.replace("training: {max_steps: 10}", ""), "training"),
        (BASE + "base: nowhere.yaml\n", "no recipe .*nowhere.yaml: give the path"),
        (BASE + "base: recipe.yaml\n", "is its own base"),
    ],
)
def test_bad_files(write, text, message) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load_recipe(write(text))
    assert "\n" not in str(raised.value)


def test_missing_and_circular_files(write, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no recipe .*absent\.yaml: give the path of a YAML file"):
        load_recipe(tmp_path / "absent.yaml")
    write("base: b.yaml\n", "a.yaml")
    with pytest.raises(ValueError, match=r"a\.yaml is its own base"):
        load_recipe(write("base: a.yaml\n", "b.yaml").with_name("a.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"data: \xff\n")
    with pytest.raises(ValueError, match="is not YAML"):
        load_recipe(tmp_path / "latin.yaml")


def test_files_lie_beside_the_recipe_that_names_them(write, tmp_path, monkeypatch) -> None:
    for name in ("base/x.en", "base/x.de", "base/v.tsv", "own/t.en", "own/t.de", "here.tsv"):
        write("a\n", name)
    write(
        "data:\n  train: {files: [x.en, x.de]}\n  validation: {file: v.tsv}\n"
        "  test: {t: {file: here.tsv}}\ntraining: {max_steps: 3}\n",
        "base/b.yaml",
    )
    path = write("base: ../base/b.yaml\ndata: {test: {u: {files: [t.en, t.de]}}}\n", "own/r.yaml")
    monkeypatch.chdir(tmp_path)
    data = load_recipe(path).data
    found = [*data.train.files, data.validation.file, *data.test["u"].files]
    assert [Path(name).resolve().relative_to(tmp_path).as_posix() for name in found] == [
        "base/x.en", "base/x.de", "base/v.tsv", "own/t.en", "own/t.de"
    ]  # fmt: skip
    assert data.test["t"].file == "here.tsv"  # from the working directory


def test_root_says_where_files_are(write, tmp_path) -> None:
    text = BASE.replace("train: {corpus: embedded}", "train: {files: [a.en, a.de]}")
    data = load_recipe(write(text), [f"data.root={tmp_path}/far"]).data
    assert data.train.files == (f"{tmp_path}/far/a.en", f"{tmp_path}/far/a.de")
    assert data.validation.corpus == "embedded"


@pytest.mark.parametrize("where", ["base", "recipe", "override"])
def test_root_goes_before_files_beside_the_recipe(write, tmp_path, monkeypatch, where) -> None:
    for name in ("own/a.en", "own/a.de", "deep/a.en", "deep/a.de"):
        write("a\n", name)
    root = {key: "  root: far\n" if key == where else "" for key in ("base", "recipe")}
    text = BASE.replace("train: {corpus: embedded}", "train: {files: [a.en, a.de]}")
    write(text.replace("data:\n", f"data:\n{root['base']}"), "deep/b.yaml")
    write(f"base: ../deep/b.yaml\ndata:\n  source_lang: en\n{root['recipe']}", "own/r.yaml")
    monkeypatch.chdir(tmp_path)
    for path in ("own/r.yaml", tmp_path / "own" / "r.yaml"):
        data = load_recipe(path, ["data.root=far"] if where == "override" else []).data
        assert data.train.files == ("far/a.en", "far/a.de")
        beside = load_recipe(path, ["data.root="]).data
        assert beside.train.files == tuple(f"{tmp_path}/deep/a.{side}" for side in ("en", "de"))


def test_yaml_round_trip(write) -> None:
    text = BASE + (
        "model: {config: {d_model: 8, eos_token_id: null, xs: [1, [2]]}}\n"
        "sparsity: {removal: {rule: magnitude}, removal_exponent: 2, learning_rate_scale: smupar}\n"
    )
    recipe = load_recipe(
        write(text.replace("{t: ", "{2016: ")),
        ["training.epsilon=1e-9", "training.betas=[0.8, 0.9]", "tokenizer.source_code='no'"],
    )
    assert recipe.data.test.keys() == {"2016"}
    assert recipe.model.config["eos_token_id"] is None
    again = load_recipe(write(recipe.to_yaml(), "again.yaml"))
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()


LED = {"attention_window": 8}


def recipe(model=None, **training) -> Recipe:
    source = DataSource(corpus="embedded")
    return Recipe(
        DataSection(source, source, {"t": source}, max_length=20),
        TrainingSection(**{"max_steps": 100, **training}),
        ModelSection(**(model or {})),
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "marain"}, "model.family 'marain': Unrecognized model identifier: marain"),
        ({"family": "llama"}, "model.family 'llama': Unrecognized configuration class"),
        ({"config": {"d_modle": 8}}, r"unknown key model.config.d_modle: .*did you mean d_model\?"),
        ({"config": {"zzz": 8}}, r"unknown key model.config.zzz: marian has none$"),
        ({"config": {"d_model": "wide"}}, "model.config: .*'d_model' expected int, got str"),
        ({"config": {"d_model": 30, "encoder_attention_heads": 4}}, "model.config: .* divisible"),
        ({"config": {"activation_function": "reluu"}}, "model.config: KeyError: 'reluu'"),
        ({"config": {"encoder_layers": -1}}, "config.encoder_layers must be at least 0; got -1"),
        ({"config": {"d_model": 0}}, "model.config: ZeroDivisionError: "),
        ({"config": {"dtype": "float31"}}, "model.config: AttributeError: .*float31"),
        ({"family": "led", "config": {"attention_window": 0}}, "model.config: .* to be positive"),
        (
            {"config": {"max_position_embeddings": 19}},
            "19 positions .* fewer than data.max_length=20",
        ),
        ({"family": "led", "config": {**LED, "max_decoder_position_embeddings": 9}}, "9 positions"),
        ({"family": "led", "config": {**LED, "max_encoder_position_embeddings": 23}}, "has 16 pos"),
        ({"family": "prophetnet", "config": {"max_position_embeddings": 21}}, "has 19 positions"),
    ],
)
def test_models_that_cannot_be_made(model, message) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        empty_model(recipe(model))


def test_averaging_takes_one_topology() -> None:
    refuse_moving_links(recipe(evaluate_every=10, average_last=3))
    too_many = recipe(evaluate_every=10, average_last=5)
    too_many = replace(too_many, sparsity=replace(too_many.sparsity, update_interval=5))
    with pytest.raises(ValueError, match="reaches back to step 60, but links move until step 75"):
        refuse_moving_links(too_many)
