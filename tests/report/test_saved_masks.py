import numpy as np
import pytest
from run_files import write_saved_layer

from hf_chts.report.saved_masks import read_masks


def test_rows_are_outputs_and_columns_inputs(tmp_path):
    write_saved_layer(tmp_path, [0, 2, 3], [0, 3, 1])
    expected = [[True, False, False, True], [False, True, False, False]]
    assert np.array_equal(read_masks(tmp_path)["fc"], expected)


@pytest.mark.parametrize(
    ("starts", "columns"),
    [
        ([0, 2], [0, 3]),  # a row is missing
        ([0, 2, 4], [0, 3, 1]),  # more links than columns
        ([1, 2, 3], [0, 3, 1]),
        ([0, 4, 3], [0, 3, 1]),
        ([0, 2, 3], [0, 4, 1]),  # no such input
        ([0, 2, 3], [0, -1, 1]),
    ],
)
def test_indices_that_do_not_fit_are_refused(tmp_path, starts, columns):
    write_saved_layer(tmp_path, starts, columns)
    with pytest.raises(ValueError, match="do not fit 2 x 4 neurons"):
        read_masks(tmp_path)


def test_missing_links_and_torn_files_are_refused(tmp_path):
    write_saved_layer(tmp_path, [0, 2, 3], [0, 3, 1], name="other")
    with pytest.raises(ValueError, match="lacks the links of 1 layers: fc"):
        read_masks(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read"):
        read_masks(tmp_path)
