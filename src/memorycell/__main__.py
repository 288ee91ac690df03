"""python -m memorycell"""

from memorycell.cli import main

main()
