"""Regrowth rules: functions of ``Links`` that score inactive links, the higher the likelier."""

from hf_chts.rules.registry import Registry, import_siblings

regrowth = Registry("regrowth")
import_siblings(__name__, __path__)
