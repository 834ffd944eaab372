"""A run compiles as one graph, whatever the rule, and computes the same gradient."""

import pytest
import torch
from torch import nn

import spikewright as sw
from tests.rules.support import started


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
@pytest.mark.parametrize("rule", [sw.rules.BPTT(), sw.rules.SLTT(), sw.rules.OTTT()], ids=lambda r: type(r).__name__)
@pytest.mark.long
def test_compiles_in_one_graph(rule):
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), sw.LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), sw.LIF(3.0), nn.Linear(8, 3)
    )
    for p in module.parameters():
        p.data *= 3
    net, x = sw.Network(module), torch.rand(4, 2, 1, 6, 6)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return started(rule, net, x).advance(x)

    def gradients(run) -> list[torch.Tensor]:
        net.zero_grad()
        run(x).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    plain = gradients(forward)
    torch._dynamo.reset()
    compiled = gradients(torch.compile(forward, backend="aot_eager", fullgraph=True))
    assert all(g.any() for g in plain)
    for a, b in zip(plain, compiled):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
def test_a_compiled_network_learns_what_bptt_does():
    torch.manual_seed(0)
    net = sw.Network(nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 3)))
    x, y, loss = 3 * torch.rand(4, 2, 8), torch.tensor([0, 2]), sw.losses.OnRate(nn.CrossEntropyLoss())
    for _ in sw.rules.BPTT().updates(net, x, y, loss):
        pass
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    loss(compiled(x), y, len(x)).backward()
    assert all(g.any() for g in expected)
    for p, g in zip(net.parameters(), expected):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-12)


class Break(nn.Module):
    """Something that the compiler cannot have in its graph."""

    def forward(self, x):
        torch._dynamo.graph_break()
        return 1.0 * x


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # as above
@pytest.mark.parametrize("between", [nn.Dropout, Break], ids=lambda f: f.__name__)
@pytest.mark.parametrize("probed", [True, False], ids=["probed", "not probed"])
@pytest.mark.long
def test_a_compiled_network_changes_its_mode(between, probed):
    torch.manual_seed(0)
    net = sw.Network(nn.Sequential(nn.Linear(8, 16), sw.LIF(), between(), nn.Linear(16, 3)))
    x, graphs = 3 * torch.rand(4, 2, 8), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend)
    for training in (True, False, True, False):
        net.train(training)
        if probed:
            net.wiring(x)
        with torch.set_grad_enabled(training):
            torch.manual_seed(1)
            expected = sw.Network(net.module)(x)
            torch.manual_seed(1)
            assert torch.equal(compiled(x), expected)
            torch.manual_seed(1)
            assert torch.equal(compiled(x), expected)
    assert [n for n, m in net.module.named_modules() if "forward" in m.__dict__] == []
    count = len(graphs)
    with torch.no_grad():
        compiled(x)
    assert 2 <= len(graphs) == count


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
def test_a_network_that_must_be_one_graph_says_what_to_do():
    net, x = sw.Network(nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 3))), torch.rand(4, 2, 8)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"call net.wiring\(x\) in this mode before"):
        compiled(x)
    net.wiring(x)
    expected = net(x)
    assert torch.equal(compiled(x), expected)
