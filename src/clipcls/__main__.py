"""`python -m clipcls` is `clipcls`."""

from clipcls.cli import main

if __name__ == "__main__":
    main()
