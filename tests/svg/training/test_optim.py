"""An optimiser's state goes into a checkpoint and back."""

import pytest
import torch
from torch import nn

from svg.training.optim import load_optimizer_tensors, optimizer_tensors


@pytest.mark.parametrize("amsgrad", [False, True])
def test_an_optimizer_goes_on_bit_for_bit(amsgrad):
    def network():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
        net.to(memory_format=torch.channels_last)
        groups = [{"params": net[0].parameters(), "lr": 0.1}, {"params": [*net[2].parameters(), *net[1].parameters()]}]
        return net, torch.optim.Adam(groups, amsgrad=amsgrad), {p: name for name, p in net.named_parameters()}

    def step(net, optimizer, number):
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()

    straight, its_optimizer, names = network()
    for number in range(3):
        step(straight, its_optimizer, number)
    state = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    tensors = {k: v.clone().contiguous() for k, v in optimizer_tensors(its_optimizer, names).items()}
    assert "optimizer.exp_avg/0.weight" in tensors and "optimizer.step/2.bias" in tensors
    step(straight, its_optimizer, 3)

    resumed, optimizer, names = network()
    resumed.load_state_dict(state)
    load_optimizer_tensors(optimizer, names, tensors)
    moment = optimizer.state[resumed[0].weight]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    step(resumed, optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
