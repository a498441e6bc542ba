"""Write a page for each format of labelled files, from the examples that `mtl formats` shows."""

import mkdocs_gen_files

from mtl.data.formats.detect import FORMATS
from mtl.data.formats.examples import EXAMPLES, format_lines

INTRO = """# Formats of labelled files

`mtl convert` recognises a format by its content, and says which it found. `mtl formats` lists them, `mtl formats NAME` shows one.
`--format NAME` is for files that are not recognised. Archives (`.zip`, `.tar.gz`), folders of files of one format, and files that
gzip, bzip2 or xz have compressed are read like the files in them.

| format | |
| --- | --- |
"""

with mkdocs_gen_files.open("formats/index.md", "w") as file:
    rows = (f"| [{FORMATS[name].title}]({name}.md) | {EXAMPLES[name].reads[0]} |" for name in sorted(FORMATS))
    file.write(INTRO + "\n".join(rows) + "\n")
for name in FORMATS:
    with mkdocs_gen_files.open(f"formats/{name}.md", "w") as file:
        file.write("\n".join(format_lines(name, FORMATS[name].title)) + "\n")
