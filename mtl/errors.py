"""Errors caused by user input. Their messages say what happened, where, and what to do."""


class UserError(ValueError):
    """A mistake in a file, a setting or a call. Commands print it without a traceback and exit with status 1."""


def check_choice(setting: str, value: object, allowed: tuple) -> None:
    """Check that a setting has one of the allowed values.

    Args:
        setting (str): Name of the setting, for the message.
        value (object): Its value.
        allowed (tuple): The values it may have.

    Raises:
        UserError: It has another value.
    """
    if value not in allowed:
        raise UserError(f"{setting} = {value!r} is not known; allowed: {', '.join(map(repr, allowed))}")


def check_range(setting: str, value: float, low: float, high: float = float("inf")) -> None:
    """Check that a number lies between two bounds, both included. NaN never does.

    Args:
        setting (str): Name of the setting, for the message.
        value (float): Its value.
        low (float): The lowest value allowed.
        high (float): The highest value allowed.

    Raises:
        UserError: It is out of range.
    """
    if not low <= value <= high:
        raise UserError(f"{setting} = {value!r} is out of range; allowed: {low} to {high}")
