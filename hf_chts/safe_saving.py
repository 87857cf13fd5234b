"""Files and folders that stand whole or not at all, and checkpoints that tell their damage.

Whatever is written is first written under the name ``.unfinished`` beside its place, brought to
disk, and then renamed. A process that is killed, or a disk that is full, so leaves what was there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

UNFINISHED = ".unfinished"
"""Folder of what is being written or deleted; it is there only while that happens."""

_REPLACED = ".replaced"
"""End of the name, among what is unfinished, of a folder until the new one has taken its place."""

CHECKSUMS = "checksums.json"
"""File of a checkpoint that lists the others with their sizes and checksums, written last."""


def write_text(path: Path, text: str) -> None:
    """Write a file; who reads it finds the old text or the new one, each whole.

    Raises:
        OSError: If it cannot be written, as on a full disk; likewise below.
    """
    staged = staging(path)
    with writing(path, staged):
        with open(staged, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; it takes its place, and that of an older one, when all is written."""
    staged = staging(path)
    staged.mkdir()
    with writing(path, staged):
        yield staged
        put_in_place(staged, path)


@contextmanager
def writing(path: Path, staged: Path | None = None, advice: str = "") -> Iterator[None]:
    """Tell a failure to write as one OSError that names the path, and clear what was staged."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have own ones
        reason = " ".join(str(error).split("\n")[0].split())
        free = shutil.disk_usage(path.parent).free
        message = f"{path} could not be written ({reason}; {free:,} bytes are free there)"
        raise OSError(f"{message}{advice}") from error
    finally:
        if staged is not None:
            clear(staged)


def staging(path: Path) -> Path:
    """Where something is written before it takes its place; nothing is there."""
    staged = path.parent / UNFINISHED / path.name
    clear(staged)
    staged.parent.mkdir(parents=True, exist_ok=True)
    return staged


def clear(staged: Path) -> None:
    """Delete what is unfinished, whole or in part, and its folder where nothing else is there."""
    if staged.is_dir() and not staged.is_symlink():
        shutil.rmtree(staged)
    else:
        staged.unlink(missing_ok=True)
    with suppress(OSError):
        staged.parent.rmdir()


def put_in_place(staged: Path, path: Path) -> None:
    """Bring a written folder to disk and rename it, replacing an older one."""
    for inner in (*staged.rglob("*"), staged):
        _bring_to_disk(inner)
    older = _set_aside(path, _REPLACED) if path.exists() else None
    try:
        os.rename(staged, path)
    except OSError:
        if older is not None:
            os.rename(older, path)
        raise
    _bring_to_disk(path.parent)
    for left in (staged, older):
        if left is not None:
            clear(left)


def discard(path: Path) -> None:
    """Delete a file or folder; it goes at once, not file by file."""
    clear(_set_aside(path, ".old"))


def sweep(folder: Path) -> None:
    """Clear what a killed process left unfinished; what it was about to replace comes back."""
    for older in (folder / UNFINISHED).glob(f"*{_REPLACED}"):
        place = folder / older.name.removesuffix(_REPLACED)
        if not place.exists():
            os.rename(older, place)
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _set_aside(path: Path, suffix: str) -> Path:
    aside = staging(path.with_name(path.name + suffix))
    os.rename(path, aside)
    return aside


def seal(checkpoint: Path) -> None:
    """List a folder's files with sizes and checksums, so that damage can be told later."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    listed = {
        path.relative_to(checkpoint).as_posix(): [path.stat().st_size, _checksum(path)]
        for path in files
        if path.name != CHECKSUMS
    }
    (checkpoint / CHECKSUMS).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def what_is_damaged(checkpoint: Path) -> str | None:
    """Which file of a sealed folder is not as it was written; None if all are.

    This tells accidents, not attacks: who can change a file can change its checksum.
    """
    if not checkpoint.is_dir():
        return "it is not there"
    if not (checkpoint / CHECKSUMS).is_file():
        return f"it has no {CHECKSUMS}, which is written last"
    try:
        listed = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        expected = {str(name): (int(size), int(crc)) for name, (size, crc) in listed.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"{CHECKSUMS} cannot be read"
    for name, (size, crc) in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
        if _checksum(path) != crc:
            return f"{name} has changed since it was written"
    return None


def refuse_damaged(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not as it was written.

    Raises:
        ValueError: Naming the checkpoint, what is wrong with it, and those that lie before it.
    """
    if damage := what_is_damaged(checkpoint):
        step = step_of(checkpoint)
        earlier = [f"checkpoint-{n}" for n in checkpoints(checkpoint.parent) if n < step]
        others = f"; before it there is {', '.join(reversed(earlier))}" if earlier else ""
        raise ValueError(f"{checkpoint} is damaged: {damage}{others}")


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by their steps, in order."""
    found = {step_of(path): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    return {step: found[step] for step in sorted(found) if step >= 0}


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; -1 where there is none."""
    named = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name, re.ASCII)
    return int(named[1]) if named else -1


def rotate(folder: Path, limit: int | None, latest: int, best: int | None) -> None:
    """Delete the oldest checkpoints beyond a limit, never the latest nor the best one.

    Args:
        folder: Where the checkpoints lie.
        limit: How many may stay; None or 0: all.
        latest: Step of the one just written. Those of later steps stem from a course that was
            given up, and count as the oldest.
        best: Step of the best one, if one is known.
    """
    found = checkpoints(folder)
    kept = {latest, best} & found.keys()
    surplus = len(found) - max(limit, len(kept)) if limit else 0
    by_age = sorted(found.keys() - kept, key=lambda step: (step < latest, step))
    for step in by_age[: max(0, surplus)]:
        discard(found[step])


def _checksum(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _bring_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
