"""The wheel of spacy-mtl itself, which every packaged pipeline needs: from its sources, or from the files of its installation."""

import base64
import csv
import hashlib
import io
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from mtl.deploy.commands import pip_wheel
from mtl.errors import UserError

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "mtl")
# What an installer writes. The hashes of RECORD are made anew.
OF_THE_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def own_wheel(out: Path) -> Path:
    """Write the wheel of the spacy-mtl that runs. Needs no network.

    Args:
        out (Path): The folder to write to.

    Raises:
        UserError: It was neither installed from a wheel nor runs from its sources.
    """
    root = Path(__file__).resolve().parents[2]
    return _from_sources(root, out) if (root / "pyproject.toml").exists() else _from_installation(root, out)


def _from_sources(root: Path, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="mtl-own-") as work:
        for entry in SOURCES:
            if (root / entry).is_dir():
                shutil.copytree(root / entry, Path(work) / entry, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / entry).exists():
                shutil.copy(root / entry, work)
        return pip_wheel(Path(work), out)


def _from_installation(root: Path, out: Path) -> Path:
    """Put the installed files back into a wheel, as the binary distribution format says.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    found = [dist for dist in metadata.distributions(name="spacy-mtl") if Path(str(dist.locate_file(""))).resolve() == root]
    if not found or not found[0].files:
        raise UserError(f"{root}: spacy-mtl is here without the list of its files (RECORD); install it with pip")
    dist = found[0]
    info = next(file.parts[0] for file in dist.files or () if file.parts[0].endswith(".dist-info"))
    members = [
        file for file in dist.files or ()
        if (file.parts[0] == "mtl" and file.suffix != ".pyc") or (file.parts[0] == info and file.name not in OF_THE_INSTALLER)
    ]  # fmt: skip
    tag = next(line for line in (dist.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")).removeprefix("Tag: ")
    wheel = out / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with ZipFile(wheel, "w", ZIP_DEFLATED) as archive:
        for file in sorted(members):
            content = file.read_binary()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.writerow((file.as_posix(), f"sha256={digest}", len(content)))
            _write(archive, file.as_posix(), content)
        rows.writerow((f"{info}/RECORD", "", ""))
        _write(archive, f"{info}/RECORD", record.getvalue().encode())
    return wheel


def _write(archive: ZipFile, name: str, content: bytes) -> None:
    """With the same date in every wheel."""
    entry = ZipInfo(name)
    entry.external_attr = 0o644 << 16
    entry.compress_type = ZIP_DEFLATED
    archive.writestr(entry, content)
