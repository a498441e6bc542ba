"""Fill the tables of the page on benchmarks from the result files, and copy the plots."""

import re
import sys
from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from tables import TABLES, table  # noqa: E402

PAGE = "benchmarks.md"

with mkdocs_gen_files.open(PAGE, "r") as file:
    text = file.read()
names = re.findall(r"<!-- table: (\S+) -->", text)
assert sorted(names) == sorted(TABLES), f"tables that {PAGE} lacks or names twice: {set(names) ^ set(TABLES)}"
with mkdocs_gen_files.open(PAGE, "w") as file:
    file.write(re.sub(r"<!-- table: (\S+) -->", lambda match: table(match.group(1)), text))
for plot in sorted(ROOT.glob("benchmarks/*/results/*.png")):
    with mkdocs_gen_files.open(f"assets/plots/{plot.name}", "wb") as file:
        file.write(plot.read_bytes())
