"""Errors that are the user's to mend: the message says what happened, where, and what to do."""


class UserError(ValueError):
    """A mistake in a file, a setting or a call. Commands print it without a traceback and exit with 1."""


def check_choice(setting: str, value: object, allowed: tuple) -> None:
    """Raise `UserError` naming `setting` and the `allowed` values unless `value` is one of them."""
    if value not in allowed:
        raise UserError(f"{setting} = {value!r} is not known; allowed: {', '.join(map(repr, allowed))}")


def check_range(setting: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise `UserError` naming `setting` and its bounds unless `low <= value <= high`."""
    if not low <= value <= high:
        raise UserError(f"{setting} = {value!r} is out of range; allowed: {low} to {high}")
