"""Settings of masked language modelling."""

from typing import Literal

from pydantic import Field

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection, Parts


class MlmObjective(ObjectiveSection):
    """Masked language modelling (Devlin et al. 2019); whole-word masking as in Cui et al. 2019."""

    name: Literal["mlm"] = Field(default="mlm", description="masked language modelling")
    masking_probability: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens to predict")
    whole_word_masking: bool = Field(
        default=False, description="mask whole words as jieba finds them (needs data.word_starts=true)"
    )

    def reads(self) -> Parts:
        return "predictions"

    def weights(self) -> dict[str, float]:
        return {"mlm": 1.0}

    def needs_word_starts(self) -> bool:
        return self.whole_word_masking

    def training_problems(self, config: ModelConfig) -> list[str]:
        family = config["model_type"]
        able = [name for name, facts in ALL_FAMILIES.items() if facts.masked_head is not None]
        if family in able:
            return []
        return [
            f"is a `{family}` model, for which masked language modelling is not supported; supported families: "
            f"{', '.join(able)}"
        ]
