"""The former name of `g_rmi.inference`; stays for one release."""

from typing import Any

from g_rmi.inference.settings import Settings, from_dict


def Options(**values: Any) -> Settings:
    """Settings under their former names; see `g_rmi.inference.settings.Settings`.

    A ValueError if a name is unknown or a value is impossible.
    """
    return from_dict(values)
