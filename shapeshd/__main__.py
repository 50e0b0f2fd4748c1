"""``python -m shapeshd``."""

from shapeshd.cli.main import main

if __name__ == "__main__":
    main()
