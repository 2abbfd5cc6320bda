"""Write a run as one self-contained page: no scripts, nothing loaded from elsewhere.

python kd_dist/report.py RUN_DIR [--output FILE]

What a run does not have (yet) is left out or shown as missing; a report never fails because a run is not finished.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import sys
from pathlib import Path

from kd_dist.errors import exit_with_message
from kd_dist.reporting.run_page import write_report


def main() -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="report.py", description="Write a run as one self-contained page.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="runs/<job>/<run_id>")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: RUN_DIR/report.html)")
    options = parser.parse_args()
    output = options.output or options.run_dir / "report.html"
    write_report(options.run_dir, output)
    print(output)
    return 0


if __name__ == "__main__":
    exit_with_message(main)
