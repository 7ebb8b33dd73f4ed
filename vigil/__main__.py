"""`python -m vigil` is the command `vigil`."""

from vigil.main import main

main()
