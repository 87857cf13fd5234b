"""Parts of the engine that :class:`hf_chts.topology.Topology` drives."""
