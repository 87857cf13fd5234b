import base64
import io

import numpy as np
import pytest
from PIL import Image
from run_files import a_mask

from hf_chts.report.images import (
    GROWN,
    INK,
    KEPT,
    REMOVED,
    block_of,
    change_picture,
    matrix_picture,
)


def pixels(picture):
    data = base64.b64decode(picture.uri.removeprefix("data:image/png;base64,"))
    return np.array(Image.open(io.BytesIO(data)).convert("RGBA"))


@pytest.mark.parametrize("shape", [(1, 1), (7, 19), (64, 8)])
def test_every_link_is_a_pixel(shape):
    mask = a_mask(*shape)
    shown = pixels(matrix_picture(mask))
    assert np.array_equal(shown[..., 3] == 255, mask)
    assert (shown[mask][:, :3] == INK).all()


def test_changes_have_three_colours():
    before = np.array([[True, True, False, False]])
    after = np.array([[True, False, True, False]])
    shown = pixels(change_picture(before, after))
    assert [tuple(shown[0, i, :3]) for i in range(3)] == [KEPT, REMOVED, GROWN]
    assert shown[0, 3, 3] == 0


def test_large_matrices_are_shown_in_blocks():
    mask = np.zeros((600, 100), dtype=bool)
    mask[:2, :2] = True  # one whole block
    mask[2, 3] = True
    assert block_of(mask) == (2, 2)
    for picture in (matrix_picture(mask), change_picture(~mask, mask)):
        shown = pixels(picture)
        assert shown.shape == (300, 50, 4)
        assert shown[0, 0, 3] == 255
        assert 0 < shown[1, 1, 3] < 255
        assert np.count_nonzero(shown[..., 3]) == 2


@pytest.mark.parametrize("shape", [(2048, 512), (512, 2048), (513, 513), (512, 16)])
def test_a_picture_has_the_shape_of_its_matrix(shape):
    picture = matrix_picture(np.zeros(shape, dtype=bool))
    assert picture.height / picture.width == pytest.approx(shape[0] / shape[1])
    assert 256 < max(picture.height, picture.width) <= 512


def test_a_layer_without_links_is_blank():
    assert not pixels(matrix_picture(np.zeros((600, 3), dtype=bool)))[..., 3].any()
