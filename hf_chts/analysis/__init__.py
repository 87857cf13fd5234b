"""Network science of sparse layers: what one can measure on any mask. Imports nothing else here."""
