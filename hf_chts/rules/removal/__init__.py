"""Removal rules: functions of ``Links`` that score active links, the higher the safer."""

from hf_chts.rules.registry import Registry, import_siblings

removal = Registry("removal")
import_siblings(__name__, __path__)
