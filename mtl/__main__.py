"""`python -m mtl`: the console script, also where its folder is not on the path."""

from mtl.cli.app import main

main()
