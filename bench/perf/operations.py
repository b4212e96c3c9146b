"""Counts the floating-point operations of a system for one picture, in the process that runs the system.

`bench.perf.flops`, `bench.perf.model` and `bench.perf.train` call it for our own systems. For those of third parties, a
confined process does (`bench.measure.apart.inspect_with`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measure.channel import transmit
from systems import result_cache
from systems.interface import Link, System
from systems.layers import dense
from systems.sizes import fill


def count_operations(system: System, link: Link, device: str = "cpu") -> dict[str, int]:
    """Floating-point operations {"encode", "decode"} for one picture of the link's size. A multiply-add counts as two.

    torch counts matrix products, convolutions and attention. Elementwise operations, and work outside torch (JPEG, LDPC
    decoding), are not counted.
    """
    result_cache.forget()  # remembered results would not be counted
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, link.height, link.width), generator=generator).to(device)
    with torch.inference_mode():
        transmission, encode = count_flops(lambda: system.encode(image, link))
        received = transmit(transmission, link, [0])
        _, decode = count_flops(lambda: system.decode(received, link))
    return {"encode": encode, "decode": decode}


def count_flops(call: Callable[[], Any]) -> tuple[Any, int]:
    """What `call` returns, and the operations of its matrix products, convolutions and attention, forward and backward.

    torch's own count of a convolution's backward pass ignores the groups, so it takes a depthwise convolution for a
    dense one: hundreds of times too many.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    # torch does not count oneDNN's operators, and the numbers must not depend on the machine.
    with dense.without_onednn(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        result = call()
    return result, counter.get_total_flops()


def _convolution_backward_flops(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *others: Any, **_: Any
) -> int:
    """Operations of a convolution's backward pass, from the shapes of its tensors. The gradient of the input and that
    of the weight cost as much as the forward pass each: 2 operations per weight, picture and position.

    Positions are those of the output, or of the input for a transposed convolution.
    """
    transposed, output_mask = others[4], others[7]
    positions = math.prod((x if transposed else gradient)[2:])
    return 2 * gradient[0] * math.prod(weight) * positions * sum(output_mask[:2])


def build_and_count(
    kind: Any, name: str, options: dict[str, Any], config: dict[str, Any] | None, link: Link
) -> dict[str, int]:
    """Build a system from its class `kind`, and count. config: that of weights of others, from the manifest, or None.

    Raises the errors of the system.
    """
    own = {} if config is None else {"config": fill(kind.Config, config, f"manifest of {name}")}
    return count_operations(kind(name=name, **options, **own), link)
