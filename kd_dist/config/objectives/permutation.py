"""Settings of permutation language modelling."""

from typing import Literal

from pydantic import Field

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection, Parts


class PermutationObjective(ObjectiveSection):
    """Permutation language modelling (Yang et al. 2019), with which XLNet is pretrained."""

    name: Literal["permutation"] = Field(default="permutation", description="permutation language modelling")
    max_span: int = Field(default=5, ge=1, description="predict spans of 1 to this many tokens")
    predicted_share: float = Field(default=1 / 6, gt=0, lt=1, description="share of the tokens to predict")

    def reads(self) -> Parts:
        return "predictions"

    def weights(self) -> dict[str, float]:
        return {"permutation": 1.0}

    def training_problems(self, config: ModelConfig) -> list[str]:
        able = [name for name, facts in ALL_FAMILIES.items() if facts.permutation_head is not None]
        if config["model_type"] in able:
            return []
        return [
            f"is a `{config['model_type']}` model, which has no second stream to predict words in any order; "
            f"supported families: {', '.join(able)} (others: `--job pretrain`)"
        ]
