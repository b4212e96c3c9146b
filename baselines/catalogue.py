"""The catalogue: every system of the bench, one entry per system or family.

To add a system, add its file and an entry here. `systems.registry` reads the catalogue and explains the fields. The
colours can be told apart in grey and by colour-blind readers. `bench.report.style` measures how far apart they are, and
its tests check it for systems in the same figure.
"""

from __future__ import annotations

from baselines.digital import names
from systems.registry import register

RED, NAVY, GREEN, MAGENTA, BLUE = "#D2271F", "#183D85", "#076348", "#CC53C9", "#268CC8"
BLACK, AMBER, BROWN, GREY = "#000000", "#FCA218", "#511B00", "#9D9D9D"

RECONSTRUCTION, SEGMENTATION = ("reconstruction",), ("segmentation",)
QAM_COLOURS = {"jpeg-ldpc-16qam": BLACK, "jpeg-ldpc-64qam": AMBER}

register(
    "gensc",
    "systems.gensc.system:GenSC",
    tasks=RECONSTRUCTION + SEGMENTATION,
    learned=True,
    asks="systems.gensc.task_kb:TaskKB",
    label="GenSC",
    colour=RED,
)
register(
    "linear", "baselines.linear:Linear", tasks=RECONSTRUCTION, fitted=True, label="Linear (block KLT)", colour=GREY
)
register(
    "linear-select",
    "baselines.linear_select:LinearSelect",
    tasks=RECONSTRUCTION,
    fitted=True,
    label="Linear, selecting",
)
register(
    "gensc-select",
    "baselines.gensc_select:GenSCSelect",
    tasks=RECONSTRUCTION,
    learned=True,
    label="GenSC, selecting",
)
register(
    "adjscc-select",
    "baselines.adjscc_select:ADJSCCSelect",
    tasks=RECONSTRUCTION,
    learned=True,
    label="ADJSCC, selecting",
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
    names.FIXED.form,
    "baselines.digital.system:DigitalSystem",
    tasks=RECONSTRUCTION,
    pattern=names.FIXED.pattern,
    examples=names.FIXED.examples,
    label="{codec}+LDPC+{order}QAM",
    colours=tuple(QAM_COLOURS.items()),
)
register(
    names.LABELLED.form,
    "baselines.digital.system:DigitalSegmentation",
    tasks=SEGMENTATION,
    pattern=names.LABELLED.pattern,
    examples=names.LABELLED.examples,
    label="{codec}+LDPC+{order}QAM+FCN",
    colours=tuple((f"{name}-fcn", colour) for name, colour in QAM_COLOURS.items()),
)
register(
    names.ADAPTIVE.form,
    "baselines.digital.system:AdaptiveDigital",
    tasks=RECONSTRUCTION,
    pattern=names.ADAPTIVE.pattern,
    examples=names.ADAPTIVE.examples,
    label="{codec}+LDPC, adaptive",
    colours=(("jpeg-ldpc-adaptive", BROWN),),
)
register(
    names.BOUND.form,
    "baselines.bounds:CapacityBound",
    tasks=RECONSTRUCTION,
    pattern=names.BOUND.pattern,
    examples=names.BOUND.examples,
    label="{codec} at capacity (bound)",
    colours=(("jpeg-capacity", BLACK),),
)
