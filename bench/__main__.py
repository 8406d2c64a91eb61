"""`python -m bench`."""

from bench.cli import main

if __name__ == "__main__":  # scoring processes import this file under another name
    main()
