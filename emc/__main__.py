"""``python -m emc``: the command line, where no ``emc`` script is on the path."""

from emc.cli import main

if __name__ == "__main__":
    main(prog_name="emc")
