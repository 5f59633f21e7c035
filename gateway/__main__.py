"""`python -m gateway` is `sendpool`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
