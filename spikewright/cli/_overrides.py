"""Keys of `--set` that a command does not read, which it refuses."""

from collections.abc import Collection, Sequence

from spikewright.errors import ConfigError


def check_read(
    command: str, does: str, overrides: Sequence[str] | None, read: Collection[str], without: Collection[str] = ()
) -> None:
    """Raise `ConfigError` if a key is given that nothing would read.

    A recipe may hold such keys: it serves several commands.

    Args:
        command: Name of the command, for the message.
        does: Clause that says what the command does.
        overrides: Strings `section.key=value`.
        read: Sections, and keys `section.key` with the keys inside, that the command reads.
        without: Keys `section.key` of these sections that it does not read. Default: ().
    """
    keys = [override.partition("=")[0].strip() for override in overrides or ()]
    unread = [key for key in keys if key in without or not _with_tables(key) & set(read)]
    if unread:
        raise ConfigError(
            f"--set {', '.join(unread)} cannot be used with {command}: it {does}, so that nothing would read "
            f"{'it' if len(unread) == 1 else 'them'}. Leave {'the key' if len(unread) == 1 else 'these keys'} out."
        )


def _with_tables(key: str) -> set[str]:
    """Return a key `section.key.key`, and the section and tables that it is in."""
    parts = key.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
