"""The catalogue: every system of the bench, one entry per system or family. To add a system, add its file and a line.

Read by `systems.registry`, which says what the fields mean. Colours are Okabe and Ito's, which stay apart for readers
who are colour-blind.
"""

from __future__ import annotations

from systems.registry import register

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#767676"

RECONSTRUCTION, SEGMENTATION = ("reconstruction",), ("segmentation",)
CODECS = r"(?P<codec>jpeg|webp|avif)"
QAM = r"(?P<order>4|16|64|256)qam"
QAM_COLOURS = {"jpeg-ldpc-16qam": BLACK, "jpeg-ldpc-64qam": ORANGE}

register(
    "gensc",
    "systems.gensc.system:GenSC",
    tasks=RECONSTRUCTION + SEGMENTATION,
    learned=True,
    label="GenSC",
    colour=VERMILLION,
)
register(
    "linear", "baselines.linear:Linear", tasks=RECONSTRUCTION, fitted=True, label="Linear (block KLT)", colour=GREY
)
register(
    "deepjscc", "baselines.deepjscc:DeepJSCC", tasks=RECONSTRUCTION, learned=True, label="Deep JSCC", colour=PURPLE
)
register("adjscc", "baselines.adjscc:ADJSCC", tasks=RECONSTRUCTION, learned=True, label="ADJSCC", colour=GREEN)
register("witt", "baselines.witt:WITT", tasks=RECONSTRUCTION, learned=True, label="WITT", colour=BLUE)
register(
    "deeplab-jscc",
    "baselines.deeplab_jscc:DeepLabJSCC",
    tasks=SEGMENTATION,
    learned=True,
    label="DeepLab-JSCC",
    colour=SKY,
)
register("fcn", "baselines.fcn:FCN", tasks=SEGMENTATION, learned=True, part=True, label="FCN")
register(
    "fcn-ceiling",
    "baselines.bounds:FCNCeiling",
    tasks=SEGMENTATION,
    label="FCN on the original (ceiling)",
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
    colours=(("jpeg-ldpc-adaptive", YELLOW),),
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
