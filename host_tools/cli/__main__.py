"""`python -m host_tools.cli` is `sealband`."""

from host_tools.cli import main

main()
