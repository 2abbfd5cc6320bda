"""Count which classes are taken for which.

Shapes: B rows, C classes, K classes that are shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_WRITTEN_CLASSES = 100
"""A matrix of all classes is written up to here: its size is the square, for every model and speed."""


@dataclass(frozen=True)
class Confusion:
    """Rows of each true class (first axis) by the class that was predicted (second), for all or some of the classes.

    Args:
        classes_K: the numbers of these classes, in ascending order.
        matrix_KK: rows.
        support_K: all rows of each true class, those predicted to be of a class that is left out included.
    """

    classes_K: np.ndarray
    matrix_KK: np.ndarray
    support_K: np.ndarray

    @classmethod
    def of(cls, predicted_B: np.ndarray, labels_B: np.ndarray, num_classes: int) -> "Confusion":
        """Count predictions; of more than `MAX_WRITTEN_CLASSES` classes only those that are confused most are kept."""
        wrong_B = predicted_B != labels_B
        errors_C = np.bincount(np.append(labels_B[wrong_B], predicted_B[wrong_B]), minlength=num_classes)
        classes_K = _largest(errors_C, MAX_WRITTEN_CLASSES)
        num_kept = len(classes_K)
        place_C = np.full(num_classes, -1)
        place_C[classes_K] = np.arange(num_kept)
        true_B, given_B = place_C[labels_B], place_C[predicted_B]
        flat_B = (true_B * num_kept + given_B)[(true_B >= 0) & (given_B >= 0)]
        matrix_KK = np.bincount(flat_B, minlength=num_kept**2).reshape(num_kept, num_kept)
        return cls(classes_K, matrix_KK, np.bincount(labels_B, minlength=num_classes)[classes_K])

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> "Confusion | None":
        """Return what `fields` has put into the details of a model; None if they hold no matrix."""
        if not fields.get("confusion_matrix"):
            return None
        matrix_KK = np.array(fields["confusion_matrix"])
        if "confusion_labels" not in fields:
            return cls(np.arange(len(matrix_KK)), matrix_KK, matrix_KK.sum(axis=1))
        classes_K = np.array(fields["confusion_labels"])
        support_C = np.array([one["support"] for one in fields["per_class"]])
        return cls(classes_K, matrix_KK, support_C[classes_K])

    def fields(self, num_classes: int) -> dict[str, Any]:
        """Return `confusion_matrix`, and `confusion_labels` where it is of some of the classes only."""
        some = {"confusion_labels": self.classes_K.tolist()} if len(self.classes_K) < num_classes else {}
        return some | {"confusion_matrix": self.matrix_KK.tolist()}

    def most_confused(self, max_classes: int) -> "Confusion":
        """Keep the classes with the most wrong predictions, of them and to them."""
        matrix_KK = self.matrix_KK
        errors_K = matrix_KK.sum(axis=0) + self.support_K - 2 * matrix_KK.diagonal()
        kept = _largest(errors_K, max_classes)
        return Confusion(self.classes_K[kept], matrix_KK[np.ix_(kept, kept)], self.support_K[kept])

    def pairs(self, max_pairs: int) -> list[tuple[int, int, int]]:
        """Return the largest confusions as true class, predicted class and rows, the most frequent first."""
        wrong_KK = self.matrix_KK - np.diag(self.matrix_KK.diagonal())
        order = np.argsort(-wrong_KK, axis=None, kind="stable")[:max_pairs]
        places = np.stack(np.unravel_index(order, wrong_KK.shape), axis=1).tolist()
        found = [(true, given, int(wrong_KK[true, given])) for true, given in places]
        return [(int(self.classes_K[true]), int(self.classes_K[given]), rows) for true, given, rows in found if rows]


def _largest(values_C: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest values, in ascending order."""
    return np.sort(np.argsort(-values_C, kind="stable")[:count])
