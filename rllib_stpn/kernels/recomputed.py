"""Backward by recomputation, for loops over steps whose graph would not fit."""

import contextlib
import math

import torch

GRAPH_BYTES = 256 * 2**20
"""Where the autograd graph of a loop over steps would take more than this, backward recomputes it in chunks of time."""


def run_in_chunks(loop, sequences, is_first, measure, leaves, parameters, graph_tensors):
    """Runs a loop over steps, in chunks of time where its autograd graph would exceed ``GRAPH_BYTES``.

    Args:
        loop: ``loop(is_first, measure, *sequences, *leaves)`` returns outputs ``[B, T, ...]``, energy ``[B, T, units]``
            or None, and the new leaves.
        sequences: Tensors ``[B, T, ...]``.
        is_first: ``[B, T]`` bool or None.
        measure: Whether to measure the energy.
        leaves: The state's tensors, batch first.
        parameters: What ``loop`` reads besides: the module that has it all, or a tuple of tensors, which ``loop`` then
            also takes as ``parameters=``, in place of those that it finds by itself.
        graph_tensors: Copies of the state that autograd keeps for one step, or a fraction.

    Returns:
        Outputs, energy or None, and a list of the new leaves.
    """
    steps = sequences[0].shape[1]
    step_bytes = graph_tensors * sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    whole = torch.compiler.is_compiling() or steps * step_bytes <= GRAPH_BYTES or not torch.is_grad_enabled()
    read = None if whole else _read(parameters)
    if read is None or not any(t.requires_grad for t in (*sequences, *leaves, *read.tensors)):
        output, energy, *leaves = loop(is_first, measure, *sequences, *leaves)
        return output, energy, leaves
    # Chunks keep their start states and, one at a time, their graph; at this length the two are alike.
    balanced = math.isqrt(int(steps / graph_tensors))
    length = max(1, GRAPH_BYTES // step_bytes, balanced)
    masks = [None] * steps if is_first is None else is_first.split(length, 1)
    outputs, energies = [], []
    for mask, *chunks in zip(masks, *(sequence.split(length, 1) for sequence in sequences), strict=False):
        given = (*chunks, *leaves)
        read, surroundings = _read(parameters), _Surroundings(given[0].device)
        with torch.no_grad():
            results = loop(mask, measure, *given)
        read.settle()
        output, energy, *leaves = Recomputed.apply(
            loop, read, surroundings, len(given), tuple(results), mask, *given, *read.tensors
        )
        outputs.append(output)
        energies.append(energy)
    return torch.cat(outputs, 1), torch.cat(energies, 1) if energies[0] is not None else None, leaves


class Recomputed(torch.autograd.Function):
    """A chunk of a loop without a graph; backward runs the loop once more, with one.

    ``torch.utils.checkpoint`` runs forward in gradient mode, where the heap (glibc's) kept most of the memory that each
    step freed. ``tests/layers/test_memory.py`` bounds the peak of this one.
    """

    @staticmethod
    def forward(ctx, loop, read, surroundings, count, results, mask, *tensors):
        """What the chunk returned, for which ``tensors`` were given and read."""
        ctx.loop, ctx.read, ctx.surroundings, ctx.count = loop, read, surroundings, count
        ctx.save_for_backward(mask, *tensors)
        ctx.set_materialize_grads(False)
        if results[1] is not None:
            ctx.mark_non_differentiable(results[1])
        return results

    @staticmethod
    def backward(ctx, output_gradient, _, *leaf_gradients):
        """With a graph over this chunk alone; for gradients of gradients, with one that autograd keeps."""
        mask, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[6:]
        twice = torch.is_grad_enabled()
        # Aliases, for gradients end at the chunk's start: its inputs may depend on the parameters too.
        with torch.enable_grad():
            start = [
                tensor.view_as(tensor) if twice and need else tensor.detach().requires_grad_(need)
                for tensor, need in zip(tensors, needed, strict=True)
            ]
            with ctx.surroundings.again():
                output, _, *after = ctx.read.run(start[ctx.count :], ctx.loop, mask, False, *start[: ctx.count])
        ends = [
            (end, gradient)
            for end, gradient in zip((output, *after), (output_gradient, *leaf_gradients), strict=True)
            if gradient is not None and end.requires_grad
        ]
        if not ends:
            return (None,) * (6 + len(needed))
        wanted = [tensor for tensor, need in zip(start, needed, strict=True) if need]
        outputs, gradients = zip(*ends, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=twice, allow_unused=True))
        return *(None,) * 6, *(next(found) if need else None for need in needed)


class _Surroundings:
    """What operations depend on besides their arguments: random generators and autocast."""

    def __init__(self, device):
        self._random = torch.get_rng_state()
        self._device = device if device.type == "cuda" else None
        if self._device is not None:
            self._device_random = torch.cuda.get_rng_state(self._device)
        self._autocast = [
            {"device_type": kind, "dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
            for kind in dict.fromkeys(("cpu", device.type))
            if torch.amp.is_autocast_available(kind)
        ]

    @contextlib.contextmanager
    def again(self):
        """As they were."""
        devices = [] if self._device is None else [self._device]
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices))
            torch.set_rng_state(self._random)
            if self._device is not None:
                torch.cuda.set_rng_state(self._device_random, self._device)
            for options in self._autocast:
                stack.enter_context(torch.autocast(**options))
            yield


_KEPT = (torch.Tensor, bool, int, float)


def _read(parameters):
    return (_OfModule if isinstance(parameters, torch.nn.Module) else _Given)(parameters)


class _Given:
    """Tensors that a loop takes as an argument."""

    def __init__(self, tensors):
        self.tensors = tuple(tensors)

    def settle(self):
        """Nothing to do."""

    def run(self, tensors, loop, *arguments):
        """The loop with these tensors in place of ours."""
        return loop(*arguments, parameters=tuple(tensors))


class _OfModule:
    """What a loop finds in a module, as it is now, for between forward and backward all of it may change.

    ``torch.func.functional_call`` puts other parameters there, during forward alone. Pruning leaves weights as plain
    attributes, with a graph.
    """

    def __init__(self, module):
        self._module = module
        found = {(None, name): tensor for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        for part in module.modules():  # training, which dropout asks for, is such an attribute
            found |= {(part, name): value for name, value in vars(part).items() if isinstance(value, _KEPT)}
        self._inputs = {
            where: value
            for where, value in found.items()
            if isinstance(value, torch.nn.Parameter) or (isinstance(value, torch.Tensor) and value.requires_grad)
        }
        self._others = {where: _copy(value) for where, value in found.items() if where not in self._inputs}

    @property
    def tensors(self):
        """Those that may need gradients."""
        return tuple(self._inputs.values())

    def settle(self):
        """Takes out attributes that the loop sets itself: a tensor of an earlier call's may have lost its graph."""
        for (part, name), value in list(self._inputs.items()):
            if part is not None and vars(part).get(name) is not value:
                self._others[part, name] = self._inputs.pop((part, name)).detach()

    def run(self, tensors, loop, *arguments):
        """The loop with these tensors in place of ours; leaves the module as it is."""
        values = dict(zip(self._inputs, tensors, strict=True))
        values |= {where: _copy(value) for where, value in self._others.items()}
        registered = {f"module.{name}": value for (part, name), value in values.items() if part is None}
        before = [(vars(part), dict(vars(part))) for part in self._module.modules()]
        try:
            for (part, name), value in values.items():
                if part is not None:
                    vars(part)[name] = value
            return torch.func.functional_call(_Loop(self._module, loop), registered, arguments)
        finally:
            for attributes, own in before:
                attributes.clear()
                attributes.update(own)


class _Loop(torch.nn.Module):
    """A loop as the forward of a module, which ``functional_call`` asks for."""

    def __init__(self, module, loop):
        super().__init__()
        self.module, self._loop = module, loop

    def forward(self, *arguments):
        """The loop."""
        return self._loop(*arguments)


def _copy(value):
    """Tensors without gradient may be changed in place by each step, as running means are."""
    return value.clone() if isinstance(value, torch.Tensor) else value
