"""Tensors on the simulated device, and what happens to them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.simulated_cuda.runtime import DEVICE, address, run, wait_for_the_device

aten = torch.ops.aten
CPU = torch.device("cpu")
READ_BACK = (
    aten.item.default,
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
)
"""Operations whose results the host waits for."""
COPIES = (aten.copy_.default, aten._to_copy.default, aten.to.dtype_layout, aten.to.device)
attention = F.scaled_dot_product_attention


class OnDevice(Tensor):
    """A tensor on the simulated device; ``inner`` is where it really is."""

    inner: Tensor

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return dispatch(function, arguments, options or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def record_stream(self, stream: Any) -> None:
        """Memory is only reused once nobody refers to it."""


def on_device(inner: Tensor) -> OnDevice:
    made: OnDevice = Tensor._make_wrapper_subclass(
        OnDevice,
        inner.shape,
        strides=inner.stride(),
        storage_offset=inner.storage_offset(),
        dtype=inner.dtype,
        device=DEVICE,
    )
    made.inner = inner
    return made


class Dispatching(TorchDispatchMode):
    """Makes tensors on the device, which no argument tells."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return dispatch(function, arguments, options or {})


class Calling(TorchFunctionMode):
    """What torch would decide before its dispatcher is asked."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        if function is torch.device:
            return function(*arguments, **options)
        arguments = tuple(map(_numbered, arguments))
        options = {name: _numbered(value) for name, value in options.items()}
        if function is attention and any(isinstance(each, OnDevice) for each in arguments):
            return _placed(run(attention, *map(_host, arguments), **tree_map(_host, options)), [])
        return function(*arguments, **options)


def dispatch(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Do ``function`` with host tensors, and put the results where its arguments are."""
    leaves = tree_leaves((arguments, options))
    here = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    there = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice)]
    asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    if options.get("pin_memory"):
        options = options | {"pin_memory": False}
    if function is aten._has_compatible_shallow_copy_type.default:
        return False
    if function is aten.is_pinned.default:
        return False
    if not here and (asked is None or asked.type != "cuda"):
        return function(*arguments, **options)
    if function in COPIES:
        return _copy(function, arguments, options, asked)
    if function in READ_BACK:
        wait_for_the_device()
    if any(tensor.dim() > 0 for tensor in there):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {function}")
    made = run(function, *tree_map(_host, arguments), **tree_map(_host, options))
    return tree_map(lambda each: _placed(each, here) if isinstance(each, Tensor) else each, made)


def _copy(function: Any, arguments: tuple[Any, ...], options: dict[str, Any], asked: torch.device | None) -> Any:
    """Within the device, or between it and the host, which then waits for it."""
    into = function is aten.copy_.default
    source = arguments[1] if into else arguments[0]
    to_device = isinstance(arguments[0], OnDevice) if asked is None else asked.type == "cuda"
    if isinstance(source, OnDevice) != to_device:
        wait_for_the_device()
    if into:
        run(function, *map(_host, arguments), **options)
        return arguments[0]
    given = [*arguments[1:], *options.values()]
    dtype = next((each for each in given if isinstance(each, torch.dtype)), source.dtype)
    order = next((each for each in given if isinstance(each, torch.memory_format)), torch.preserve_format)
    made = run(aten._to_copy.default, _host(source), dtype=dtype, memory_format=order)
    return _placed(made, []) if to_device else made


def _placed(made: Tensor, arguments: list[OnDevice]) -> Tensor:
    """A result on the device: an argument that it is, a view of one, or a new tensor."""
    for argument in arguments:
        if made is argument.inner:
            return argument
        if address(made) == address(argument.inner) != 0:
            with torch.inference_mode(argument.is_inference()):
                return on_device(made)
    return on_device(made)


def _host(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.inner
    return CPU if isinstance(value, torch.device) and value.type == "cuda" else value


def _numbered(value: Any) -> Any:
    """torch asks CUDA for the number of a device that has none."""
    is_device = isinstance(value, torch.device) and value.type == "cuda" and value.index is None
    return DEVICE if is_device or (isinstance(value, str) and value == "cuda") else value
