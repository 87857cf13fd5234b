"""``python -m hf_chts``."""

from hf_chts.cli import main

main()
