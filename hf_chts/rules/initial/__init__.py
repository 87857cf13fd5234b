"""Initial topologies: functions of a ``Site`` that return a mask with exactly ``n_links`` links."""

from hf_chts.rules.registry import Registry, import_siblings

initial = Registry("initial")
import_siblings(__name__, __path__)
