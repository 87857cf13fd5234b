from __future__ import annotations

import pytest
from torch.nn import functional as F

from hf_chts.layers.stand_in import stands_in


def ours(x, *args, **kwargs):
    return "ours"


def test_contexts_of_several_threads_overlap() -> None:
    plain = F.dropout
    first, second = stands_in("dropout", ours), stands_in("dropout", ours)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert F.dropout is ours
    second.__exit__(None, None, None)
    assert F.dropout is plain


def test_functions_do_not_mix() -> None:
    plain = F.dropout, F.relu
    with stands_in("dropout", ours):
        assert (F.dropout, F.relu) == (ours, plain[1])
        with stands_in("relu", ours):
            assert F.relu is ours
        assert (F.dropout, F.relu) == (ours, plain[1])
    assert (F.dropout, F.relu) == plain


def test_an_error_ends_the_context() -> None:
    plain = F.dropout
    with pytest.raises(KeyError), stands_in("dropout", ours):
        raise KeyError
    assert F.dropout is plain
