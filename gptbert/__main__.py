"""`python -m gptbert` is the console script."""

import sys

from gptbert.cli import main

sys.exit(main())
