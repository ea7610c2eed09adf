"""Losses on scores and maps, vectorised over photographs and pairs."""

import torch
import torch.nn.functional as F

from ..models.image_scorer import ModelOutput


def margin_ranking(score: torch.Tensor, mos: torch.Tensor) -> torch.Tensor:
    """Hinge on every pair of a batch whose order the scores get wrong or hardly right.

    For a pair with mos_i > mos_j: max(0, margin - (score_i - score_j)), margin a quarter of the
    standard deviation of ``mos`` in the batch; the mean over all pairs of different mos. The
    authors' code has it with weight 1, switched off.

    Args:
        score, mos: (b,). Fewer than two different mos give 0.
    """
    sign = torch.sign(mos[:, None] - mos[None, :])
    gap = sign * (score[:, None] - score[None, :])
    margin = 0.25 * mos.std(correction=0)
    pairs = sign != 0
    return (F.relu(margin - gap) * pairs).sum() / pairs.sum().clamp(min=1)


def correlation(score: torch.Tensor, mos: torch.Tensor) -> torch.Tensor:
    """(1 - PLCC) / 2 over a batch: 0 where scores rise with ``mos`` in a line, 1 where they fall.

    Unlike the squared error it does not see a shift or scale common to all scores, so that an
    untrained network's small differences between photographs are what it learns from first.

    Args:
        score, mos: (b,). Constant ones give 0.5.
    """
    a, b = score - score.mean(), mos - mos.mean()
    return 0.5 - 0.5 * (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-8)


def correlation_by_group(
    score: torch.Tensor, mos: torch.Tensor, groups: torch.Tensor, fewest: int = 5
) -> torch.Tensor:
    """Mean of ``correlation`` over the batch and over each of its groups of photographs.

    Sets from several sources differ in level, which the batch's correlation is full of; those
    within the groups measure the order of images of one source.

    Args:
        score, mos: (b,); photographs whose mos is NaN are left out.
        groups: (b,) int, negative where a photograph is of none.
        fewest: members that a group of the batch must have to count.
    """
    known = ~mos.isnan()
    parts = [known, *(known & (groups == group) for group in groups.unique() if group >= 0)]
    parts = [part for i, part in enumerate(parts) if i == 0 or fewest <= part.sum() < known.sum()]
    return torch.stack([correlation(score[part], mos[part]) for part in parts]).mean()


def score_loss(
    score: torch.Tensor,
    mos: torch.Tensor,
    ranking_weight: float = 0.0,
    correlation_weight: float = 0.0,
) -> torch.Tensor:
    """Mean squared error, plus the other losses where they have a weight. Scores and mos (b,)."""
    loss = F.mse_loss(score, mos)
    if ranking_weight:
        loss = loss + ranking_weight * margin_ranking(score, mos)
    if correlation_weight:
        loss = loss + correlation_weight * correlation(score, mos)
    return loss


def distillation_loss(
    output: ModelOutput,
    mos: torch.Tensor,
    teacher: ModelOutput | None,
    score_weight: float,
    teacher_score_weight: float,
    map_weight: float,
    statistics: torch.Tensor | None = None,
    statistics_weight: float = 0.0,
) -> torch.Tensor:
    """Mean over photographs of the terms each has (published weights: 1, 0, 1 and 0).

    The terms: squared error of score against ``mos`` (b,), none where that is NaN; squared error of
    score against the teacher's; mean squared error of the map against the teacher's (b, 8, 64, 64);
    that of the predicted statistics against ``statistics`` (b, k).
    As a missing term counts 0, each label weighs the same whatever batch it is in.
    """
    known = ~mos.isnan()
    # Not the other way round: the gradient of NaN is NaN, masked or not.
    error = output.score - torch.where(known, mos, output.score.detach())
    loss = score_weight * error.square()
    if teacher_score_weight:
        assert teacher is not None
        loss = loss + teacher_score_weight * (output.score - teacher.score).square()
    if map_weight:
        assert teacher is not None
        gap = output.feature_map.float() - teacher.feature_map
        loss = loss + map_weight * gap.square().mean((1, 2, 3))
    if statistics_weight:
        assert output.statistics is not None
        assert statistics is not None
        loss = loss + statistics_weight * (output.statistics - statistics).square().mean(1)
    return loss.mean()
