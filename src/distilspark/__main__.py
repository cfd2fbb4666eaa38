"""`distilspark COMMAND [key=value ...]`, or `python -m distilspark COMMAND [key=value ...]`.

The version check precedes all other imports, in syntax that any Python 3 reads.
"""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    found = "%s is Python %d.%d" % ((sys.executable,) + sys.version_info[:2])
    sys.stderr.write("distilspark: needs Python 3.11, 3.12 or 3.13; %s\n" % found)
    sys.exit(2)

import atexit
import logging
import os
import signal
from contextlib import suppress

from distilspark.cli import INTERRUPTED, main
from distilspark.console import keep_standard_streams


def run():  # type: () -> None
    """Run the command line, and exit with its code."""
    keep_standard_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    code = main(sys.argv[1:])
    logging.disable()  # suppress what libraries log when the interpreter exits
    if code == INTERRUPTED:  # threads of TensorFlow still run, and crash an interpreter that shuts down around them
        atexit._run_exitfuncs()
        with suppress(OSError):  # nobody reads them any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
