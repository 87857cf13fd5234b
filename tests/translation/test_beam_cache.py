from __future__ import annotations

import pytest
import torch
from families import FAMILIES, LENGTH, VOCABULARY

from hf_chts.translation.beam_cache import CACHE_ARGUMENT, BeamCache
from hf_chts.translation.decode import _takes_beam_cache as takes_beam_cache

SEQ2SEQ = [name for name, family in FAMILIES.items() if not family.causal]
NEW = 14


def generate(model, beams, **search):
    torch.manual_seed(1)
    source = torch.randint(3, VOCABULARY, (5, LENGTH))
    mask = torch.ones_like(source)
    mask[1, 4:], mask[3, 6:] = 0, 0
    return model.generate(
        input_ids=source,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=NEW,
        max_length=None,
        early_stopping=False,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **search,
    )


@pytest.mark.parametrize("beams", [3, 4])
@pytest.mark.parametrize("name", SEQ2SEQ)
def test_beam_search_finds_the_same(name, beams) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name].make().eval()
    if not takes_beam_cache(model):
        pytest.skip("brings a cache of its own kind")
    expected = generate(model, beams)
    parents = expected.beam_indices[:, 1:]
    assert (parents.diff(dim=1) != 0).any()  # beams changed places
    found = generate(model, beams, **{CACHE_ARGUMENT: BeamCache(NEW + 1, beams)})
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.sequences_scores, expected.sequences_scores)


def test_rows_follow_their_beams() -> None:
    cache = BeamCache(4, beams=3)
    keys = torch.arange(24.0).view(3, 2, 1, 4)  # rows, heads, tokens, width
    cache.self_attention_cache.update(keys, -keys, 0)
    cache.reorder_cache(torch.tensor([2, 2, 0]))
    more = torch.full((3, 2, 2, 4), 7.0)
    all_keys, all_values = cache.self_attention_cache.update(more, more, 0)
    assert torch.equal(all_keys, torch.cat([keys[[2, 2, 0]], more], dim=-2))
    assert torch.equal(all_values, torch.cat([-keys[[2, 2, 0]], more], dim=-2))
    assert cache.get_seq_length() == 3


def test_layers_do_not_share_what_they_hold() -> None:
    cache = BeamCache(3, beams=2)
    layers = [torch.full((2, 1, 1, 2), float(n)) for n in range(3)]
    for n, states in enumerate(layers):
        cache.self_attention_cache.update(states, states + 10, n)
    for _ in range(3):
        cache.reorder_cache(torch.tensor([1, 0]))
    for n, states in enumerate(layers):
        assert torch.equal(cache.self_attention_cache.layers[n].keys, states)
        assert torch.equal(cache.self_attention_cache.layers[n].values, states + 10)


@pytest.mark.parametrize(("beams", "other"), [(2, 4), (3, 6), (2, 5), (3, 15)])
def test_another_number_of_beams_is_refused(beams, other) -> None:
    model = FAMILIES["marian"].make().eval()
    says = f"is for {other} beams a sentence, and the {5 * beams} rows it got are not that: give"
    with pytest.raises(ValueError, match=says):
        generate(model, beams, **{CACHE_ARGUMENT: BeamCache(NEW + 1, beams=other)})


def test_too_little_room_is_refused() -> None:
    model = FAMILIES["marian"].make().eval()
    with pytest.raises(ValueError, match="room for 4 tokens a sentence and got 5: make it with"):
        generate(model, 2, **{CACHE_ARGUMENT: BeamCache(4, beams=2)})


def test_the_source_is_kept_once_a_sentence_and_stays_in_order() -> None:
    cache = BeamCache(2, beams=2)
    states = torch.randn(2, 1, 3, 2).repeat_interleave(2, dim=0)
    cache.self_attention_cache.update(states[:, :, :1], states[:, :, :1], 0)
    cache.cross_attention_cache.update(states, states, 0)
    cache.reorder_cache(torch.tensor([1, 0, 3, 3]))
    keys = cache.cross_attention_cache.layers[0].keys
    assert torch.equal(keys, states)
    assert keys.room.numel() == states.numel() / 2
