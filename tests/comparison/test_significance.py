"""The paired bootstrap over seeds."""

import pytest
from made_up_comparison import REFERENCES, translations
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from hf_chts.comparison.grid import Cell
from hf_chts.comparison.significance import BLEUOfSeeds, CHRFOfSeeds, paired_bootstrap

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"


def outputs(method, seeds=(1, 2, 3)):
    return [translations(Cell(method, 0.9, seed)) for seed in seeds]


def p_values(baseline, system):
    return paired_bootstrap(baseline, system, REFERENCES, SIGNATURE)[0]


def test_the_same_output_is_no_difference() -> None:
    assert p_values(outputs("chts"), outputs("chts")) == {"bleu": 1, "chrf": 1}


def test_methods_of_equal_quality_do_not_differ() -> None:
    assert min(p_values(outputs("chts"), outputs("rigl")).values()) > 0.05


def test_a_clearly_better_method_differs_both_ways() -> None:
    for pair in (("set", "chts"), ("chts", "set")):
        found = p_values(*map(outputs, pair))
        assert found == pytest.approx({"bleu": 1 / 1001, "chrf": 1 / 1001})


def test_one_seed_is_sacrebleus_own_test() -> None:
    """On sentences of their own they differ by chance, so the p-values are between 0 and 1."""
    (baseline,), (system,) = outputs("chts", [1]), outputs("rigl", [2])
    named = [("baseline", baseline), ("system", system)]
    metrics = {"bleu": BLEU(), "chrf": CHRF()}
    _, found = PairedTest(named, metrics, [REFERENCES], "bs", 1000)()
    bleu, chrf = found["BLEU"][1].p_value, found["chrF2"][1].p_value
    assert p_values([baseline], [system]) == {"bleu": bleu, "chrf": chrf}
    assert 0.01 < bleu != chrf > 0.01


def test_a_seed_counted_twice_is_no_further_evidence() -> None:
    """Resampled one by one, twice the sentences would make small differences significant."""
    (baseline,), (system,) = outputs("chts", [1]), outputs("rigl", [2])
    assert p_values([baseline] * 4, [system] * 4) == p_values([baseline], [system])


def test_seeds_count_together() -> None:
    """The scores of the test are those of all seeds' sentences as one long text."""
    by_seed = outputs("set")
    long = [line for lines in by_seed for line in lines]
    by_sentence = list(zip(*by_seed, strict=True))
    for metric, plain in ((BLEUOfSeeds(tokenize="13a"), BLEU()), (CHRFOfSeeds(), CHRF())):
        counts = metric._extract_corpus_statistics(by_sentence, [REFERENCES])
        whole = plain.corpus_score(long, [REFERENCES * 3]).score
        assert metric._aggregate_and_compute(counts).score == pytest.approx(whole)


def test_the_signature_names_resamples_and_seed() -> None:
    _, signature = paired_bootstrap(outputs("set"), outputs("chts"), REFERENCES, SIGNATURE)
    start = "nrefs:1|bs:1000|seed:12345|case:mixed|"
    assert signature["bleu"].startswith(start + "eff:no|tok:13a|")
    assert signature["chrf"].startswith(start + "eff:yes|nc:6|nw:0|")


def test_the_tokenizer_is_that_of_the_scores() -> None:
    """Also where the signature goes on with a version, as that of ``ja-mecab`` does."""
    chinese = SIGNATURE.replace("tok:13a", "tok:zh-1.0")
    _, signature = paired_bootstrap([["我喜欢你"]], [["我爱你"]], ["我爱你"], chinese)
    assert "|tok:zh|" in signature["bleu"]


@pytest.mark.parametrize(
    ("baseline", "system", "message"),
    [
        ([], [], "the same seeds of both, at least one; got 0 and 0"),
        ([["a"]], [["a"], ["b"]], "got 1 and 2"),
        ([["a"]], [["a", "b"]], r"differ in sentences: \[1, 2\]"),
    ],
)
def test_what_cannot_be_paired_is_refused(baseline, system, message) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(baseline, system, ["a"], SIGNATURE)


def test_a_signature_without_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="no tokenizer of sacreBLEU in the signature 'x'"):
        paired_bootstrap([["a"]], [["a"]], ["a"], "x")
