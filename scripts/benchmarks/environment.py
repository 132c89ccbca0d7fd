"""Which Python runs a script."""

import os
import sys
from pathlib import Path

OWN = Path(__file__).resolve().parents[2] / ".venv"


def run_again() -> None:
    """Run this script again by the Python that scripts/environment made, which has ptft; say so where there is none."""
    python = OWN / "bin" / "python"
    if not python.exists() or Path(sys.prefix).resolve() == OWN:
        sys.exit(f"this Python ({sys.executable}) has no ptft: run scripts/environment, or pip install -e '.[test]'")
    os.execv(python, [str(python), *sys.argv])
