import pytest
from made_up_runs import made_up_run

from hf_chts.report.examples import example_sets

TRANSLATED = ["Eins.", "Zwei."]


def run_on(name, where, translated=TRANSLATED):
    recipe = {"data": {"test": {"toy": where}}}
    return made_up_run(name=name, recipe=recipe, translations={"toy": translated})


@pytest.fixture
def files(tmp_path):
    """Writes a test set and gives its place in a recipe."""

    def write(name, *sources):
        texts = {f"{name}.en": sources, f"{name}.de": ["Erstens.", "Zweitens."]}
        for file, lines in texts.items():
            (tmp_path / file).write_text("".join(f"{line}\n" for line in lines))
        return {"files": [str(tmp_path / file) for file in texts]}

    return write


def by(found):
    (one,) = found
    return [[name for name, _ in example.translations] for example in one.examples]


def test_sources_references_and_translations_side_by_side(files):
    one, two = files("one", "One.", "Two."), files("copy", "One.", "Two.")
    run, other = run_on("a", one), run_on("b", two, ["1.", "2."])
    (found,) = example_sets(run, [other])
    assert found.origin.startswith("sources and references: ")
    assert "left out" not in found.origin
    first, second = found.examples
    assert (first.source, first.reference) == ("One.", "Erstens.")
    assert (second.source, second.reference) == ("Two.", "Zweitens.")
    assert second.translations == [("a", "Zwei."), ("b", "2.")]


def test_other_sentences_of_one_name_are_not_mixed(files):
    run = run_on("a", files("one", "One.", "Two."))
    others = [
        run_on("b", files("other", "Uno.", "Due.")),
        run_on("c", files("one", "One.", "Two."), TRANSLATED[:1]),
        run_on("d", {"files": ["gone.en", "gone.de"]}),
        made_up_run(name="e"),
    ]
    found = example_sets(run, others)
    assert by(found) == [["a"], ["a"]]
    said = "; not known to be the same sentences, and left out: b, c, d"
    assert found[0].origin.endswith(said)


def test_sentences_that_cannot_be_had_are_the_same_if_the_recipes_say_so():
    hub = {"dataset": "wmt", "split": "test", "fields": ["en", "de"]}
    run = run_on("a", hub)
    others = [run_on("b", dict(hub)), run_on("c", hub | {"split": "validation"})]
    found = example_sets(run, others)
    assert by(found) == [["a", "b"], ["a", "b"]]
    assert found[0].origin == (
        "references are not shown: they would have to be fetched; not known to be the same "
        "sentences, and left out: c"
    )
    unknown = example_sets(run_on("a", {}), [run_on("b", {})])
    assert by(unknown) == [["a"], ["a"]]


def test_a_set_that_is_not_what_was_translated_is_not_shown(files):
    (found,) = example_sets(run_on("a", files("one", "One.", "Two."), ["Eins."]), [])
    assert "is not what was translated" in found.origin
    assert found.examples[0].source == ""
