"""`python -m recmeta.cli`, for where the script is not on the path."""

from recmeta.cli import main

main()
