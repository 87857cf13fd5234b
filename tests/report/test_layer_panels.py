import pytest
from made_up_runs import OpenStore, made_up_run, quiet
from run_files import a_mask

from hf_chts.report.layer_panels import layer_panels


@pytest.mark.parametrize("asked", [True, False])
def test_a_file_of_the_matrix_only_where_files_are_asked_for(asked, tmp_path):
    store = OpenStore(tmp_path / "figures" if asked else None)
    layer_panels(made_up_run(final={"fc": a_mask()}), ["fc"], store, quiet)
    assert ("adjacency-fc" in store.figures) == asked
    assert (tmp_path / "figures" / "adjacency-fc.png").exists() == asked
    assert "degrees-fc" in store.figures
