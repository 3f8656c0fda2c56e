"""`python -m kilonet`."""

from kilonet.cli import main

if __name__ == "__main__":
    main()
