import torch

from rllib_stpn.kernels.batched import add_outer, matvec

B, H, D = 3, 4, 5


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_matvec():
    A, v = some(B, H, D), some(B, D)
    torch.testing.assert_close(matvec(A, v), torch.stack([A[b] @ v[b] for b in range(B)]))
    assert torch.autograd.gradcheck(matvec, (A, v))
    assert torch.autograd.gradgradcheck(matvec, (A, v))


def test_add_outer():
    A, post, pre = some(B, H, D), some(B, H), some(B, D)
    torch.testing.assert_close(
        add_outer(A, post, pre), torch.stack([A[b] + torch.outer(post[b], pre[b]) for b in range(B)])
    )
    assert torch.autograd.gradcheck(add_outer, (A, post, pre))
    assert torch.autograd.gradgradcheck(add_outer, (A, post, pre))
