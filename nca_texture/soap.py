"""SOAP: Adam in the eigenvectors of its gradients' covariances."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_EVERY = 5  # steps between looks at the eigenvectors
_MOMENTUM, _SQUARES, _COVARIANCES = 0.9, 0.95, 0.95  # what is kept of each mean per step
_TINY = 1e-8
_LARGEST = 512  # a side of a matrix beyond this keeps its axes


class Soap(Optimizer):
    """Adam on matrices turned into the eigenvectors of their gradients' covariances.

    Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), algorithm 3. Of every
    matrix G among the gradients, means of G G^T and G^T G are kept (Shampoo's), and their
    eigenvectors followed by a step of power iteration and a QR decomposition now and then; tensors
    of more axes are matrices of their first axis and all others, and those of one axis are left to
    Adam as they are. Weights decay apart from the gradient, as in AdamW.

    It learns to grow a picture in a third of the iterations that Adam takes (docs/growth.md), but
    its first steps are wild: let the rate warm up.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, *, weight_decay: float = 0.0
    ) -> None:
        """Optimise ``parameters`` by steps of about ``lr`` in each direction."""
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step along the gradients that are there; raises ``ValueError`` for a closure."""
        if closure is not None:
            raise ValueError("a closure is not supported; compute the gradients before the step")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    way = _follow(self.state[parameter], parameter.grad)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * way)


def _follow(state: dict[str, Any], gradient: Tensor) -> Tensor:
    """Add ``gradient`` to the means of a parameter, and return where they point to."""
    matrix = gradient.reshape(len(gradient), -1) if gradient.ndim > 1 else gradient[None]
    if not state:
        state["step"] = torch.tensor(0.0)
        state["momentum"], state["squares"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
        for side, covariance in _covariances(matrix).items():
            state[f"{side}_covariance"] = covariance
            state[f"{side}_basis"] = _eigenvectors(covariance)
    for side, covariance in _covariances(matrix).items():
        state[f"{side}_covariance"].lerp_(covariance, 1 - _COVARIANCES)
    count = int(state["step"].add_(1))
    if count % _EVERY == 0:
        momentum = _turned(state["momentum"], state, back=True)
        for side in _sides(matrix):
            found = _orthogonal(state[f"{side}_covariance"] @ state[f"{side}_basis"])
            state[f"{side}_basis"] = found
        state["momentum"] = _turned(momentum, state)
    turned = _turned(matrix, state)
    momentum = state["momentum"].lerp_(turned, 1 - _MOMENTUM) / (1 - _MOMENTUM**count)
    squares = state["squares"].lerp_(turned.square(), 1 - _SQUARES) / (1 - _SQUARES**count)
    way = momentum / (squares.sqrt() + _TINY)
    return _turned(way, state, back=True).view_as(gradient)


def _sides(matrix: Tensor) -> list[str]:
    """Name the sides of ``matrix`` that have eigenvectors of their own."""
    rows, columns = matrix.shape
    if min(rows, columns) == 1:
        return []
    return [side for side, size in (("left", rows), ("right", columns)) if size <= _LARGEST]


def _covariances(matrix: Tensor) -> dict[str, Tensor]:
    """Multiply ``matrix`` with itself, along each side."""
    both = {"left": lambda: matrix @ matrix.mT, "right": lambda: matrix.mT @ matrix}
    return {side: both[side]() for side in _sides(matrix)}


# Matrices are small, and decompositions of small matrices fastest on a CPU; MPS has none. NaN is
# passed over: it is not here that a run finds out about it. In memory a basis lies as a checkpoint
# would have it: products of other layouts have other bits. A first gradient has few directions, and
# of their covariance LAPACK finds no eigenvectors in float32 once in some hundred times.
def _eigenvectors(matrix: Tensor) -> Tensor:
    found = torch.linalg.eigh(matrix.cpu().nan_to_num(0, 0, 0).double())
    return found.eigenvectors.contiguous().to(matrix)


def _orthogonal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix.cpu().nan_to_num(0, 0, 0)).Q.contiguous().to(matrix.device)


def _turned(matrix: Tensor, state: dict[str, Any], *, back: bool = False) -> Tensor:
    """Turn ``matrix`` into the eigenvectors, or ``back`` out of them."""
    left, right = state.get("left_basis"), state.get("right_basis")
    if left is not None:
        matrix = (left if back else left.mT) @ matrix
    if right is not None:
        matrix = matrix @ (right.mT if back else right)
    return matrix
