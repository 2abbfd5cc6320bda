"""How models are called at several speeds."""

from typing import Any

AT_SPEED = " at speed "

OWN_THRESHOLDS = "own thresholds"


def model_and_seed(name: str) -> dict[str, Any]:
    """`student@43` and `student@43 at speed 0.5` are the model `student` trained with seed 43."""
    whole = name.partition(AT_SPEED)[0]
    model, _, seed = whole.partition("@")
    return {"model": model, "seed": int(seed)} if seed.isdecimal() else {"model": whole}
