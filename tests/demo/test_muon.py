import pytest
import torch
from torch import nn

from chai_app.demo.learn.muon import Muon, optimizers_for, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (90, 16)])
def test_an_update_is_roughly_orthogonal_whatever_its_shape(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_an_update_points_where_the_matrix_does():
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest = u @ v
    assert torch.nn.functional.cosine_similarity(orthogonal(matrix).flatten(), nearest.flatten(), dim=0) > 0.95


def test_inner_weights_go_to_muon_and_everything_else_to_adamw():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 3, 3))
    muon, adamw = optimizers_for(model, use_muon=True, lr=1e-3, weight_decay=0.0)
    assert isinstance(muon, Muon)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [model[2].weight.shape]
    assert len(adamw.param_groups[0]["params"]) == 7
    (only,) = optimizers_for(model, use_muon=False, lr=1e-3, weight_decay=0.0)
    assert isinstance(only, torch.optim.AdamW)


def test_muon_learns_a_convolution():
    torch.manual_seed(0)
    teacher, student = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
    optimizers = optimizers_for(student, use_muon=True, lr=5e-2, weight_decay=0.0)
    losses = []
    for step in range(120):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 5e-2 * (1 - step / 120)
        x = torch.randn(4, 12, 8, 8)
        loss = (student(x) - teacher(x)).square().mean()
        student.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
