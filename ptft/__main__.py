"""`python -m ptft` is `ptft`."""

import sys

from ptft.cli import main

sys.exit(main())
