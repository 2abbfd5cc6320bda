"""Make models with early exit known to transformers.

`import kd_dist.early_exit` is all that `AutoModelForSequenceClassification.from_pretrained` needs to load one; exports
say so in their README. The code is in `kd_dist/models/early_exit.py`.
"""

from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.early_exit_config import FastBertConfig

__all__ = ["FastBertConfig", "FastBertForSequenceClassification"]
