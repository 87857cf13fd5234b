"""Randomness as a function of what it is for, so that resumed runs and all ranks agree."""

from __future__ import annotations

import hashlib

import torch


def generator_for(device: torch.device | str, *purpose: object) -> torch.Generator:
    """A generator whose stream depends on nothing but ``purpose`` and the kind of device.

    Args:
        device: Where the random numbers are needed.
        purpose: What they are for, for example ``(seed, step, layer name, "removal")``.
    """
    key = "/".join(str(part) for part in purpose).encode()
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
    return torch.Generator(device).manual_seed(seed)
