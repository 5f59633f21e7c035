"""`python -m gateway` is `sendpool`: compiled, where it was compiled. `python -m gateway.cli` is plain Python."""

from gateway.compiled import use_compiled


def main() -> None:
    """Run a command, with the compiled modules of these sources if there are any."""
    use_compiled()
    from gateway.cli import main as run

    run()


if __name__ == "__main__":
    main()
