"""`python -m ktransfer`: the command line."""

from ktransfer.cli import main

if __name__ == "__main__":
    main()
