import pytest
from run_files import write_dense_run, write_run

from hf_chts.report import write_report


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A report of a sparse run beside another seed and a dense one, and all it can write."""
    root = tmp_path_factory.mktemp("report")
    run = write_run(root / "one")
    others = [write_run(root / "two", seed=1), write_dense_run(root / "dense")]
    return write_report(
        run,
        compare=others,
        output=root / "new" / "one.html",
        figures=root / "figures",
        graphml=root / "graphml",
        layers=r"encoder\.layers\.0\.fc|decoder.*encoder_attn.q_proj",
    )
