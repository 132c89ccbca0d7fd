"""`python -m ptft` is `ptft`."""

from ptft.cli import run

run()
