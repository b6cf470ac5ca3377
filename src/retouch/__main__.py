"""`python -m retouch` is the command `retouch`."""

from retouch.cli import main

if __name__ == "__main__":
    main()
