"""The systems that GenSC is compared with: one file a system, the digital link in `baselines.digital` beside them."""

from systems.registry import register

BOTH = ("reconstruction", "segmentation")

register("linear", "baselines.linear:Linear", tasks=("reconstruction",))
register("deepjscc", "baselines.deepjscc:DeepJSCC", tasks=("reconstruction",), learned=True)
register("adjscc", "baselines.adjscc:ADJSCC", tasks=("reconstruction",), learned=True)
register("witt", "baselines.witt:WITT", tasks=("reconstruction",), learned=True)
register("deeplab-jscc", "baselines.deeplab_jscc:DeepLabJSCC", tasks=("segmentation",), learned=True)

# Families: names compose from codec, constellation and task; options are named by the class attribute `options`.
register(
    "<codec>-ldpc-<M>qam",
    "baselines.digital.system:DigitalSystem",
    tasks=("reconstruction",),
    pattern=r"(jpeg|webp|avif)-ldpc-(4|16|64|256)qam",
    examples=("jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "webp-ldpc-16qam", "avif-ldpc-16qam"),
)
register(
    "<codec>-ldpc-<M>qam-fcn",
    "baselines.digital.system:DigitalSegmentation",
    tasks=("segmentation",),
    pattern=r"(jpeg|webp|avif)-ldpc-(4|16|64|256)qam-fcn",
    examples=("jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"),
)
register(
    "<codec>-ldpc-adaptive",
    "baselines.digital.system:AdaptiveDigital",
    tasks=("reconstruction",),
    pattern=r"(jpeg|webp|avif)-ldpc-adaptive",
    examples=("jpeg-ldpc-adaptive",),
)
register(
    "<codec>-capacity",
    "baselines.bounds:CapacityBound",
    tasks=("reconstruction",),
    pattern=r"(jpeg|webp|avif)-capacity",
    examples=("jpeg-capacity",),
)
register("fcn-ceiling", "baselines.bounds:FCNCeiling", tasks=("segmentation",))
