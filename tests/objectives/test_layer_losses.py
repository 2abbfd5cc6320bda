"""The losses equal the published formulas, value and gradient, and padding cannot change them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kd_dist.models.attention import Attention
from kd_dist.objectives.layer_losses import (
    attention_score_count,
    attention_score_error,
    attention_score_error_direct,
    attention_score_error_gram,
    centred_keys,
    hidden_state_count,
    hidden_state_error,
)


def mask_of(lengths: list[int], width: int | None = None) -> Tensor:
    return (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()


def attention(
    mask_BS: Tensor, head_size: int, *, seed: int, num_heads: int = 2, scale: float = 1.0, dtype=torch.float32
):
    generator = torch.Generator().manual_seed(seed)
    shape = (mask_BS.shape[0], num_heads, mask_BS.shape[1], head_size)
    query_BHSK, key_BHSK = (torch.randn(shape, generator=generator, dtype=dtype) * scale for _ in range(2))
    return Attention(query_BHSK.requires_grad_(), key_BHSK.requires_grad_(), head_size**-0.5)


def detached(source: Attention, dtype=None) -> Attention:
    return Attention(
        source.query_BHSK.detach().clone().to(dtype).requires_grad_(),
        source.key_BHSK.detach().clone().to(dtype).requires_grad_(),
        source.scaling,
    )


def published(student: Attention, teacher: Attention, mask_BS: Tensor) -> Tensor:
    """The published code in plain words: scores with the additive mask, low ones to 0, the mean over everything."""

    def scores(side: Attention) -> Tensor:
        bias_B11S = (1.0 - mask_BS[:, None, None, :]) * -10000.0
        raw_BHSS = torch.matmul(side.query_BHSK, side.key_BHSK.transpose(-1, -2)) * side.scaling + bias_B11S
        return torch.where(raw_BHSS <= -1e2, torch.zeros_like(raw_BHSS), raw_BHSS)

    return torch.nn.functional.mse_loss(scores(student), scores(teacher))


def corrected(student: Attention, teacher: Attention, mask_BS: Tensor) -> Tensor:
    """Eq. 7 text by text, each cut to its own length."""
    errors, count = [], 0
    for row, length in enumerate(mask_BS.sum(dim=1).tolist()):
        for head in range(student.query_BHSK.shape[1]):
            student_SS, teacher_SS = (
                side.query_BHSK[row, head, :length] @ side.key_BHSK[row, head, :length].T * side.scaling
                for side in (student, teacher)
            )
            errors.append((student_SS - teacher_SS).square().sum())
            count += length * length
    return torch.stack(errors).sum() / count


FORMULAS = {"none": corrected, "huawei": published}


def gradients(loss: Tensor, student: Attention) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (student.query_BHSK, student.key_BHSK))


shapes = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 40), min_size=1, max_size=4),
        "student_size": st.integers(1, 9),
        "teacher_size": st.integers(1, 9),
        "num_heads": st.integers(1, 3),
        "seed": st.integers(0, 2**31),
    }
)


@pytest.mark.parametrize("compat", ["none", "huawei"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=shapes, scale=st.sampled_from([0.5, 2.0, 12.0]))  # 12: scores below -100 occur
def test_equals_the_published_formula(compat, shape, scale):
    mask_BS = mask_of(shape["lengths"])
    student, teacher = (
        attention(mask_BS, shape[size], seed=shape["seed"] + i, num_heads=shape["num_heads"], scale=scale)
        for i, size in enumerate(["student_size", "teacher_size"])
    )
    count = attention_score_count(mask_BS, shape["num_heads"], compat)
    got = attention_score_error(student, teacher, mask_BS, compat=compat) / count
    expected = FORMULAS[compat](student, teacher, mask_BS)
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=1e-6)
    for one, other in zip(gradients(got, student), gradients(expected, student), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * other.abs().max().item() + 1e-7)


def test_low_scores_do_occur():
    """Guards the test above: the rule of -100 is really exercised."""
    mask_BS = mask_of([20])
    student, teacher = attention(mask_BS, 8, seed=0, scale=12.0), attention(mask_BS, 4, seed=1, scale=12.0)
    direct = attention_score_error_direct(student, teacher, mask_BS, compat="none")
    assert attention_score_error(student, teacher, mask_BS, compat="huawei") < 0.95 * direct


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=shapes)
def test_gram_equals_direct(shape):
    mask_BS = mask_of(shape["lengths"])
    student, teacher = (
        attention(mask_BS, shape[size], seed=shape["seed"] + i, num_heads=shape["num_heads"])
        for i, size in enumerate(["student_size", "teacher_size"])
    )
    gram = attention_score_error_gram(student, teacher, mask_BS)
    direct = attention_score_error_direct(student, teacher, mask_BS, compat="none")
    torch.testing.assert_close(gram, direct, rtol=1e-5, atol=1e-4)
    for one, other in zip(gradients(gram, student), gradients(direct, student), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["gram", "none", "huawei"])
def test_finite_differences(form):
    mask_BS = mask_of([5, 2])
    student = attention(mask_BS, 3, seed=0, dtype=torch.float64)
    teacher = attention(mask_BS, 4, seed=1, dtype=torch.float64)

    def loss(query_BHSK: Tensor, key_BHSK: Tensor) -> Tensor:
        side = Attention(query_BHSK, key_BHSK, student.scaling)
        if form == "gram":
            return attention_score_error_gram(side, teacher, mask_BS)
        return attention_score_error_direct(side, teacher, mask_BS, compat=form)

    assert torch.autograd.gradcheck(loss, (student.query_BHSK, student.key_BHSK))


def test_upstream_gradient_is_applied():
    mask_BS = mask_of([5, 2])
    student, teacher = attention(mask_BS, 3, seed=0), attention(mask_BS, 4, seed=1)
    error = attention_score_error(student, teacher, mask_BS, compat="none")
    tripled = gradients(3 * attention_score_error(student, teacher, mask_BS, compat="none"), student)
    for one, other in zip(gradients(error, student), tripled, strict=True):
        torch.testing.assert_close(3 * one, other)


def test_no_gradient_for_the_teacher():
    mask_BS = mask_of([5, 2])
    student, teacher = attention(mask_BS, 3, seed=0), attention(mask_BS, 4, seed=1)
    attention_score_error(student, teacher, mask_BS, compat="none").backward()
    assert student.key_BHSK.grad is not None
    assert teacher.query_BHSK.grad is None
    with torch.no_grad():
        assert not attention_score_error(student, teacher, mask_BS, compat="none").requires_grad


@pytest.mark.parametrize("compat", ["none", "huawei"])
def test_direct_form_is_zero_at_equality(compat):
    mask_BS = mask_of([30, 7])
    student = attention(mask_BS, 8, seed=0)
    error = attention_score_error_direct(student, detached(student), mask_BS, compat=compat)
    assert error.item() == 0.0
    assert all(not gradient.any() for gradient in gradients(error, student))


@pytest.mark.parametrize(
    ("difference", "value_tolerance", "gradient_tolerance"),
    [(1.0, 1e-6, 2e-6), (1e-1, 1e-5, 1e-5), (1e-2, 1e-3, 1e-4), (1e-3, 1e-1, 1e-3)],
)
def test_gram_form_near_equality(difference, value_tolerance, gradient_tolerance):
    """Pins the errors that its documentation states: 1e-7 / r^2 in the value, about 4e-7 / r in the gradient."""
    mask_BS = mask_of([512, 400])
    teacher = attention(mask_BS, 64, seed=0)
    student = detached(teacher)
    noise = attention(mask_BS, 64, seed=1)
    with torch.no_grad():
        student.query_BHSK.add_(difference * noise.query_BHSK)
        student.key_BHSK.add_(difference * noise.key_BHSK)
    precise = detached(student, torch.float64)
    expected = attention_score_error_direct(precise, detached(teacher, torch.float64), mask_BS, compat="none")
    got = attention_score_error_gram(student, teacher, mask_BS)
    assert abs(got.item() / expected.item() - 1) < value_tolerance
    for one, other in zip(gradients(got, student), gradients(expected, precise), strict=True):
        assert (one - other).norm() < gradient_tolerance * other.norm()


@pytest.mark.parametrize("form", ["direct", "gram"])
@pytest.mark.parametrize("garbage", [1e4, float("nan")])
def test_padding_does_not_matter(form, garbage):
    lengths = [6, 11, 3]
    short, long = mask_of(lengths), mask_of(lengths, 29)

    def extended(side: Attention) -> Attention:
        tensors: list[Tensor] = []
        for tensor_BHSK in (side.query_BHSK, side.key_BHSK):
            longer_BHSK = torch.full((3, 2, 29, tensor_BHSK.shape[-1]), garbage)
            longer_BHSK[:, :, :11] = torch.where(short[:, None, :, None] == 1, tensor_BHSK.detach(), garbage)
            tensors.append(longer_BHSK.requires_grad_())
        query_BHSK, key_BHSK = tensors
        return Attention(query_BHSK, key_BHSK, side.scaling)

    def error(student: Attention, teacher: Attention, mask_BS: Tensor) -> Tensor:
        if form == "gram":
            return attention_score_error_gram(student, teacher, mask_BS)
        return attention_score_error_direct(student, teacher, mask_BS, compat="none")

    student, teacher = attention(short, 5, seed=0), attention(short, 7, seed=1)
    longer = extended(student)
    expected, got = error(student, teacher, short), error(longer, extended(teacher), long)
    torch.testing.assert_close(got, expected)
    for one, other in zip(gradients(got, longer), gradients(expected, student), strict=True):
        torch.testing.assert_close(one[:, :, :11], other, rtol=1e-4, atol=1e-5)
        assert not one[:, :, 11:].any()
    assert attention_score_count(short, 2, "none") == attention_score_count(long, 2, "none") == 2 * (36 + 121 + 9)


class LargestSquare(TorchDispatchMode):
    """Records whether any operation returns a tensor whose last two sizes are S x S, backward included."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.square = (length, length)
        self.seen = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.seen |= isinstance(result, Tensor) and tuple(result.shape[-2:]) == self.square
        return result


def forms_a_square(length: int, compat: str = "none") -> bool:
    mask_BS = mask_of([length, length // 2])
    student, teacher = attention(mask_BS, 26, seed=0), attention(mask_BS, 64, seed=1)
    with LargestSquare(length) as recorder:
        attention_score_error(student, teacher, mask_BS, compat=compat).backward()
    return recorder.seen


def test_choice_of_the_form():
    """Head sizes 26 and 64: up to 180 tokens the scores themselves, beyond that nothing of the size S x S."""
    assert forms_a_square(64)
    assert forms_a_square(180)
    assert not forms_a_square(181)
    assert not forms_a_square(512)
    assert forms_a_square(512, "huawei")


@pytest.mark.parametrize("compat", ["none", "huawei"])
@pytest.mark.parametrize("length", [20, 150])
def test_nothing_square_is_kept_for_backward(length, compat):
    mask_BS = mask_of([length, length // 2])
    student, teacher = attention(mask_BS, 26, seed=0), attention(mask_BS, 64, seed=1)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(tuple(t.shape)), t)[1], lambda t: t):
        attention_score_error(student, teacher, mask_BS, compat=compat)
    assert saved
    assert all(shape[-2:] != (length, length) for shape in saved)


@pytest.mark.parametrize("length", [16, 300])
def test_low_precision_inputs_and_autocast(length):
    mask_BS = mask_of([length, length // 2])
    student, teacher = (detached(attention(mask_BS, size, seed=size), torch.bfloat16) for size in (26, 64))
    student_32, teacher_32 = detached(student, torch.float32), detached(teacher, torch.float32)
    expected = attention_score_error(student_32, teacher_32, mask_BS, compat="none")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = attention_score_error(student, teacher, mask_BS, compat="none")
        got_32 = attention_score_error(student_32, teacher_32, mask_BS, compat="none")
    assert got.dtype == torch.float32
    assert got == expected == got_32
    for one, other in zip(gradients(got, student), gradients(expected, student_32), strict=True):
        assert torch.equal(one, other.to(torch.bfloat16))


@pytest.mark.parametrize("length", [16, 300])
def test_reduced_float32_precision_is_off_and_restored(length, monkeypatch):
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    mask_BS = mask_of([length, length // 2])
    student, teacher = attention(mask_BS, 26, seed=0), attention(mask_BS, 64, seed=1)
    seen = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._schema.name in ("aten::mm", "aten::bmm"):
                seen.append([backend.fp32_precision for backend in backends])
            return func(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        during = [backend.fp32_precision for backend in backends]
        with Spy():
            attention_score_error(student, teacher, mask_BS, compat="none").backward()
        assert [backend.fp32_precision for backend in backends] == during == ["tf32", "tf32"]
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) >= 4
    assert all(precisions == ["ieee", "ieee"] for precisions in seen)


@pytest.mark.parametrize("compat", ["none", "huawei"])
def test_cutting_a_batch_changes_nothing(compat):
    mask_BS = mask_of([9, 4, 7])
    student, teacher = attention(mask_BS, 5, seed=0), attention(mask_BS, 3, seed=1)

    def rows(side: Attention, start: int, stop: int) -> Attention:
        return Attention(side.query_BHSK[start:stop], side.key_BHSK[start:stop], side.scaling)

    whole = attention_score_error(student, teacher, mask_BS, compat=compat)
    parts = [
        attention_score_error(rows(student, *cut), rows(teacher, *cut), mask_BS[slice(*cut)], compat=compat)
        for cut in ((0, 1), (1, 3))
    ]
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_mask_may_be_boolean_and_padding_on_the_left():
    mask_BS = mask_of([9, 4, 7]).flip(1)
    student, teacher = attention(mask_BS, 5, seed=0), attention(mask_BS, 3, seed=1)
    flipped = [Attention(side.query_BHSK.flip(2), side.key_BHSK.flip(2), side.scaling) for side in (student, teacher)]
    for compat in ("none", "huawei"):
        got = attention_score_error(student, teacher, mask_BS.bool(), compat=compat)
        expected = attention_score_error(*flipped, mask_BS.flip(1), compat=compat)
        torch.testing.assert_close(got, expected)


def test_disagreeing_shapes():
    mask_BS = mask_of([5, 2])
    student = attention(mask_BS, 3, seed=0)
    with pytest.raises(ValueError, match="The student has 2 attention heads and the teacher 3"):
        attention_score_error(student, attention(mask_BS, 3, seed=1, num_heads=3), mask_BS, compat="none")
    with pytest.raises(ValueError, match="student 2 x 5, teacher 2 x 6"):
        attention_score_error(student, attention(mask_of([6, 2]), 3, seed=1), mask_BS, compat="none")
    with pytest.raises(ValueError, match="disagree"):
        hidden_state_error(torch.zeros(2, 5, 3), torch.zeros(2, 5, 4), mask_BS, compat="none")


def test_hidden_state_error_equals_the_published_formula():
    mask_BS = mask_of([6, 2, 4])
    student_BSD, teacher_BSD = torch.randn(3, 6, 8, requires_grad=True), torch.randn(3, 6, 8)
    for compat, expected in [
        ("huawei", torch.nn.functional.mse_loss(student_BSD, teacher_BSD)),
        ("none", torch.nn.functional.mse_loss(student_BSD[mask_BS == 1], teacher_BSD[mask_BS == 1])),
    ]:
        got = hidden_state_error(student_BSD, teacher_BSD, mask_BS, compat=compat) / hidden_state_count(
            mask_BS, 8, compat
        )
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(*(torch.autograd.grad(loss, student_BSD) for loss in (got, expected)))


def test_hidden_state_error_ignores_padding():
    mask_BS = mask_of([6, 2])
    student_BSD, teacher_BSD = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    expected = hidden_state_error(student_BSD, teacher_BSD, mask_BS, compat="none")
    student_BSD[1, 2:] = float("nan")
    student_BSD.requires_grad_()
    got = hidden_state_error(student_BSD, teacher_BSD, mask_BS, compat="none")
    assert got == expected
    assert not torch.autograd.grad(got, student_BSD)[0][1, 2:].any()
    assert hidden_state_error(teacher_BSD, teacher_BSD, mask_BS, compat="none") == 0
    assert hidden_state_count(mask_BS, 8, "none") == 64
    assert hidden_state_count(mask_BS, 8, "huawei") == 96


def test_counts_are_exact():
    """A global batch has more score pairs than float32 can count."""
    mask_BS = torch.ones(4, 4097)
    assert attention_score_count(mask_BS, 1, "none").item() == 4 * 4097**2
    assert attention_score_count(mask_BS, 1, "huawei").item() == 4 * 4097**2
    assert attention_score_count(mask_BS, 1, "none").dtype == torch.int64


def test_hidden_state_error_in_low_precision():
    mask_BS = mask_of([6, 2])
    student_BSD = torch.randn(2, 6, 8).bfloat16().requires_grad_()
    teacher_BSD = torch.randn(2, 6, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = hidden_state_error(student_BSD, teacher_BSD, mask_BS, compat="none")
    assert got == hidden_state_error(student_BSD.float(), teacher_BSD.float(), mask_BS, compat="none")


def test_centred_scores_are_the_scores_minus_each_querys_mean_over_its_keys() -> None:
    mask_BS = mask_of([7, 4])
    student, teacher = attention(mask_BS, 5, seed=0), attention(mask_BS, 6, seed=1)

    def scores(side: Attention) -> Tensor:
        plain = side.scaling * side.query_BHSK @ side.key_BHSK.mT
        valid = mask_BS.bool()[:, None, None, :]
        return plain - (plain * valid).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True)

    def by_formula(side: Attention) -> Tensor:
        pairs = mask_BS[:, None, :, None] * mask_BS[:, None, None, :]
        return ((scores(side) - scores(teacher)).square() * pairs).sum()

    def ours(side: Attention) -> Tensor:
        centred = centred_keys(side, mask_BS), centred_keys(teacher, mask_BS)
        return attention_score_error(*centred, mask_BS, compat="none")

    torch.testing.assert_close(ours(student), by_formula(student))
    torch.testing.assert_close(gradients(ours(student), student), gradients(by_formula(student), student))


def test_what_is_added_to_all_scores_of_a_query_does_not_change_centred_scores() -> None:
    mask_BS = mask_of([7, 4])
    student, teacher = attention(mask_BS, 5, seed=0), attention(mask_BS, 6, seed=1)
    # A constant added to every key adds q'c to all scores of a query q.
    shifted = Attention(student.query_BHSK, student.key_BHSK + torch.randn(2, 2, 1, 5), student.scaling)
    errors = [
        attention_score_error(centred_keys(side, mask_BS), centred_keys(teacher, mask_BS), mask_BS, compat="none")
        for side in (student, shifted)
    ]
    torch.testing.assert_close(*errors)
    raw = [attention_score_error(side, teacher, mask_BS, compat="none") for side in (student, shifted)]
    assert not torch.isclose(*raw)
