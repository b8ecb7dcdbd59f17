"""``python -m headrace``: the command line."""

from headrace.console.main import main

if __name__ == "__main__":
    main()
