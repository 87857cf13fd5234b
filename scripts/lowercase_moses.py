"""Lower-case and tokenise text files as Moses does, as much of the literature trains and scores.

    python scripts/lowercase_moses.py FOLDER OUTPUT

Every FOLDER/NAME.LANGUAGE.gz (Multi30k's files, say) goes to OUTPUT under the same name, line by
line: lower-cased, punctuation normalised, a space between tokens. Takes
`pip install "hf-chts[bench]"`.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track
from sacremoses import MosesPunctNormalizer, MosesTokenizer


def tokenised(file: Path) -> Iterator[str]:
    """The file's lines, lower-cased and tokenised by the rules of its language."""
    language = file.suffixes[-2].removeprefix(".")
    normalizer, tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language)
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            text = normalizer.normalize(line.lower().rstrip("\n"))
            yield " ".join(tokenizer.tokenize(text, escape=False)) + "\n"


def main() -> None:
    """Write the other form of every file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds NAME.LANGUAGE.gz")
    parser.add_argument("output", type=Path, help="a folder other than the first")
    options = parser.parse_args()
    files = sorted(file for file in options.folder.glob("*.gz") if len(file.suffixes) > 1)
    if not files:
        parser.error(f"no file NAME.LANGUAGE.gz in {options.folder}: give the folder of the text")
    if options.output.resolve() == options.folder.resolve():
        parser.error("OUTPUT is FOLDER: give another, or the text itself would be overwritten")
    options.output.mkdir(parents=True, exist_ok=True)
    for file in track(files, "Tokenising"):
        with gzip.open(options.output / file.name, "wt", encoding="utf-8", newline="\n") as out:
            out.writelines(tokenised(file))


if __name__ == "__main__":
    main()
