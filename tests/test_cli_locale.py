"""Translations are UTF-8, as the text that is read is, in any locale."""

import io
import sys

from hf_chts import cli
from hf_chts.translation import run


def test_translations_are_utf_8_in_any_locale(tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(run, "translate_stream", lambda *_: ["ein Bär", "二"])
    cli.translate(tmp_path, tmp_path / "in.txt", None)
    sys.stdout.flush()
    assert written.getvalue() == "ein Bär\n二\n".encode()
