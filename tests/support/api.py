"""What the package offers."""

import dpiqa_lab as lab


def public_names() -> dict[str, object]:
    """Names of the top level, and ``room.name`` of the rooms, with what they are."""
    found = {name: getattr(lab, name) for name in lab.__all__}
    for room in sorted(set(dir(lab)) - set(lab.__all__)):
        for name in getattr(getattr(lab, room), "__all__", []):
            found[f"{room}.{name}"] = getattr(getattr(lab, room), name)
    return found
