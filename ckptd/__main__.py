"""``python -m ckptd``: the same as the command ``ckptd``."""

from __future__ import annotations

import sys

from ckptd.cli.main import main

sys.exit(main())
