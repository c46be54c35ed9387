"""`python -m clinic`: the same program as `clinic`."""

from clinic.cli import main

if __name__ == "__main__":
    main()
