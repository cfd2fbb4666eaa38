"""`python -m distilspark COMMAND [key=value ...]`.

The version check stands before every other import, in syntax that any Python 3 reads.
"""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    found = "%s is Python %d.%d" % ((sys.executable,) + sys.version_info[:2])
    sys.stderr.write("distilspark: needs Python 3.11, 3.12 or 3.13; %s\n" % found)
    sys.exit(2)

from distilspark.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
