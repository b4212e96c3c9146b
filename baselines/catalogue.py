"""The catalogue: every system of the bench, one entry per system or family. To add a system, add its file and a line.

Read by `systems.registry`, which says what the fields mean. Colours stay apart in grey and for readers who are
colour-blind; `bench.report.style` measures it, and its tests hold it for the systems that share a figure.
"""

from __future__ import annotations

from systems.registry import register

RED, NAVY, GREEN, MAGENTA, BLUE = "#D2271F", "#183D85", "#076348", "#CC53C9", "#268CC8"
BLACK, AMBER, BROWN, GREY = "#000000", "#FCA218", "#511B00", "#9D9D9D"

RECONSTRUCTION, SEGMENTATION = ("reconstruction",), ("segmentation",)
CODECS = r"(?P<codec>jpeg|webp|avif)"
QAM = r"(?P<order>4|16|64|256)qam"
QAM_COLOURS = {"jpeg-ldpc-16qam": BLACK, "jpeg-ldpc-64qam": AMBER}

register(
    "gensc",
    "systems.gensc.system:GenSC",
    tasks=RECONSTRUCTION + SEGMENTATION,
    learned=True,
    label="GenSC",
    colour=RED,
)
register(
    "linear", "baselines.linear:Linear", tasks=RECONSTRUCTION, fitted=True, label="Linear (block KLT)", colour=GREY
)
register(
    "deepjscc", "baselines.deepjscc:DeepJSCC", tasks=RECONSTRUCTION, learned=True, label="Deep JSCC", colour=MAGENTA
)
register("adjscc", "baselines.adjscc:ADJSCC", tasks=RECONSTRUCTION, learned=True, label="ADJSCC", colour=GREEN)
register("witt", "baselines.witt:WITT", tasks=RECONSTRUCTION, learned=True, label="WITT", colour=NAVY)
register(
    "deeplab-jscc",
    "baselines.deeplab_jscc:DeepLabJSCC",
    tasks=SEGMENTATION,
    learned=True,
    label="DeepLab-JSCC",
    colour=BLUE,
)
register("fcn", "baselines.fcn:FCN", tasks=SEGMENTATION, learned=True, part=True, label="FCN")
register(
    "fcn-ceiling",
    "baselines.bounds:FCNCeiling",
    tasks=SEGMENTATION,
    label="FCN on the original",
    colour=BLACK,
)

register(
    "<codec>-ldpc-<M>qam",
    "baselines.digital.system:DigitalSystem",
    tasks=RECONSTRUCTION,
    pattern=f"{CODECS}-ldpc-{QAM}",
    examples=("jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "webp-ldpc-16qam", "avif-ldpc-16qam"),
    label="{codec}+LDPC+{order}QAM",
    colours=tuple(QAM_COLOURS.items()),
)
register(
    "<codec>-ldpc-<M>qam-fcn",
    "baselines.digital.system:DigitalSegmentation",
    tasks=SEGMENTATION,
    pattern=f"{CODECS}-ldpc-{QAM}-fcn",
    examples=("jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"),
    label="{codec}+LDPC+{order}QAM+FCN",
    colours=tuple((f"{name}-fcn", colour) for name, colour in QAM_COLOURS.items()),
)
register(
    "<codec>-ldpc-adaptive",
    "baselines.digital.system:AdaptiveDigital",
    tasks=RECONSTRUCTION,
    pattern=f"{CODECS}-ldpc-adaptive",
    examples=("jpeg-ldpc-adaptive",),
    label="{codec}+LDPC, adaptive",
    colours=(("jpeg-ldpc-adaptive", BROWN),),
)
register(
    "<codec>-capacity",
    "baselines.bounds:CapacityBound",
    tasks=RECONSTRUCTION,
    pattern=f"{CODECS}-capacity",
    examples=("jpeg-capacity",),
    label="{codec} at capacity (bound)",
    colours=(("jpeg-capacity", BLACK),),
)
