"""The lean residual blocks compute what diffusers' do, and leave what they were given alone."""

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D

from chai_app.opensora.lean_resnet import LeanResnetBlock2D, make_lean
from chai_app.opensora.upsampling import EnlargingConv2d


@pytest.mark.parametrize(("channels", "scale"), [(8, 1.0), (16, 1.0), (16, 2.0)])
def test_a_lean_block_gives_the_same_and_changes_no_input(channels, scale):
    torch.manual_seed(3)
    block = ResnetBlock2D(
        in_channels=8, out_channels=channels, temb_channels=None, groups=4, output_scale_factor=scale
    ).eval()
    x = torch.randn(2, 8, 6, 5)
    before = x.clone()
    with torch.no_grad():
        expected = block(x, None)
        block.__class__ = LeanResnetBlock2D
        torch.testing.assert_close(block(x, None), expected)
    assert torch.equal(x, before)


def test_a_lean_block_still_learns():
    block = ResnetBlock2D(in_channels=8, temb_channels=None, groups=4)
    block.__class__ = LeanResnetBlock2D
    block(torch.randn(1, 8, 4, 4), None).square().mean().backward()
    assert block.conv1.weight.grad is not None


def test_only_blocks_that_neither_resize_nor_know_the_time_become_lean():
    autoencoder = AutoencoderKL(norm_num_groups=4, block_out_channels=(8,), latent_channels=2)
    autoencoder.decoder.mid_block.resnets[0] = with_time = ResnetBlock2D(in_channels=8, temb_channels=4, groups=4)
    autoencoder.decoder.mid_block.resnets[1] = larger = ResnetBlock2D(
        in_channels=8, temb_channels=None, groups=4, up=True
    )
    make_lean(autoencoder)
    kinds = [type(module) for module in autoencoder.modules() if isinstance(module, ResnetBlock2D)]
    assert kinds.count(ResnetBlock2D) == 2 and kinds.count(LeanResnetBlock2D) > 2
    assert type(with_time) is type(larger) is ResnetBlock2D


def test_the_kernel_of_an_enlargement_follows_its_weight():
    conv = EnlargingConv2d(2, 3, 3, padding=1)
    x = torch.randn(1, 2, 4, 4)
    with torch.no_grad():
        first = conv(x)
        assert torch.equal(conv(x), first)
        conv.weight.mul_(2)
        conv.bias.mul_(2)
        torch.testing.assert_close(conv(x), 2 * first)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x), 2 * first)
