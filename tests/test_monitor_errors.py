"""What a monitor refuses."""

from __future__ import annotations

import pytest
from tiny_training import SEQ2SEQ
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_chts.monitor import TopologyMonitor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snapshot_every": 0}, "snapshot_every counts optimizer steps, at least 1; got 0"),
        ({"snapshot_every": "5"}, "snapshot_every counts .* got '5'"),
        ({"snapshot_every": 2.5}, r"snapshot_every counts .* got 2\.5"),
        ({"snapshot_every": True}, "snapshot_every counts .* got True"),
        ({"measures": "clustering"}, "measures takes a list of names; got 'clustering'"),
        ({"measures": ["clustering"], "measure_every": -1}, "measure_every counts .* got -1"),
        ({"measure_every": 5}, "measure_every needs measures"),
        ({"measures": ["beauty"]}, "no measure is called beauty; there are .*clustering"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TopologyMonitor(**options)


def test_a_model_that_is_not_sparse(tmp_path) -> None:
    trainer = Seq2SeqTrainer(
        MarianMTModel(MarianConfig(**SEQ2SEQ)),
        Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True, report_to=[], max_steps=1),
        train_dataset=[{}],
        callbacks=[TopologyMonitor()],
    )
    with pytest.raises(ValueError, match=r"not sparse: call hf_chts\.sparsify"):
        trainer.train()
