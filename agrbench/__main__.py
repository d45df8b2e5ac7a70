"""`python -m agrbench`: the command line."""

from agrbench.cli import main

if __name__ == "__main__":
    main()
