"""Folders of one kind of picture each, of the data set's index: `KIND/images` and `KIND/labels`, of links.

    python tests/benchmarks/kinds.py DATA FOLDER

What is to be left out of a training, or learnt from corrections alone, is one folder then.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path


def main() -> None:
    """Link the pictures of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="The folder with index.csv in it.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with (options.data / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            kind = "-".join(filter(None, (row["dataset"], row["split"], row["modality"])))
            for part in ("images", "labels"):
                source = options.data / row["dataset"] / row["split"] / part / f"{row['file']}.tif"
                link = options.folder / kind / part / source.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(source.resolve(strict=True))
            counts[kind] += 1
    for kind, count in sorted(counts.items()):
        print(f"{count:4d}  {kind}")


if __name__ == "__main__":
    main()
