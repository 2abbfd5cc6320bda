"""Facts about the encoder families that can be trained and distilled."""

# The `model_type` of every encoder whose layers call transformers' AttentionInterface and whose scores are plain QK'.
FAMILIES = ("albert", "bert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta")

OFFSET_POSITIONS = ("roberta", "xlm-roberta")  # families that number positions from the padding token's id on
