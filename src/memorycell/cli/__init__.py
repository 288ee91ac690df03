"""The command line: one file for each group of verbs."""


def main() -> None:
    """The entry point of the `memorycell` command."""
    from memorycell.cli.verbs import app

    app(prog_name="memorycell")
