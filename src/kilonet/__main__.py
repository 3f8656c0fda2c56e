"""The command `kilonet`, and `python -m kilonet`: Ctrl-C and SIGTERM get their line from the first import on."""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from kilonet import cli

        cli.main()
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write("error: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
