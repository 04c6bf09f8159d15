"""Compares two answers of the query agent: the same but for ids and times, numbers to one part in 10⁹."""

import json
import math
import sys


def differences(path, one, other):
    if path.endswith((".conversationId", ".milliseconds")):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(f"{path}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other)):
            yield from differences(f"{path}[{i}]", *pair)
    elif isinstance(one, float) and isinstance(other, (int, float)):
        if not math.isclose(one, other, rel_tol=1e-9):
            yield f"{path}: {one} is not {other}"
    elif one != other:
        yield f"{path}: {one!r} is not {other!r}"


first, second = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:])
found = list(differences("", first, second))
if found or "results" not in first:
    sys.exit("\n".join(found[:10]) or f"no results: {first}")
