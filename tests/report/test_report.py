import dataclasses
import importlib
import itertools
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import networkx as nx
import numpy as np
import pytest
from PIL import Image
from run_files import HOSTILE, SIGNATURE, write_dense_run, write_run

from hf_chts.report import write_report
from hf_chts.report.comparison import comparison
from hf_chts.report.figure_store import FigureStore
from hf_chts.report.run_data import read_run

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes, text of the whole, and whether tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def values(self, attribute):
        return [found[attribute] for _, found in self.elements if found.get(attribute)]


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def words(page):
    return " ".join(" ".join(page.words).split())


def section_titles(path):
    return re.findall(r'<h2 id="[^"]*">([^<]*)', path.read_text(encoding="utf-8"))


def test_every_section_is_there(report):
    assert section_titles(report) == [
        *("Summary", "Scores", "Runs side by side", "Training", "Topology updates", "Layers"),
        *("Layers, closely", "Evolution", "Neurons that dropped out", "Translations"),
        "How it was made",
    ]


def test_tags_are_closed_and_ids_are_unique(page):
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_links_and_labels_lead_somewhere(page):
    ids = set(page.values("id"))
    targets = [href for href in page.values("href") if not href.startswith("data:")]
    assert {target[1:] for target in targets} <= ids
    assert {*page.values("for"), *page.values("aria-labelledby")} <= ids
    xlinks = [value for value in page.values("xlink:href") if not value.startswith("data:")]
    assert {value[1:] for value in xlinks} <= ids


def test_nothing_is_loaded_from_anywhere(page, report):
    assert all(source.startswith("data:") for source in page.values("src"))
    assert not any(tag in ("link", "iframe", "object", "base") for tag, _ in page.elements)
    text = report.read_text(encoding="utf-8").replace("http://www.w3.org/1999/xlink", "")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_what_files_say_is_shown_and_never_run(page, report, words):
    assert sum(tag == "script" for tag, _ in page.elements) == 2  # data, and the page's own
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert words.count(HOSTILE) >= 5  # source, translations, recipe, processor
    assert "script-src 'sha256-" in report.read_text(encoding="utf-8")


def test_scores_have_their_signatures(words):
    assert SIGNATURE in words
    assert "12.50" in words


def test_undefined_is_said_in_words(words):
    assert "not defined: residual stream" in words
    assert "not defined: one of the runs has no links to compare" in words
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", words)


def test_headings_descend_by_one(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_pictures_have_words(page):
    assert all(found.get("alt") for tag, found in page.elements if tag == "img")
    charts = [found for tag, found in page.elements if tag == "svg"]
    assert len(charts) > 10
    assert all(found["role"] == "img" and found["aria-label"] for found in charts)


def test_the_page_is_small(report):
    assert report.stat().st_size < 1_500_000


def test_figures_are_files(report):
    folder = report.parents[1] / "figures"
    stems = {path.stem for path in folder.iterdir()}
    assert {"training-loss", "topology-itop", "comparison-overlap"} <= stems
    assert {path.suffix for path in folder.iterdir()} == {".png", ".svg"}
    assert len(list(folder.iterdir())) == 2 * len(stems)
    with Image.open(folder / "training-loss.png") as image:
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)


def test_graphs_hold_all_links(report):
    root = report.parents[1]
    masks = read_run(root / "one").final
    for name, mask in masks.items():
        graph = nx.read_graphml(root / "graphml" / f"{name}.graphml")
        assert graph.number_of_edges() == mask.sum()
        output, source = np.argwhere(mask)[0]
        assert graph.has_edge(f"in-{source}", f"out-{output}")
    whole = nx.read_graphml(root / "graphml" / "whole_network.graphml")
    links = sum(data["links"] for _, _, data in whole.edges(data=True))
    assert links == sum(mask.sum() for mask in masks.values())


def test_a_dense_run_has_no_topology_and_says_so(tmp_path):
    run = write_dense_run(tmp_path / "dense")
    path = write_report(run, graphml=tmp_path / "graphml")
    assert path == run / "report.html"
    assert section_titles(path) == [
        *("Summary", "Scores", "Training", "Translations", "How it was made"),
    ]
    text = path.read_text(encoding="utf-8")
    assert "This is a dense run" in text
    assert "there are no links to write as GraphML" in text


def test_an_older_run_has_no_evolution_and_says_so(tmp_path):
    run = write_run(tmp_path / "old")
    (run / "network.json").unlink()
    shutil.rmtree(run / "snapshots")
    for name in ("bleu.json", "metrics.jsonl", "topology.jsonl"):
        (run / name).unlink()
    (run / "source.txt").unlink()
    graphml = tmp_path / "graphml"
    path = write_report(run, layers="encoder.*fc1", graphml=graphml)
    titles = section_titles(path)
    assert "Layers, closely" in titles
    assert "Evolution" not in titles
    assert "Neurons that dropped out" not in titles
    text = path.read_text(encoding="utf-8")
    for said in ("older run", "has not finished", "There is no log of topology updates",
                 "There is no training log", "references are not shown", "No run has been scored",
                 "GraphML of single layers only"):  # fmt: skip
        assert said in text
    assert not (graphml / "whole_network.graphml").exists()


def with_links_of_snapshots(folder, change):
    """A run whose result is its last snapshot, after a change of the bits of each."""
    run = write_run(folder)
    shutil.rmtree(run / "model")
    for path in sorted((run / "snapshots").iterdir()):
        with np.load(path) as file:
            changed = {name: change(file[name]) for name in file.files}
        np.savez_compressed(path, **changed)
    return run


def test_layers_that_changed_into_nothing_are_not_defined(tmp_path):
    run = with_links_of_snapshots(tmp_path / "empty", np.zeros_like)
    path = write_report(run, layers="encoder.*fc1")
    text = path.read_text(encoding="utf-8")
    assert "not defined: the layer has no link" in text
    assert "The hyperbolic disc is not defined" in text


def test_no_neuron_that_was_inactive_is_said_only_where_snapshots_show_it(tmp_path, report):
    said = "No neuron between layers was inactive in any snapshot."
    assert said not in report.read_text(encoding="utf-8")
    run = with_links_of_snapshots(tmp_path / "full", lambda bits: np.full_like(bits, 255))
    text = write_report(run, layers="encoder.*fc1").read_text(encoding="utf-8")
    assert said in text
    for path in sorted((run / "snapshots").iterdir())[:-1]:
        path.unlink()
    text = write_report(run, layers="encoder.*fc1").read_text(encoding="utf-8")
    assert "Neurons that dropped out" in text
    assert said not in text


def test_a_model_without_neurons_between_layers_says_so(tmp_path):
    run = write_run(tmp_path / "one")
    network = json.loads((run / "network.json").read_text()) | {"groups": []}
    (run / "network.json").write_text(json.dumps(network))
    text = write_report(run, layers="encoder.*fc1").read_text(encoding="utf-8")
    assert "No neurons lie between two sparse layers." in text


def test_folders_of_one_name_are_told_apart(tmp_path):
    runs = [write_dense_run(tmp_path / place / "run") for place in ("a", "b")]
    text = write_report(runs[0], compare=[runs[1], runs[1]]).read_text(encoding="utf-8")
    assert "beside b/run (2), b/run (3)" in text
    assert "<h1>a/run</h1>" in text


def test_machines_of_a_resumed_run_stand_side_by_side(tmp_path):
    run = write_dense_run(tmp_path / "run")
    parts = [{"processor": name, "gpu": None, "threads": n} for n, name in enumerate("abc")]
    record = parts[2] | {"earlier": [*parts[:2], "damaged"]}
    (run / "environment.json").write_text(json.dumps(record))
    text = write_report(run).read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row">(processor|gpu|threads)</th>(.*)</tr>', text)
    assert {name: re.findall("<code>(.*?)</code>", cells) for name, cells in rows} == {
        "processor": ["c", "b", "a"], "gpu": ["none"] * 3, "threads": ["2", "1", "0"],
    }  # fmt: skip
    assert "None" not in " ".join(Page(text).words)
    (run / "environment.json").write_text(json.dumps(parts[0] | {"earlier": None}))
    assert "resumed, the last one" not in write_report(run).read_text(encoding="utf-8")


def test_only_runs_of_the_same_layers_share_links(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("one", "two", "three")]
    network = {"layers": {"fc": [1, 1]}, "groups": []}
    (runs[2] / "network.json").write_text(json.dumps(network))
    shutil.rmtree(runs[2] / "snapshots")
    one, *others = [read_run(run) for run in runs]
    others[1] = dataclasses.replace(others[1], final={"fc": np.ones((1, 1), dtype=bool)})
    same, other = comparison(one, others, FigureStore(None)).shared
    assert same.cells[1:3] == ["1", f"{1 / (1 - 0.7):.3g}"]  # the same seed: the same links
    assert other.reason == "not defined: the runs have different layers"


def test_missing_packages_are_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("hf_chts.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs the package jinja2: pip install .*analysis"):
        importlib.import_module("hf_chts.report")


def test_bad_arguments_write_nothing(tmp_path):
    run = write_run(tmp_path / "one")
    with pytest.raises(ValueError, match="fits no layer"):
        write_report(run, layers="fc9", figures=tmp_path / "figures")
    with pytest.raises(ValueError, match="there is no folder"):
        write_report(run, compare=[tmp_path / "two"])
    with pytest.raises(ValueError, match="is a folder: give the HTML file to write"):
        write_report(run, output=tmp_path, figures=tmp_path / "figures")
    with pytest.raises(ValueError, match=r"recipe\.yaml is a file: give a folder to write to"):
        write_report(run, figures=tmp_path / "figures", graphml=run / "recipe.yaml")
    assert not (run / "report.html").exists()
    assert not (tmp_path / "figures").exists()
